"""Making a small split of a large folder."""

import shutil
import sys
from subprocess import run

import pytest

from training.data.pictures import read_picture_set
from training.data.subset import make_subset
from training.errors import FoveaError

FEW = {"train": 3, "validation": 2, "test": 1}


@pytest.fixture
def flat(tmp_path, save_picture):
    """Twelve cats and dogs as Kaggle's archive has them."""
    for number in range(12):
        save_picture(tmp_path / "flat" / f"cat.{number}.jpg", number)
        save_picture(tmp_path / "flat" / f"dog.{number}.jpg", 100 + number)
    return tmp_path / "flat"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def numbers(folder, split, label):
    return sorted(int(path.stem.rpartition(".")[2]) for path in (folder / split / label).iterdir())


def test_flat_folder_in_the_order_of_the_numbers(flat, tmp_path):
    calls = []
    subset = make_subset(flat, tmp_path / "small", FEW, progress=lambda done, total: calls.append((done, total)))
    for label in ("cat", "dog"):
        assert [numbers(tmp_path / "small", split, label) for split in FEW] == [[0, 1, 2], [3, 4], [5]]
    copied = tmp_path / "small" / "validation" / "dog" / "dog.4.jpg"
    assert copied.read_bytes() == (flat / "dog.4.jpg").read_bytes()
    assert copied.stat().st_nlink == 1
    assert (subset.unreadable, subset.duplicates) == ({}, [])
    assert calls[-1] == (12, 12)
    assert read_picture_set(tmp_path / "small").images_per_class("train") == {"cat": 3, "dog": 3}


def test_class_folders_keep_their_names(tmp_path, save_picture):
    for number in range(11):
        save_picture(tmp_path / "PetImages" / "Cat" / f"{number}.jpg", number)
        save_picture(tmp_path / "PetImages" / "Dog" / "more" / f"{number}.jpg", 100 + number)
    make_subset(tmp_path / "PetImages", tmp_path / "small", {"train": 2, "validation": 1, "test": 0})
    assert files(tmp_path / "small") == [
        "train/Cat/0.jpg",
        "train/Cat/1.jpg",
        "train/Dog/more/0.jpg",
        "train/Dog/more/1.jpg",
        "validation/Cat/2.jpg",
        "validation/Dog/more/2.jpg",
    ]


def test_shuffled_by_the_seed(flat, tmp_path):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        make_subset(flat, tmp_path / name, FEW, shuffle_seed=seed)
    assert files(tmp_path / "first") == files(tmp_path / "again") != files(tmp_path / "other")
    assert numbers(tmp_path / "first", "train", "cat") != [0, 1, 2]
    taken = [number for split in FEW for number in numbers(tmp_path / "first", split, "cat")]
    assert len(set(taken)) == 6


def test_broken_pictures_are_passed_over_and_told(flat, tmp_path):
    (flat / "cat.1.jpg").write_bytes(b"")
    (flat / "dog.11.jpg").write_bytes(b"never looked at")
    subset = make_subset(flat, tmp_path / "small", FEW)
    assert numbers(tmp_path / "small", "train", "cat") == [0, 2, 3]
    assert numbers(tmp_path / "small", "test", "cat") == [6]
    assert flat / "cat.1.jpg" in subset.unreadable


def test_equal_files_are_taken_once(flat, tmp_path):
    shutil.copy(flat / "cat.0.jpg", flat / "cat.3.jpg")
    shutil.copy(flat / "cat.5.jpg", flat / "dog.0.jpg")
    subset = make_subset(flat, tmp_path / "small", FEW)
    assert numbers(tmp_path / "small", "validation", "cat") == [4, 5]
    assert numbers(tmp_path / "small", "train", "dog") == [1, 2, 3]
    assert subset.duplicates == [(flat / "cat.0.jpg", flat / "cat.3.jpg"), (flat / "cat.5.jpg", flat / "dog.0.jpg")]
    findings = read_picture_set(tmp_path / "small").findings
    assert (findings.duplicates, findings.cross_split_duplicates) == ([], [])


def test_an_empty_target_is_filled(flat, tmp_path):
    (tmp_path / "small").mkdir()
    make_subset(flat, tmp_path / "small", FEW)
    assert len(files(tmp_path / "small")) == 12


class TestRefused:
    def refuse(self, source, target, *words, per_class=FEW):
        before = sorted(target.parent.iterdir())
        with pytest.raises(FoveaError) as caught:
            make_subset(source, target, per_class)
        for word in words:
            assert word in str(caught.value)
        assert sorted(target.parent.iterdir()) == before, "nothing stays"

    def test_target_with_something_in_it(self, flat, tmp_path):
        (tmp_path / "small").mkdir()
        (tmp_path / "small" / "kept").write_text("kept")
        self.refuse(flat, tmp_path / "small", "not an empty folder")
        assert files(tmp_path / "small") == ["kept"]

    def test_too_few_readable_pictures(self, flat, tmp_path):
        (flat / "dog.7.jpg").write_bytes(b"no picture")
        shutil.copy(flat / "dog.8.jpg", flat / "dog.9.jpg")
        self.refuse(
            flat,
            tmp_path / "small",
            "class 'dog' has 10 readable",
            "12 are wanted (8 train, 4 validation)",
            per_class={"train": 8, "validation": 4, "test": 0},
        )

    def test_split_source(self, split_folders, tmp_path):
        self.refuse(split_folders, tmp_path / "small", "split into train and others already")

    def test_one_class(self, tmp_path, save_picture):
        save_picture(tmp_path / "flat" / "cat.0.jpg")
        self.refuse(tmp_path / "flat", tmp_path / "small", "only the class 'cat'", "two classes")

    def test_no_pictures(self, tmp_path):
        (tmp_path / "flat").mkdir()
        self.refuse(tmp_path / "flat", tmp_path / "small", "no pictures", "CLASS.0.jpg")

    def test_no_folder(self, tmp_path):
        self.refuse(tmp_path / "nowhere", tmp_path / "small", "no folder", "nowhere")


def test_stopped_in_the_middle_leaves_nothing(flat, tmp_path):
    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_subset(flat, tmp_path / "small", FEW, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["flat"]


def test_command(flat, tmp_path):
    (flat / "cat.0.jpg").write_bytes(b"no picture")
    command = [sys.executable, "-c", "from training.cli import main; main()", "data", "subset", str(flat)]
    counts = ["--train", "3", "--validation", "2", "--test", "0"]
    done = run([*command, str(tmp_path / "small"), *counts], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "unreadable pictures passed over: 1" in done.stderr
    assert numbers(tmp_path / "small", "train", "cat") == [1, 2, 3]
    again = run([*command, str(tmp_path / "small"), *counts], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1
    assert "not an empty folder" in again.stderr
    assert "Traceback" not in again.stderr
