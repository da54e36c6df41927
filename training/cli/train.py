"""Commands that train."""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from training.cli.console import DataOption, SeedOption, StoreOption, console, open_store, progress_bars, read_pictures
from training.errors import FoveaError
from training.quiet import import_tensorflow

if TYPE_CHECKING:
    from training.cluster import Cluster
    from training.data.pictures import PictureSet
    from training.monitoring import Monitoring
    from training.options import TrainOptions

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


def train(
    data: DataOption,
    store: StoreOption,
    recipe: Annotated[str, typer.Option(help="Name of the recipe; `fovea recipes` lists them.")] = "scratch",
    name: Annotated[str | None, typer.Option(help="Name of the model in the store; the recipe's by default.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder for the run; a new one under runs/ by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --run, if it exists.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs; the recipe's number by default.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Size of the net's pictures: 150, or 160x60 for width and height.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures a step; 32 by default.")] = None,
    base: Annotated[str | None, typer.Option(help="Pretrained base: fovea_small, vgg16, mobilenet_v2, ...")] = None,
    base_weights: Annotated[Path | None, typer.Option(help="File of the base's weights.")] = None,
    cached: Annotated[
        bool, typer.Option("--cached", help="Run the base once and keep its features on disk; no augmentation.")
    ] = False,
    unfreeze: Annotated[
        str | None,
        typer.Option(help="What fine-tuning adapts: layers by the beginning of their names, or the last N."),
    ] = None,
    from_run: Annotated[
        Path | None, typer.Option("--from", help="Run of feature_extraction that fine-tuning begins with.")
    ] = None,
    keep_best: Annotated[
        bool | None, typer.Option("--keep-best/--keep-last", help="Which epoch's weights a phase ends with.")
    ] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Stop after so many epochs without a better one.")] = None,
    class_weights: Annotated[
        bool, typer.Option("--class-weights", help="Weigh the classes of an unbalanced set against their numbers.")
    ] = False,
    precision: Annotated[Precision, typer.Option(help="Arithmetic; the mixed ones are for accelerators.")] = "float32",
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics here.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard logs into the run.")] = False,
    seed: SeedOption = 0,
) -> None:
    """Train a classifier and publish it in the store."""
    import_tensorflow()
    from training.cluster import Cluster
    from training.monitoring import Monitoring
    from training.recipes import recipe as find_recipe

    cluster = Cluster.from_environment()
    if cluster.size > 1 and run is None:
        raise FoveaError("with several workers the run needs a folder that all share: name it with --run")
    if resume and run is None:
        raise FoveaError("--resume needs the run's folder: name it with --run")
    chosen = find_recipe(recipe)
    height, width = _size(size) if size else (None, None)
    pictures = read_pictures(data, seed, chosen.read)
    options = chosen.options(
        data,
        name=name,
        height=height,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        base=base,
        base_weights=base_weights,
        cached=cached,
        unfreeze=unfreeze,
        from_run=from_run,
        keep_best=keep_best,
        patience=patience,
        class_weights=class_weights,
        precision=precision,
        seed=seed,
    )
    folder = run or Path("runs") / f"{options.name}-{datetime.now():%Y%m%d-%H%M%S}"
    monitoring = Monitoring(metrics_port, folder / "tensorboard" if tensorboard else None)
    run_recipe(options, pictures, folder, store, monitoring, resume, cluster)


def _size(text: str) -> tuple[int, int]:
    """Read 150 or 160x60 as height and width."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match:
        raise FoveaError(f"--size {text!r} is not a size; write 150, or 160x60 for width and height")
    width, height = int(match[1]), int(match[2] or match[1])
    if not all(16 <= side <= 1024 for side in (width, height)):
        raise FoveaError(f"--size {text!r} is out of range; each side may have 16 to 1024 pixels")
    return height, width


def run_recipe(
    options: "TrainOptions",
    pictures: "PictureSet",
    folder: Path,
    store: str,
    monitoring: "Monitoring | None" = None,
    resume: bool = False,
    cluster: "Cluster | None" = None,
) -> None:
    """Train, publish, and say what came of it."""
    import_tensorflow()
    from training.recipes import recipe as find_recipe
    from training.store import check_name
    from training.train import train as train_recipe

    check_name(options.name)
    console.print(f"{options.recipe}: {find_recipe(options.recipe).description}", soft_wrap=True)
    with progress_bars() as bars:
        result = train_recipe(options, pictures, folder, open_store(store), bars, monitoring, resume, cluster)
    if cluster is not None and not cluster.is_chief:
        console.print("this worker is done; the chief reports and publishes")
        return
    for measure, value in result.summary.items():
        console.print(f"{measure.replace('_', ' ')}: {value:.3f}")
    console.print(f"run: {folder}\npublished: {options.name} version {result.version}")


def recipes() -> None:
    """List the recipes."""
    import_tensorflow()
    from training.recipes import RECIPES

    for recipe in RECIPES.values():
        typer.echo(f"{recipe.name}: {recipe.description}")


def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    store: StoreOption,
) -> None:
    """Publish the model of a finished run again, for example in another store."""
    opened = open_store(store)
    from training.train import publish_run

    console.print(f"published: version {publish_run(run, opened)}")


def pretrain(
    data: DataOption,
    weights: Annotated[Path, typer.Option(help="File to write, *.weights.h5.")],
    epochs: Annotated[int, typer.Option(min=1)] = 32,
    size: Annotated[int, typer.Option(min=32)] = 32,
    precision: Annotated[Precision, typer.Option(help="Arithmetic; bfloat16 pays on CPUs that have it.")] = "float32",
    log: Annotated[Path | None, typer.Option(help="CSV file for the history.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Train Fovea's own base on a large set of small pictures."""
    import_tensorflow()
    from training.pretrain import PretrainOptions
    from training.pretrain import pretrain as pretrain_base

    if not weights.name.endswith(".weights.h5"):
        raise FoveaError(f"{weights} must end in .weights.h5")
    pictures = read_pictures(data, seed)
    options = PretrainOptions(epochs=epochs, size=size, seed=seed, precision=precision)
    console.print(f"accuracy on held-out pictures: {pretrain_base(pictures, weights, options, log):.4f}")
