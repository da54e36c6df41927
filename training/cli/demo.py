"""The command that shows the whole line."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from training.cli.console import console, read_pictures
from training.cli.data import make
from training.cli.train import run_recipe


def demo(
    data: Annotated[Path | None, typer.Option(help="Folder of class folders; drawn pictures by default.")] = None,
    folder: Annotated[Path, typer.Option(help="Where pictures, runs and models go.")] = Path("demo"),
    http_port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535)] = 8081,
    model_server_port: Annotated[int, typer.Option(min=1, max=65535)] = 8500,
) -> None:
    """Train three classifiers and serve them with a page, until Ctrl-C."""
    from training import demo as line

    ports = line.Ports(http_port, grpc_port, model_server_port)
    ports.check()
    place = line.workspace(folder, data)
    line.check_disk(place)
    if data is None:
        data = place / "pictures"
        if not (data / "set.json").exists():
            shutil.rmtree(data, ignore_errors=True)
            console.print(f"Drawing pictures into {data}")
            make(data)
    pictures = read_pictures(data, seed=0)
    for recipe in line.RECIPES:
        run_recipe(line.options(recipe, pictures), pictures, place / "runs" / recipe, str(place / "store"), resume=True)
    picture = next(iter(pictures.splits["validation"])).path
    line.serve(place, ports, picture, typer.echo)
