"""Commands on the model store: list models, move labels."""

from typing import TYPE_CHECKING, Annotated

import typer

from training.cli.console import StoreOption, open_store
from training.errors import FoveaError

if TYPE_CHECKING:
    from training.store import Store

ModelArgument = Annotated[str, typer.Argument(help="Name of the model in the store.")]
ServerOption = Annotated[
    str | None, typer.Option(help="gRPC address of a model server; wait until it has loaded the version.")
]


def models(store: StoreOption) -> None:
    """List models, versions and labels of a store."""
    opened = open_store(store)
    for model in opened.models():
        labels = ", ".join(f"{label}: {version}" for label, version in sorted(opened.labels(model).items()))
        typer.echo(f"{model}  versions {', '.join(map(str, opened.versions(model)))}  {labels}")


def promote(
    model: ModelArgument,
    store: StoreOption,
    version: Annotated[int | None, typer.Option(help="The canary, else the newest, by default.")] = None,
    server: ServerOption = None,
) -> None:
    """Make a loaded version the stable one."""
    opened = open_store(store)
    chosen = version or opened.candidate(model)
    _load(opened, model, chosen, server)
    typer.echo(f"{model}: version {opened.promote(model, chosen)} is stable")


def canary(
    model: ModelArgument,
    store: StoreOption,
    version: Annotated[int | None, typer.Option(help="The newest by default.")] = None,
    server: ServerOption = None,
) -> None:
    """Put the label `canary` on a loaded version."""
    opened = open_store(store)
    chosen = version or max(opened.versions(model), default=0)
    _load(opened, model, chosen, server)
    opened.set_label(model, "canary", chosen)
    typer.echo(f"{model}: version {chosen} is the canary")


def rollback(model: ModelArgument, store: StoreOption) -> None:
    """Undo the last promotion of a model."""
    typer.echo(f"{model}: version {open_store(store).rollback(model)} is stable again")


def _load(store: "Store", model: str, version: int, server: str | None) -> None:
    """See to it that the model server has loaded a version before a label moves to it."""
    listed = store.list_version(model, version)
    if server is not None:
        from training.rollout import wait_until_loaded

        wait_until_loaded(server, model, version)
    elif not listed:
        raise FoveaError(
            f"version {version} of {model!r} was not served and is listed now; repeat this when the model server has "
            "loaded it, or name the server with --server to wait for it"
        )
