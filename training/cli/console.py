"""What the commands share: the console, progress bars, options, and how they open things."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.quiet import import_tensorflow

if TYPE_CHECKING:
    from training.data.pictures import PictureSet
    from training.store import Store

console = Console(stderr=True, highlight=False)

DataOption = Annotated[Path, typer.Option("--data", help="Folder of labelled pictures.")]
StoreOption = Annotated[str, typer.Option("--store", help="Model store: a folder or a bucket's address.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]


@contextmanager
def progress_bars() -> Iterator:
    """Show one bar for each thing that is reported; give the function to report with."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, int] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)  # type: ignore[arg-type]

        yield report


def read_pictures(data: Path, seed: int, read: "Callable[..., PictureSet] | None" = None) -> "PictureSet":
    """Read a picture set; tell what is wrong with its files and how many there are.

    Args:
        data: the folder.
        seed: splits an unsplit folder.
        read: how a recipe reads its pictures; as class folders by default.
    """
    from training.data.pictures import read_picture_set

    with progress_bars() as bars:
        pictures = (read or read_picture_set)(
            data, seed, progress=lambda done, total: bars("read pictures", done, total)
        )
    for sentence in pictures.findings.sentences():
        console.print(sentence, style="yellow", soft_wrap=True, markup=False)
    for split in pictures.splits:
        if pictures.positions is not None:
            alphabet = "".join(pictures.class_names)
            console.print(f"{split}: {len(pictures.splits[split])} texts of {pictures.positions} from {alphabet}")
            continue
        counts = ", ".join(f"{count} {label}" for label, count in pictures.images_per_class(split).items())
        console.print(f"{split}: {counts}")
    return pictures


def open_store(store: str) -> "Store":
    """Open a model store."""
    import_tensorflow()
    from training.store import Store

    return Store(store)
