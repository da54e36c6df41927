"""The picture set as it lies on disk."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from training.drawing import make_picture_set
from training.drawing.make import FEW

TWO = ("cat", "dog")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_pictures_and_masks_lie_in_parallel_folders(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    make_picture_set(
        tmp_path / "set", TWO, {"train": 2, "test": 1}, size=48, seed=3, progress=lambda *step: steps.append(step)
    )
    pictures = {f"{s}/{c}/{c}.{i:04d}" for s, n in (("train", 2), ("test", 1)) for c in TWO for i in range(1, n + 1)}
    files = {p.relative_to(tmp_path / "set").as_posix() for p in (tmp_path / "set").rglob("*.*")}
    assert files == {f"{p}.jpg" for p in pictures} | {f"masks/{p}.png" for p in pictures} | {"set.json"}
    for name in pictures:
        picture, mask = Image.open(tmp_path / f"set/{name}.jpg"), Image.open(tmp_path / f"set/masks/{name}.png")
        assert (picture.mode, mask.mode) == ("RGB", "L")
        assert picture.size == mask.size
    assert steps == [(i, 6) for i in range(1, 7)]
    assert json.loads((tmp_path / "set/set.json").read_text()) == {
        "generator_version": 1,
        "seed": 3,
        "size": 48,
        "species": ["cat", "dog"],
        "per_class": {"train": 2, "test": 1},
    }


def test_a_set_repeats_bit_for_bit_and_a_larger_one_begins_with_it(tmp_path: Path) -> None:
    """The larger set is drawn by worker processes, the smaller one in this process."""
    small, large = {"train": 2}, {"train": FEW // 2 + 1, "test": 1}
    make_picture_set(tmp_path / "a", TWO, small, size=32, seed=5)
    make_picture_set(tmp_path / "b", ("rabbit", "dog", "cat"), large, size=32, seed=5)
    make_picture_set(tmp_path / "c", TWO, small, size=32, seed=6)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    pictures = [name for name in a if name != "set.json"]
    assert len(pictures) == 8
    assert all(a[name] == b[name] for name in pictures)
    assert all(a[name] != c[name] for name in pictures if name.endswith(".jpg"))


def test_splits_and_classes_share_no_picture(tmp_path: Path) -> None:
    make_picture_set(tmp_path, TWO, {"train": 3, "validation": 3}, size=32)
    files = [data for name, data in contents(tmp_path).items() if name.endswith(".jpg")]
    assert len(set(files)) == len(files) == 12


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        make_picture_set(tmp_path, TWO, {"train": 1}, size=32)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize(
    ("species", "per_class", "size", "seed", "sentence"),
    [
        (("cat", "yeti"), {"train": 1}, 64, 0, "no species 'yeti'; the species that can be drawn are cat, dog, fish"),
        (("cat",), {"train": 1}, 64, 0, "two or more different species"),
        (("cat", "cat"), {"train": 1}, 64, 0, "two or more different species"),
        (TWO, {}, 64, 0, "at least one split"),
        (TWO, {"masks": 1}, 64, 0, "'masks' cannot be the name of a split"),
        (TWO, {"../out": 1}, 64, 0, "cannot be the name of a split"),
        (TWO, {"train": 0}, 64, 0, "split train has 0 pictures a class"),
        (TWO, {"train": 1}, 8, 0, "size of 8 pixels"),
        (TWO, {"train": 1}, 64, -1, "seed is -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(
    tmp_path: Path, species: tuple[str, ...], per_class: Mapping[str, int], size: int, seed: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_picture_set(tmp_path / "set", species, per_class, size, seed)
    assert not (tmp_path / "set").exists()
