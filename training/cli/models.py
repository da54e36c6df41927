"""Commands on the model store: list models, move labels, check the whole of it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.cli.console import StoreOption, open_store
from training.errors import FoveaError
from training.quiet import import_tensorflow

if TYPE_CHECKING:
    from training.store import Store

ModelArgument = Annotated[str, typer.Argument(help="Name of the model in the store.")]
ServerOption = Annotated[
    str | None, typer.Option(help="gRPC address of a model server; wait until it has loaded the version.")
]

app = typer.Typer(help="Look after a model store.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look after a model store."""


@app.command()
def check(
    store: Annotated[str, typer.Argument(help="Model store: a folder or a bucket's address.")],
    mounted_at: Annotated[
        str | None, typer.Option(help="Path under which the model server sees the store; the same by default.")
    ] = None,
    batching: Annotated[Path | None, typer.Option(help="A batching parameters file to check with it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Find what would break a model server; exit code 1 if there is something."""
    import_tensorflow()
    from training.store_check import check_store

    found = check_store(store, mounted_at, None if batching is None else str(batching))
    healthy = not any(finding.breaks for finding in found)
    if as_json:
        typer.echo(json.dumps({"healthy": healthy, "findings": [asdict(finding) for finding in found]}, indent=2))
    else:
        for finding in found:
            typer.echo(f"{'error' if finding.breaks else 'note'}: {finding.sentence}")
        typer.echo(f"{store}: {'nothing here would break a model server' if healthy else 'a model server would break'}")
    if not healthy:
        raise typer.Exit(1)


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
    drop: Annotated[bool, typer.Option("--drop", help="Give the canary up: take the label off.")] = False,
) -> None:
    """Put the label `canary` on a loaded version, or take it off."""
    opened = open_store(store)
    if drop:
        current = opened.labels(model).get("canary")
        if current is None or version not in (None, current):
            raise FoveaError(
                f"version {version} of {model!r} is not the canary" if version else f"{model!r} has no canary"
            )
        opened.drop_canary(model, current)
        typer.echo(f"{model}: version {current} is no canary any more")
        return
    chosen = version or max(opened.versions(model), default=0)
    _load(opened, model, chosen, server)
    opened.set_label(model, "canary", chosen)
    typer.echo(f"{model}: version {chosen} is the canary")


def rollback(model: ModelArgument, store: StoreOption, server: ServerOption = None) -> None:
    """Undo the last promotion of a model."""
    opened = open_store(store)
    if server is not None and (target := opened.rollback_target(model)) is not None:
        _wait(model, target, server)
    typer.echo(f"{model}: version {opened.rollback(model)} is stable again")


def _load(store: "Store", model: str, version: int, server: str | None) -> None:
    """See to it that the model server has loaded a version before a label moves to it."""
    listed = store.list_version(model, version)
    if server is not None:
        _wait(model, version, server)
    elif not listed:
        raise FoveaError(
            f"version {version} of {model!r} was not served and is listed now; repeat this when the model server has "
            "loaded it, or name the server with --server to wait for it"
        )


def _wait(model: str, version: int, server: str) -> None:
    from training.served import ServedModel

    with ServedModel(server, model) as served:
        served.wait_until_loaded(version)
