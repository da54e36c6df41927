"""Commands on picture sets."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from training.cli.console import SeedOption, console, progress_bars
from training.errors import FoveaError
from training.quiet import import_tensorflow

LINES_OF_A_KIND = 10
"""So many files with the same thing wrong with them are named on the console."""

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


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of labelled pictures.")],
    report: Annotated[
        Path | None, typer.Option("--json", help="File for everything that was found; - for standard output.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG file for a contact sheet.")] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="The pictures are named by their text, as for the recipe captcha.")
    ] = False,
    seed: SeedOption = 0,
) -> None:
    """Say what a picture set holds and what is wrong with it; exit code 1 if it cannot be trained on."""
    from training.data.captchas import read_captcha_set
    from training.data.check import check_picture_set
    from training.data.pictures import read_picture_set

    read = read_captcha_set if texts else read_picture_set
    try:
        with progress_bars() as bars:
            found = check_picture_set(folder, seed, lambda done, total: bars("read pictures", done, total), read)
    except FoveaError as error:
        _write_json(report, {"trainable": False, "folder": str(folder), "reason": str(error)})
        raise
    for line in found.summary():
        console.print(line, soft_wrap=True, markup=False)
    _warn(found.warnings(LINES_OF_A_KIND))
    _write_json(report, found.as_json())
    if sheet is not None:
        from training.data.contact_sheet import draw_contact_sheet

        sheet.parent.mkdir(parents=True, exist_ok=True)
        draw_contact_sheet(found).save(sheet, "PNG")


def _write_json(file: Path | None, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    if file == Path("-"):
        sys.stdout.write(text)
    elif file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, style="yellow", soft_wrap=True, markup=False)


@app.command()
def subset(
    source: Annotated[Path, typer.Argument(help="Class folders, or a flat folder of CLASS.0.jpg, CLASS.1.jpg.")],
    target: Annotated[Path, typer.Argument(help="New or empty folder to write.")],
    train: Annotated[int, typer.Option(min=1, help="Training pictures per class.")] = 1000,
    validation: Annotated[int, typer.Option(min=1, help="Validation pictures per class.")] = 500,
    test: Annotated[int, typer.Option(min=0, help="Test pictures per class.")] = 500,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Choose by the seed; by the numbers in the names otherwise.")
    ] = False,
    seed: SeedOption = 0,
) -> None:
    """Copy a small split out of a large unsplit folder."""
    from training.data.subset import make_subset

    counts = {"train": train, "validation": validation, "test": test}
    with progress_bars() as bars:
        made = make_subset(
            source, target, counts, seed if shuffle else None, lambda done, total: bars("copy", done, total)
        )
    if made.unreadable:
        _warn([f"unreadable pictures passed over: {len(made.unreadable)}"])
    if made.duplicates:
        _warn([f"copies of other pictures passed over: {len(made.duplicates)}"])
    told = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    console.print(f"written: {target} with {told} per class", soft_wrap=True, markup=False)


@app.command()
def fetch(
    name: Annotated[Literal["cats-vs-dogs"], typer.Argument(help="Name of the archive.")],
    target: Annotated[Path, typer.Argument(help="New or empty folder to write.")],
    url: Annotated[str | None, typer.Option(help="Address of a mirror; the archive's own by default.")] = None,
    archive: Annotated[
        Path | None, typer.Option(help="The archive as a file on this machine, instead of a download.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 that the archive must have; the known one for its own address.")
    ] = None,
) -> None:
    """Download a public picture archive and unpack it into class folders; goes on with a broken download."""
    from training.data.fetch import ARCHIVES, fetch, read_record

    if url is not None and archive is not None:
        raise FoveaError("--url and --archive exclude each other: name one place that the archive comes from")
    if read_record(target):
        console.print(f"{target} is there already", soft_wrap=True, markup=False)
        return
    with progress_bars() as bars:
        fetched = fetch(name, target, url, sha256, archive, bars)
    if sha256 is None and fetched.sha256 != ARCHIVES[name].sha256:
        _warn([f"not the archive that is known by its SHA-256; this one has {fetched.sha256}"])
    if fetched.left_out:
        _warn([f"broken pictures left out: {len(fetched.left_out)}"])
    counts = ", ".join(f"{count} {label}" for label, count in fetched.pictures.items())
    console.print(f"written: {target} with {counts}", soft_wrap=True, markup=False)


@app.command()
def digits(
    folder: Annotated[Path, typer.Argument(help="New or empty folder to write.")],
    source: Annotated[
        Literal["digits", "mnist", "fashion_mnist"],
        typer.Option(help="scikit-learn's digits, which need no internet, or a set that Keras downloads."),
    ] = "digits",
    seed: SeedOption = 0,
) -> None:
    """Write a set of grey pictures of 28x28 pixels in ten classes, to compare a dense net with a convolutional one."""
    import_tensorflow()
    from training.data.digits import write_digits

    with progress_bars() as bars:
        write_digits(folder, source, seed, progress=lambda done, total: bars("write", done, total))


@app.command()
def captchas(
    folder: Annotated[Path, typer.Argument(help="New or empty folder to write.")],
    train: Annotated[int, typer.Option(min=1, help="Training pictures.")] = 20_000,
    validation: Annotated[int, typer.Option(min=1, help="Validation pictures.")] = 2_000,
    test: Annotated[int, typer.Option(min=0, help="Test pictures.")] = 2_000,
    length: Annotated[int, typer.Option(min=1, help="Characters of a text.")] = 4,
    alphabet: Annotated[str, typer.Option(help="Letters and digits that texts are made of.")] = "0123456789",
    seed: SeedOption = 0,
) -> None:
    """Write pictures of distorted texts, named by their text, for the recipe captcha."""
    from training.data.captchas import make_captchas

    counts = {"train": train, "validation": validation, "test": test}
    with progress_bars() as bars:
        make_captchas(folder, counts, length, alphabet, seed, lambda done, total: bars("write", done, total))
