"""Commands on picture sets."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.console import SeedOption, progress_bars
from training.errors import FoveaError

app = typer.Typer(help="Make, check and fetch picture sets.", no_args_is_help=True)


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="New or empty folder to write.")],
    species: Annotated[
        list[str] | None, typer.Option(help="An animal; repeat for more; cat and dog by default.")
    ] = None,
    train: Annotated[int, typer.Option(min=1, help="Training pictures per class.")] = 200,
    validation: Annotated[int, typer.Option(min=1, help="Validation pictures per class.")] = 100,
    test: Annotated[int, typer.Option(min=0, help="Test pictures per class.")] = 100,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Mean side of the pictures, in pixels.")] = 160,
    seed: SeedOption = 0,
) -> None:
    """Draw a picture set: animals on cluttered backgrounds, with their masks."""
    from training.drawing.make import make_picture_set

    counts = {"train": train, "validation": validation} | ({"test": test} if test else {})
    try:
        with progress_bars() as bars:
            make_picture_set(
                folder,
                species or ("cat", "dog"),
                counts,
                size,
                seed,
                progress=lambda done, total: bars("draw", done, total),
            )
    except ValueError as error:
        raise FoveaError(str(error)) from error
