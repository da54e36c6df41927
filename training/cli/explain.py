"""Commands that explain a model's answers and judge its explanations."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.console import DataOption, SeedOption, console, progress_bars, read_pictures
from training.errors import FoveaError
from training.quiet import import_tensorflow

ModelOption = Annotated[
    Path, typer.Option("--model", help="Folder of a published model, <store>/<model>, or of one version of it.")
]


def explain(
    picture: Annotated[Path, typer.Argument(help="A picture.", exists=True, dir_okay=False)],
    model: ModelOption,
    output: Annotated[Path | None, typer.Option(help="Folder to write; <picture>-explained by default.")] = None,
    target_class: Annotated[
        list[str] | None, typer.Option("--class", help="Class to explain, by name or index; repeat for more.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Explain so many of the most probable classes.")] = None,
    position: Annotated[int | None, typer.Option(min=0, help="Character of a text to explain.")] = None,
    layer: Annotated[str | None, typer.Option(help="Convolution of the heat maps; the last by default.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Method of the heat maps; all by default.")] = None,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Strength of the overlays.")] = 0.5,
    colormap: Annotated[str, typer.Option(help="Colour map of overlays and grids.")] = "inferno",
    filters: Annotated[bool, typer.Option("--filters", help="Also draw what filters respond to (slow).")] = False,
) -> None:
    """Draw what a model looked at: heat maps, attributions, activations; with no server."""
    import_tensorflow()
    from serving import offline
    from training.explanations.drawing import explain as draw

    folder = output or picture.with_name(f"{picture.stem}-explained")
    try:
        vision, ref = offline.open_model(model)
        asked = offline.Targets(target_class or (), top_k, position)
        with progress_bars() as bars:
            answer = draw(vision, ref, picture, folder, asked, layer, method or (), alpha, colormap, filters, bars)
    except offline.FoveaError as error:
        raise FoveaError(str(error)) from error
    found = answer["classification"]
    console.print(f"{found['label']}: {found['score']:.3f}", markup=False)
    console.print(f"written: {folder}", soft_wrap=True, markup=False)


def evaluate_explanations(
    data: DataOption,
    model: ModelOption,
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("explanations"),
    split: Annotated[str, typer.Option(help="Whose pictures to take: train, validation or test.")] = "validation",
    pictures: Annotated[int, typer.Option(min=2, help="Take so many pictures at most, spread over the split.")] = 100,
    layer: Annotated[
        list[str] | None, typer.Option(help="Convolution to explain; repeat; the last by default.")
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Judge a model's explanations on labelled pictures, against maps that know nothing of the model."""
    import_tensorflow()
    from training.explanations.evaluation import evaluate
    from training.explanations.exported import ExportedModel
    from training.reports.explanations import write_evaluation

    found = read_pictures(data, seed)
    with ExportedModel(model) as exported, progress_bars() as bars:
        evaluation = evaluate(exported, found, split, pictures, layer or (), seed, bars)
    write_evaluation(evaluation, output)
    for sentence in evaluation.sentences():
        console.print(sentence, soft_wrap=True, markup=False)
    console.print(f"written: {output}", soft_wrap=True, markup=False)
