"""Sets of small grey pictures."""

import subprocess

import keras
import numpy as np
import pytest
from PIL import Image

from training.data.digits import write_digits
from training.data.pictures import read_picture_set
from training.errors import FoveaError


def test_the_bundled_digits(tmp_path):
    write_digits(tmp_path / "digits")
    pictures = read_picture_set(tmp_path / "digits")
    assert pictures.class_names == tuple("0123456789")
    assert {split: len(group) for split, group in pictures.splits.items()} == {
        "train": 1078, "validation": 359, "test": 360,
    }  # fmt: skip
    assert not pictures.findings.cross_split_duplicates
    with Image.open(pictures.splits["train"][0].path) as picture:
        assert (picture.size, picture.mode) == ((28, 28), "L")


def test_a_downloaded_set(tmp_path, monkeypatch):
    """Keras takes the file from its cache, where a small one of the same form lies."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 200), ("test", 10)):
        arrays[f"x_{part}"] = generator.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count, dtype=np.uint8) % 10
    (tmp_path / "datasets").mkdir()
    np.savez(tmp_path / "datasets" / "mnist.npz", **arrays)
    real_get_file = keras.utils.get_file
    from keras.src.datasets import mnist

    monkeypatch.setattr(
        mnist, "get_file", lambda fname, origin, file_hash: real_get_file(fname, origin, cache_dir=str(tmp_path))
    )
    write_digits(tmp_path / "mnist", "mnist")
    pictures = read_picture_set(tmp_path / "mnist")
    assert {split: len(group) for split, group in pictures.splits.items()} == {
        "train": 180, "validation": 20, "test": 10,
    }  # fmt: skip


def test_no_internet_is_one_sentence(tmp_path, monkeypatch):
    from keras.src.datasets import mnist

    monkeypatch.setattr(
        mnist,
        "get_file",
        lambda fname, **_: keras.utils.get_file(fname, "http://127.0.0.1:9/mnist.npz", cache_dir=str(tmp_path)),
    )
    with pytest.raises(FoveaError, match=r"mnist cannot be downloaded: .*choose --source digits"):
        write_digits(tmp_path / "mnist", "mnist")
    assert not (tmp_path / "mnist").exists()


def test_the_command(tmp_path):
    import sys

    command = [sys.executable, "-c", "from training.cli import main; main()", "data", "digits", str(tmp_path)]
    (tmp_path / "something").write_text("")
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "not an empty folder" in refused.stderr
