"""Sets of texts: made repeatably, read by file names."""

import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from training.cli import app
from training.data.captchas import make_captchas, read_captcha_set
from training.errors import FoveaError

COUNTS = {"train": 40, "validation": 6, "test": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captchas") / "set"
    make_captchas(folder, COUNTS, length=3, alphabet="a7X", seed=5)
    return folder


@pytest.fixture
def write(tmp_path):
    """A function that writes small pictures with these names, each of its own colour."""

    def write(*names):
        for number, name in enumerate(names):
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 3), (number, 0, 0)).save(path)
        return tmp_path / "set"

    return write


def _pixels(folder):
    return {path.relative_to(folder): np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


def test_the_same_seed_gives_the_same_pictures(folder, tmp_path):
    make_captchas(tmp_path / "again", COUNTS, length=3, alphabet="a7X", seed=5)
    first, again = _pixels(folder), _pixels(tmp_path / "again")
    assert list(first) == list(again)
    assert len(first) == 52
    for name, pixels in first.items():
        assert pixels.shape == (60, 160, 3)
        np.testing.assert_array_equal(pixels, again[name])
    make_captchas(tmp_path / "other", COUNTS, length=3, alphabet="a7X", seed=6)
    assert list(_pixels(tmp_path / "other")) != list(first)


def test_held_out_texts_are_in_no_other_split(folder):
    pictures = read_captcha_set(folder)
    texts = {split: [pictures.name(picture) for picture in group] for split, group in pictures.splits.items()}
    assert {split: len(group) for split, group in texts.items()} == COUNTS
    assert set(texts["train"]).isdisjoint(texts["validation"] + texts["test"])
    assert len(set(texts["validation"] + texts["test"])) == 12


def test_texts_are_shared_where_there_are_too_few(tmp_path):
    make_captchas(tmp_path / "set", {"train": 12, "validation": 4, "test": 0}, length=1, alphabet="01")
    pictures = read_captcha_set(tmp_path / "set")
    assert {split: len(group) for split, group in pictures.splits.items()} == {"train": 12, "validation": 4}
    assert pictures.positions == 1


def test_labels_are_the_indices_of_the_characters(write):
    pictures = read_captcha_set(write("train/b0.png", "train/0a_2.x.png", "train/0a.png", "val/ab.png"))
    assert pictures.class_names == ("0", "a", "b")
    assert pictures.positions == 2
    labels = pictures.labels("train")
    assert labels.dtype == np.int32
    assert sorted(labels.tolist()) == [[0, 1], [0, 1], [2, 0]]
    assert pictures.labels("validation").tolist() == [[1, 2]]
    assert pictures.images_per_class("train") == {"0": 3, "a": 2, "b": 1}


def test_the_fingerprint_tells_texts_apart(write, tmp_path):
    before = read_captcha_set(write("train/01.png", "train/10.png", "validation/11.png")).fingerprint
    shutil.move(tmp_path / "set/train/01.png", tmp_path / "set/train/00.png")
    assert read_captcha_set(tmp_path / "set").fingerprint != before


def test_an_unsplit_folder_is_split_by_texts(write):
    names = [f"{text:04b}{copy}.png" for text in range(10) for copy in ("", "_2")]
    pictures = read_captcha_set(write(*names, "0000_3.png"), seed=3)
    train, validation = ({pictures.name(p) for p in pictures.splits[split]} for split in ("train", "validation"))
    assert len(validation) == 2
    assert train.isdisjoint(validation)
    assert len(pictures.splits["train"]) + len(pictures.splits["validation"]) == 21


def test_a_damaged_picture_is_left_out(write, tmp_path):
    root = write("train/01.png", "train/10.png", "validation/11.png")
    (root / "train" / "00.png").write_bytes(b"no picture")
    pictures = read_captcha_set(root)
    assert len(pictures.splits["train"]) == 2
    assert [path.name for path in pictures.findings.unreadable] == ["00.png"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["train/01.png", "train/012.png", "validation/01.png"], r"01\.png and .*012\.png differ in length"),
        (["train/01.png", "validation/02.png"], r"'2' of .*02\.png is in validation but not in train, which has 01"),
        (["train/01.png", "train/_2.png"], r"_2\.png has no text before"),
        (["train/11.png", "validation/11_2.png"], "have only the character '1'"),
        (["train/01.png", "validation/01.txt.d/x"], "no readable pictures in .*validation"),
        (["01.png"], "pictures of 1 texts; expected train/0417.png"),
    ],
)
def test_sets_that_cannot_be_trained_on(write, names, sentence):
    root = write(*[name for name in names if name.endswith(".png")])
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(FoveaError, match=sentence):
        read_captcha_set(root)


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(FoveaError, match="there is no folder"):
        read_captcha_set(tmp_path / "absent")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"alphabet": "0"}, "is no alphabet"),
        ({"alphabet": "00"}, "is no alphabet"),
        ({"alphabet": "a_"}, "is no alphabet"),
        ({"length": 0}, "a text of 0 characters"),
    ],
)
def test_texts_that_cannot_be_made(tmp_path, arguments, sentence):
    with pytest.raises(FoveaError, match=sentence):
        make_captchas(tmp_path / "set", COUNTS, **arguments)
    assert not (tmp_path / "set").exists()


def test_the_command(tmp_path):
    arguments = ["data", "captchas", str(tmp_path / "set"), "--train", "3", "--validation", "2", "--test", "0"]
    answer = CliRunner().invoke(app, [*arguments, "--alphabet", "xyz"])
    assert answer.exit_code == 0, answer.output
    assert len(list((tmp_path / "set" / "train").iterdir())) == 3
    assert not (tmp_path / "set" / "test").exists()
