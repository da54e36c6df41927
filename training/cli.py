"""The command `fovea`."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.errors import FoveaError
from training.quiet import import_tensorflow

# Keras reads it when it is imported, which the commands below do only when they need it.
os.environ["KERAS_BACKEND"] = "tensorflow"

app = typer.Typer(help="Train, publish and roll out small-data picture classifiers.", no_args_is_help=True)
data_app = typer.Typer(help="Make picture sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
console = Console(stderr=True, highlight=False)

if TYPE_CHECKING:
    from training.pictures import PictureSet
    from training.store import Store

DataOption = Annotated[Path, typer.Option("--data", help="Folder of labelled pictures.")]
StoreOption = Annotated[str, typer.Option("--store", help="Model store: a folder or a bucket's address.")]
ModelArgument = Annotated[str, typer.Argument(help="Name of the model in the store.")]
ServerOption = Annotated[
    str | None, typer.Option(help="gRPC address of a model server; wait until it has loaded the version.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]


@app.command()
def train(
    data: DataOption,
    store: StoreOption,
    recipe: Annotated[str, typer.Option(help="dense, scratch, feature_extraction or fine_tuned.")] = "scratch",
    name: Annotated[str | None, typer.Option(help="Name of the model in the store; the recipe's by default.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder for the run; a new one under runs/ by default.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs; the recipe's number by default.")] = None,
    size: Annotated[int | None, typer.Option(min=32, max=1024, help="Height and width of the net's pictures.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    base_weights: Annotated[Path | None, typer.Option(help="Weights for the base, as `fovea pretrain` writes.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Train a classifier and publish it in the store."""
    import_tensorflow()
    from training.recipes import recipe as find_recipe

    find_recipe(recipe)
    folder = run or Path("runs") / f"{name or recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    _train(recipe, _read(data, seed), folder, store, name, epochs, size, batch_size, base_weights, seed)


def _read(data: Path, seed: int) -> "PictureSet":
    from training.pictures import read_picture_set

    with progress_bars() as bars:
        pictures = read_picture_set(data, seed, progress=lambda done, total: bars("read pictures", done, total))
    for sentence in pictures.findings.sentences():
        console.print(sentence, style="yellow", soft_wrap=True, markup=False)
    for split in pictures.splits:
        counts = ", ".join(f"{count} {label}" for label, count in pictures.images_per_class(split).items())
        console.print(f"{split}: {counts}")
    return pictures


def _train(
    recipe: str,
    pictures: "PictureSet",
    folder: Path,
    store: str,
    name: str | None = None,
    epochs: int | None = None,
    size: int | None = None,
    batch_size: int = 32,
    base_weights: Path | None = None,
    seed: int = 0,
) -> None:
    import_tensorflow()
    from training.bases import FOVEA_SMALL_WEIGHTS
    from training.options import TrainOptions
    from training.recipes import recipe as find_recipe
    from training.store import check_name
    from training.train import train as train_recipe

    defaults = find_recipe(recipe)
    options = TrainOptions(
        recipe=recipe,
        data=pictures.root,
        name=name or recipe,
        size=size or defaults.size,
        epochs=epochs or defaults.epochs,
        batch_size=batch_size,
        seed=seed,
        base_weights=base_weights or FOVEA_SMALL_WEIGHTS,
    )
    check_name(options.name)
    console.print(f"{recipe}: {defaults.description}", soft_wrap=True)
    with progress_bars() as bars:
        result = train_recipe(options, pictures, folder, _open(store), bars)
    for measure, value in result.summary.items():
        console.print(f"{measure.replace('_', ' ')}: {value:.3f}")
    console.print(f"run: {folder}\npublished: {options.name} version {result.version}")


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    store: StoreOption,
) -> None:
    """Publish the model of a finished run again, for example in another store."""
    opened = _open(store)
    from training.train import publish_run

    console.print(f"published: version {publish_run(run, opened)}")


