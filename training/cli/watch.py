"""The command that trains whenever the pictures change."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from training.cli.console import DataOption, StoreOption, console
from training.errors import FoveaError


def watch(
    context: typer.Context,
    data: DataOption,
    store: StoreOption,
    recipe: Annotated[str, typer.Option(help="Name of the recipe; `fovea recipes` lists them.")] = "scratch",
    name: Annotated[str | None, typer.Option(help="Name of the model in the store; the recipe's by default.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder for the runs; what is published is known by it.")] = Path("runs"),
    interval: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks; so long no file may have changed.")
    ] = 30,
    once: Annotated[bool, typer.Option("--once", help="End after the first training, or if none is needed.")] = False,
) -> None:
    """Train and publish whenever the pictures have changed; further options go to `fovea train`."""
    from training.watch import train_command
    from training.watch import watch as watch_folder

    for argument in context.args:
        if argument.split("=")[0] in ("--run", "--resume"):
            raise FoveaError(
                f"{argument.split('=')[0]} is not for `fovea watch`, which names the runs itself, in --runs"
            )
    arguments = ["--recipe", recipe, "--name", name or recipe, *context.args]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    code = watch_folder(
        data,
        runs,
        name or recipe,
        (store, *arguments),
        train_command(data, store, arguments, stop),
        interval,
        stop,
        once,
        say=lambda line: console.print(line, soft_wrap=True, markup=False),
    )
    if once and code and not stop.is_set():
        raise typer.Exit(1)
