"""What `fovea data check` finds."""

import json
import shutil
import sys
from subprocess import run

import numpy as np
import pytest
from PIL import Image

from training.data.check import NearDuplicate, check_picture_set
from training.data.contact_sheet import COLUMNS, draw_contact_sheet
from training.drawing.make import make_picture_set


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "set"
    make_picture_set(folder, per_class={"train": 4, "validation": 2, "test": 2}, size=100)
    return folder


@pytest.fixture
def pictures(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "set")


def check_command(*arguments):
    command = [sys.executable, "-c", "from training.cli import main; main()", "data", "check", *map(str, arguments)]
    return run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_clean_set_has_no_warnings(pictures):
    check = check_picture_set(pictures)
    assert check.warnings() == []
    assert check.imbalance == 1
    assert len(check.sizes) == 16
    assert check.summary()[:3] == ["train: 4 cat, 4 dog", "validation: 2 cat, 2 dog", "test: 2 cat, 2 dog"]


def test_near_duplicates_across_splits(pictures):
    def resave(source, target, size):
        Image.open(pictures / source).resize(size).save(pictures / target, quality=60)

    resave("train/cat/cat.0001.jpg", "validation/cat/copy.jpg", (70, 60))
    resave("train/cat/cat.0001.jpg", "train/cat/copy.jpg", (60, 60))
    resave("validation/dog/dog.0002.jpg", "test/cat/copy.jpg", (90, 100))
    found = {(str(n.first.relative_to(pictures)), str(n.second.relative_to(pictures))): n.distance
             for n in check_picture_set(pictures).near_duplicates}  # fmt: skip
    assert set(found) <= {
        ("train/cat/cat.0001.jpg", "validation/cat/copy.jpg"),
        ("train/cat/copy.jpg", "validation/cat/copy.jpg"),
        ("validation/dog/dog.0002.jpg", "test/cat/copy.jpg"),
    }
    assert {second for _, second in found} == {"validation/cat/copy.jpg", "test/cat/copy.jpg"}
    assert len(found) == 2
    assert max(found.values()) < 30


def test_equal_files_are_no_near_duplicates(pictures):
    shutil.copy(pictures / "train/cat/cat.0001.jpg", pictures / "validation/cat/again.jpg")
    check = check_picture_set(pictures)
    assert check.near_duplicates == []
    assert [line.partition(":")[0] for line in check.warnings()] == ["duplicate across splits"]


def test_sizes_are_those_of_upright_pictures(split_folders):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(7).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(noise).save(split_folders / "train" / "cat" / "turned.jpg", exif=exif)
    check = check_picture_set(split_folders)
    report = check.as_json()
    assert report["width"] == {"min": 20, "median": 20.0, "max": 40}
    assert report["height"] == {"min": 16, "median": 16.0, "max": 50}
    assert report["small"] == {"below": 32, "count": 10}
    assert "small: 10 pictures have a side below 32 pixels" in check.warnings()


def test_class_weights_are_advised_from_a_ratio_on(split_folders, save_picture):
    save_picture(split_folders / "train" / "cat" / "3.png", 50)
    assert not check_picture_set(split_folders).as_json()["imbalance"]["class_weights_advised"]
    save_picture(split_folders / "train" / "cat" / "4.png", 51)
    check = check_picture_set(split_folders)
    assert check.as_json()["imbalance"] == {"ratio": 1.667, "class_weights_advised": True}
    assert "unbalanced: 5 cat to 3 dog in train, 1.7 to 1; train with --class-weights" in check.warnings()


def test_splits_that_lack_something(pictures):
    shutil.rmtree(pictures / "validation")
    shutil.rmtree(pictures / "test" / "dog")
    assert check_picture_set(pictures).warnings() == [
        "test has no dog: its accuracy says nothing about that class",
        f"no validation folder beside {pictures / 'train'}: `fovea train` needs one",
    ]


