"""The command that puts runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.console import console, progress_bars
from training.errors import FoveaError
from training.quiet import import_tensorflow


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    output: Annotated[Path, typer.Option(help="The page to write.")] = Path("compare.html"),
) -> None:
    """Compare runs on one HTML page: table, curves, confusion matrices, sample heat maps."""
    from training.reports.records import read_run

    if not output.resolve().parent.is_dir():
        raise FoveaError(
            f"there is no folder {output.resolve().parent} for the page; make it, or choose another --output"
        )
    records = [read_run(folder) for folder in dict.fromkeys(runs)]
    import_tensorflow()
    from training.reports.page import write_page

    with progress_bars() as bars:
        sentences = write_page(records, output, bars)
    for sentence in sentences:
        console.print(sentence, soft_wrap=True, markup=False)
    console.print(f"page: {output}")
