"""Commands that train."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.cli.console import DataOption, SeedOption, StoreOption, console, open_store, progress_bars, read_pictures
from training.errors import FoveaError
from training.quiet import import_tensorflow

if TYPE_CHECKING:
    from training.data.pictures import PictureSet


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
    run_recipe(recipe, read_pictures(data, seed), folder, store, name, epochs, size, batch_size, base_weights, seed)


def run_recipe(
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
    """Train, publish, and say what came of it."""
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
        result = train_recipe(options, pictures, folder, open_store(store), bars)
    for measure, value in result.summary.items():
        console.print(f"{measure.replace('_', ' ')}: {value:.3f}")
    console.print(f"run: {folder}\npublished: {options.name} version {result.version}")


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
    pictures = read_pictures(data, seed)
    options = PretrainOptions(epochs=epochs, size=size, seed=seed, precision=precision)
    console.print(f"accuracy on held-out pictures: {pretrain_base(pictures, weights, options, log):.4f}")