@app.command()
def pretrain(
    data: DataOption,
    weights: Annotated[Path, typer.Option(help="File to write, *.weights.h5.")],
    epochs: Annotated[int, typer.Option(min=1)] = 24,
    size: Annotated[int, typer.Option(min=32)] = 32,
    precision: Annotated[str, typer.Option(help="float32, mixed_bfloat16 or mixed_float16.")] = "float32",
    log: Annotated[Path | None, typer.Option(help="CSV file for the history.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Train Fovea's own base on a large set of small pictures."""
    import_tensorflow()
    from training.pretrain import PretrainOptions
    from training.pretrain import pretrain as pretrain_base

    if not weights.name.endswith(".weights.h5"):
        raise FoveaError(f"{weights} must end in .weights.h5")
    pictures = _read(data, seed)
    options = PretrainOptions(epochs=epochs, size=size, seed=seed, precision=precision)
    console.print(f"accuracy on held-out pictures: {pretrain_base(pictures, weights, options, log):.4f}")


@app.command()
def models(store: StoreOption) -> None:
    """List models, versions and labels of a store."""
    opened = _open(store)
    for model in opened.models():
        labels = ", ".join(f"{label}: {version}" for label, version in sorted(opened.labels(model).items()))
        typer.echo(f"{model}  versions {', '.join(map(str, opened.versions(model)))}  {labels}")


@app.command()
def promote(
    model: ModelArgument,
    store: StoreOption,
    version: Annotated[int | None, typer.Option(help="The canary, else the newest, by default.")] = None,
    server: ServerOption = None,
) -> None:
    """Make a loaded version the stable one."""
    opened = _open(store)
    chosen = version or opened.candidate(model)
    _load(opened, model, chosen, server)
    typer.echo(f"{model}: version {opened.promote(model, chosen)} is stable")


@app.command()
def canary(
    model: ModelArgument,
    store: StoreOption,
    version: Annotated[int | None, typer.Option(help="The newest by default.")] = None,
    server: ServerOption = None,
) -> None:
    """Put the label `canary` on a loaded version."""
    opened = _open(store)
    chosen = version or max(opened.versions(model), default=0)
    _load(opened, model, chosen, server)
    opened.set_label(model, "canary", chosen)
    typer.echo(f"{model}: version {chosen} is the canary")


@app.command()
def rollback(model: ModelArgument, store: StoreOption) -> None:
    """Undo the last promotion of a model."""
    typer.echo(f"{model}: version {_open(store).rollback(model)} is stable again")


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


def _open(store: str) -> "Store":
    import_tensorflow()
    from training.store import Store

    return Store(store)


@data_app.command("make")
def data_make(
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
            data_make(data)
    pictures = _read(data, seed=0)
    for recipe in line.RECIPES:
        run = place / "runs" / recipe
        if (run / "published").exists():
            console.print(f"{recipe} is trained already ({run}); remove {place} to start afresh")
            continue
        shutil.rmtree(run, ignore_errors=True)
        size, epochs = line.settings(recipe, len(pictures.splits["train"]))
        _train(recipe, pictures, run, str(place / "store"), size=size, epochs=epochs)
        (run / "published").touch()
    picture = next(iter(pictures.splits["validation"])).path
    line.serve(place, ports, picture, typer.echo)


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


def main() -> None:
    """Run the command line; what a user can mend ends in one sentence and exit code 1."""
    try:
        app()
    except FoveaError as error:
        _end(str(error))
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _end(f"no space is left on the disk, writing {error.filename or 'a temporary file'}")
        if error.errno in (errno.EACCES, errno.EROFS, errno.EEXIST, errno.ENOTDIR) or isinstance(
            error, FileExistsError
        ):
            _end((error.strerror and f"{error.filename}: {error.strerror}") or str(error))
        raise


def _end(sentence: str, code: int = 1) -> None:
    console.print(f"fovea: {sentence}", style="red", soft_wrap=True, markup=False)
    sys.exit(code)