def test_many_findings_of_one_kind_are_counted(split_folders):
    for number in range(6):
        (split_folders / "train" / "cat" / f"broken{number}.png").write_bytes(b"no picture")
    lines = [line for line in check_picture_set(split_folders).warnings(2) if "unreadable" in line]
    assert len(lines) == 3
    assert lines[2] == "unreadable, left out: and 4 more"


def test_contact_sheet_shows_every_class_and_the_pairs(pictures):
    check = check_picture_set(pictures)
    plain = draw_contact_sheet(check)
    first, second = check.pictures.splits["train"][0].path, check.pictures.splits["test"][0].path
    with_pairs = type(check)(check.pictures, check.sizes, [NearDuplicate(first, second, 9)])
    paired = draw_contact_sheet(with_pairs)
    row = plain.height // 6
    assert paired.width == plain.width
    assert paired.height > plain.height + 96
    place = plain.width // COLUMNS
    columns = np.asarray(plain)[:, : 4 * place].min(axis=(1, 2)) < 255
    assert all(columns[start : start + row].any() for start in range(0, plain.height - row, row))
    pair_row = np.asarray(paired)[plain.height + 20 : plain.height + 90]
    assert (pair_row[:, : 2 * place] < 255).any()
    assert (pair_row[:, 2 * place + 8 :] == 255).all()


class TestCommand:
    def test_a_set_with_findings(self, pictures, tmp_path):
        broken = pictures / "train" / "dog" / "dog.0001.jpg"
        broken.write_bytes(broken.read_bytes()[:500])
        report, sheet = tmp_path / "new" / "report.json", tmp_path / "sheets" / "sheet"
        done = check_command(pictures, "--json", report, "--sheet", sheet)
        assert done.returncode == 0
        assert "train: 4 cat, 3 dog" in done.stderr
        assert f"unreadable, left out: {broken}" in done.stderr
        found = json.loads(report.read_text())
        assert found["trainable"] is True
        assert found["counts"]["train"] == {"cat": 4, "dog": 3}
        assert list(found["unreadable"]) == ["train/dog/dog.0001.jpg"]
        with Image.open(sheet) as image:
            assert image.format == "PNG"

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda root: (root / "train" / "fish").mkdir(), "class 'fish' has no pictures in"),
            (lambda root: [shutil.rmtree(root / split / "dog") for split in ("train", "validation", "test")],
             "has only the class 'cat'"),
            (lambda root: (root / "train" / "dog").rename(root / "train" / "wolf"),
             "class 'dog' is in validation but not in train"),
        ],
        ids=["empty class folder", "one class", "class unknown to train"],
    )  # fmt: skip
    def test_a_set_that_cannot_be_trained_on(self, pictures, spoil, words):
        spoil(pictures)
        done = check_command(pictures, "--json", "-")
        assert done.returncode == 1
        sentence = done.stderr.strip().splitlines()[-1]
        assert sentence.startswith("fovea: ")
        assert words in sentence
        assert "Traceback" not in done.stderr
        report = json.loads(done.stdout)
        assert report["trainable"] is False
        assert words in report["reason"]


def test_pictures_named_by_their_text(tmp_path, save_picture):
    for number, name in enumerate(("train/01", "train/00_2", "train/00", "train/10", "validation/10_5")):
        save_picture(tmp_path / "set" / f"{name}.png", number, (60, 40))
    done = check_command(tmp_path / "set", "--texts", "--json", "-", "--sheet", tmp_path / "sheet.png")
    assert done.returncode == 0
    assert "train: 4 texts of 2 characters: 0 6 times, 1 2 times" in done.stderr
    assert json.loads(done.stdout)["warnings"] == [
        "unbalanced: 0 6 times to 1 2 times in train, 3.0 to 1",
        "validation has 1 pictures of texts that train has too: its accuracy is not that on unseen texts",
    ]
    assert not json.loads(done.stdout)["imbalance"]["class_weights_advised"]
    assert Image.open(tmp_path / "sheet.png").width == 1004
    hint = check_command(tmp_path / "set")
    assert hint.returncode == 1
    assert "no class folders in" in hint.stderr
    assert "`fovea data check --texts`" in hint.stderr
