"""Explanations of the tiny model: drawn for one picture, and judged on pictures whose objects are known."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from training.cli import app
from training.errors import FoveaError

HEIGHT, WIDTH = 24, 32


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    from tests import tiny_models

    store = tmp_path_factory.mktemp("store")
    tiny_models.export(store / "tiny" / "1", tiny_models.card("tiny"))
    old = tiny_models.card("old")
    old.contract_version, old.integrated_gradients = 1, False
    for layer in old.layers:
        layer.cam_methods = False
    tiny_models.export(store / "old" / "1", old)
    return store


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Grey pictures with one red or blue block each, and masks of the blocks."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for split in ("train", "validation"):
        for channel, label in ((0, "red"), (2, "blue")):
            for number in range(6):
                row, column = 4 * random.integers(5), 4 * random.integers(7)
                pixels = random.integers(0, 60, (HEIGHT, WIDTH, 1), np.uint8).repeat(3, axis=2)
                mask = np.zeros((HEIGHT, WIDTH), np.uint8)
                pixels[row : row + 8, column : column + 8, channel] = 255
                mask[row : row + 8, column : column + 8] = 255
                for folder, array in ((root, pixels), (root / "masks", mask)):
                    place = folder / split / label / f"{label}.{number}.png"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(place)
    return root


@pytest.fixture(scope="module")
def evaluation(store, pictures):
    from training.data.pictures import read_picture_set
    from training.explanations.evaluation import evaluate
    from training.explanations.exported import ExportedModel

    with ExportedModel(store / "tiny") as model:
        return evaluate(model, read_picture_set(pictures), most=8, layers=["block/conv", "identity"], seed=1)


def _scores(evaluation, title):
    return next(scores for scores in evaluation.scores if scores.title == title)


def test_what_is_judged(evaluation):
    assert [scores.title for scores in evaluation.scores if not scores.is_control] == [
        *(f"{method} at block/conv" for method in ("grad_cam", "hires_cam", "grad_cam_pp", "layer_cam")),
        *(f"{method} at identity" for method in ("grad_cam", "hires_cam", "grad_cam_pp", "layer_cam")),
        "integrated_gradients",
    ]
    assert [scores.title for scores in evaluation.scores if scores.is_control] == ["random", "centre", "edges"]
    assert len(evaluation.files) == 8
    assert evaluation.accuracy == 1
    assert evaluation.object_share == pytest.approx(64 / (HEIGHT * WIDTH))


def test_a_map_of_the_colour_lies_on_the_block_and_beats_the_controls(evaluation):
    found = _scores(evaluation, "hires_cam at block/conv")
    assert found.pointing.all()
    assert found.energy.min() > 0.3
    verdicts = {(item.measure, item.control): item.verdict for item in evaluation.comparisons(found)}
    for control in ("random", "centre", "edges"):
        assert verdicts["insertion", control] == verdicts["energy", control] == "wins"


def test_shuffled_weights_change_the_maps(evaluation):
    # A 4x4 kernel with its values in another order is another detector.
    assert evaluation.shuffled["hires_cam at block/conv"].mean < 0.9


def test_the_same_seed_gives_the_same_figures(evaluation, store, pictures):
    from training.data.pictures import read_picture_set
    from training.explanations.evaluation import evaluate
    from training.explanations.exported import ExportedModel
    from training.reports.explanations import as_json

    with ExportedModel(store / "tiny" / "1") as model:
        again = evaluate(model, read_picture_set(pictures), most=8, layers=["block/conv", "identity"], seed=1)
    assert as_json(again) == as_json(evaluation)


def test_the_command_writes_table_figures_and_page(store, pictures, tmp_path, capfd):
    arguments = ["evaluate-explanations", "--data", str(pictures), "--model", str(store / "old"), "--pictures", "4"]
    app([*arguments, "--output", str(tmp_path / "out")], standalone_mode=False)
    figures = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert [item["map"] for item in figures["maps"]] == ["grad_cam", "random", "centre", "edges"]
    assert set(figures["maps"][0]["measures"]) == {"insertion", "deletion", "pointing", "energy"}
    with (tmp_path / "out" / "explanations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4
    mean = np.mean([float(row["energy"]) for row in rows if row["map"] == "grad_cam"])
    assert mean == pytest.approx(figures["maps"][0]["measures"]["energy"]["mean"], rel=1e-4)
    page = (tmp_path / "out" / "explanations.html").read_text()
    assert page.count("data:image/jpeg") == 4 * (1 + 4)
    assert 'src="http' not in page
    assert "grad_cam at block/conv: insertion" in capfd.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"split": "test"}, "has no test pictures; it has train, validation"),
        ({"layers": ["pool"]}, "no convolution 'pool'; its convolutions are identity, block/conv"),
    ],
)
def test_what_does_not_fit_is_refused(store, pictures, changes, sentence):
    from training.data.pictures import read_picture_set
    from training.explanations.evaluation import evaluate
    from training.explanations.exported import ExportedModel

    with ExportedModel(store / "tiny") as model, pytest.raises(FoveaError, match=sentence):
        evaluate(model, read_picture_set(pictures), **changes)


def test_a_folder_without_a_model_is_refused(tmp_path):
    from training.explanations.exported import ExportedModel

    with pytest.raises(FoveaError, match="holds no SavedModel; give <store>/<model>"):
        ExportedModel(tmp_path)


def _explain(*arguments):
    app(["explain", *map(str, arguments)], standalone_mode=False)


def test_one_picture_explained_without_a_server(store, pictures, tmp_path):
    picture = pictures / "validation" / "red" / "red.0.png"
    _explain(picture, "--model", store / "tiny", "--output", tmp_path / "out", "--top-k", 2, "--filters")
    answer = json.loads((tmp_path / "out" / "answer.json").read_text())
    assert answer["classification"]["label"] == "red"
    found = [(row["label"], row["method"]) for row in answer["explanations"]]
    methods = ("grad_cam", "hires_cam", "grad_cam_pp", "layer_cam")
    assert found == [(label, method) for label in ("red", "blue") for method in methods] + [
        ("red", "integrated_gradients"), ("blue", "integrated_gradients"),
    ]  # fmt: skip
    assert [layer["layer"] for layer in answer["layers"]] == ["identity", "block/conv", "pool"]
    assert Image.open(tmp_path / "out" / "heat-maps.png").width == 8 * 160 + 7 * 8
    assert Image.open(tmp_path / "out" / "attributions.png").width == 2 * 160 + 8
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").glob("*/*")) == [
        "activations/01-identity.png",
        "activations/02-block.conv.png",
        "activations/03-pool.png",
        "filters/01-block.conv.png",
    ]


def test_an_older_model_gives_what_it_carries(store, pictures, tmp_path):
    picture = pictures / "validation" / "blue" / "blue.1.png"
    _explain(picture, "--model", store / "old" / "1", "--output", tmp_path / "out")
    answer = json.loads((tmp_path / "out" / "answer.json").read_text())
    assert [row["method"] for row in answer["explanations"]] == ["grad_cam"]
    assert not (tmp_path / "out" / "attributions.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--class", "dog"], "no class 'dog'; its classes are red, blue"),
        (["--layer", "pool"], "no layer 'pool' with heat maps; such layers are identity, block/conv"),
        (["--method", "cam"], "methods are grad_cam, hires_cam, grad_cam_pp, layer_cam"),
        (["--colormap", "nope"], "no colour map 'nope'"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(store, pictures, tmp_path, arguments, sentence):
    picture = pictures / "validation" / "red" / "red.0.png"
    with pytest.raises(FoveaError, match=sentence):
        _explain(picture, "--model", store / "tiny", "--output", tmp_path / "out", *arguments)
