"""Commands that try a version on the model server against the stable one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.cli.console import DataOption, SeedOption, StoreOption, console, open_store, progress_bars, read_pictures
from training.cli.models import ModelArgument
from training.errors import FoveaError

if TYPE_CHECKING:
    from training.data.pictures import PictureSet
    from training.trial import Decision

TOLERANCE = 0.01

NOT_PROMOTED = 3
"""Exit code where the newest version is not the stable one at the end."""

ServerOption = Annotated[str, typer.Option(help="gRPC address of the model server that follows the store, host:port.")]
ToleranceOption = Annotated[
    float, typer.Option(min=0, max=1, help="Accuracy that the canary may lose, if not significantly.")
]


def compare_versions(
    model: ModelArgument,
    store: StoreOption,
    server: ServerOption,
    data: DataOption,
    version: Annotated[int | None, typer.Option(help="The canary, else the newest, by default.")] = None,
    tolerance: ToleranceOption = TOLERANCE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    seed: SeedOption = 0,
) -> None:
    """Compare a loaded version with the stable one on validation pictures; change nothing."""
    opened = open_store(store)
    from training.rollout import compare
    from training.served import ServedModel
    from training.store import STABLE
    from training.trial import decide

    candidate = opened.candidate(model) if version is None else version
    stable = opened.labels(model).get(STABLE)
    if candidate == stable:
        raise FoveaError(f"version {candidate} of {model!r} is the stable one; name another with --version")
    with ServedModel(server, model) as served, progress_bars() as bars:
        served.wait_until_loaded(candidate, timeout_s=0)
        trial = compare(served, _reader(data, seed), candidate, stable, bars)
    decision = decide(trial, tolerance)
    if as_json:
        typer.echo(json.dumps(trial.as_json() | {"promote": decision.promote, "why": decision.why}, indent=2))
        return
    for line in trial.lines():
        typer.echo(line)
    typer.echo(f"{model}: `fovea rollout` would {_deed(decision)}: {decision.why}")


def rollout(
    model: ModelArgument,
    store: StoreOption,
    server: ServerOption,
    data: DataOption,
    version: Annotated[
        int | None, typer.Option(help="The canary, else the newest unless it was rejected, by default.")
    ] = None,
    tolerance: ToleranceOption = TOLERANCE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the labels move by the decision.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare and decide, but change nothing.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the server to load, and to follow a label.")
    ] = 300,
    seed: SeedOption = 0,
) -> None:
    """Try the newest version as the canary against stable; promote it, or take the label off again."""
    if dry_run:
        compare_versions(model, store, server, data, version, tolerance, seed=seed)
        return
    opened = open_store(store)
    from training.rollout import rollout as roll_out

    def confirm(decision: "Decision") -> bool:
        return yes or typer.confirm(f"{decision.why}. Shall I {_deed(decision)}?", err=True)

    with progress_bars() as bars:
        outcome = roll_out(
            opened,
            model,
            server,
            _reader(data, seed),
            version,
            tolerance,
            confirm,
            say=lambda line: console.print(line, soft_wrap=True, markup=False),
            progress=bars,
            timeout_s=timeout,
        )
    typer.echo(f"{model}: version {outcome.version}: {outcome.state}: {outcome.why}")
    if outcome.state not in ("promoted", "nothing new"):
        raise typer.Exit(NOT_PROMOTED)


def _reader(data: Path, seed: int) -> "Callable[[str], PictureSet]":
    """Return a function that reads the pictures as a recipe does."""

    def read(recipe: str) -> "PictureSet":
        from training.recipes import RECIPES

        return read_pictures(data, seed, RECIPES[recipe].read if recipe in RECIPES else None)

    return read


def _deed(decision: "Decision") -> str:
    return "promote it" if decision.promote else "take the label canary off it"
