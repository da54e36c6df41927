"""Reading picture folders."""

import errno
import shutil
from pathlib import Path

import pytest
from PIL import Image

from training.data.pictures import read_picture_set
from training.errors import FoveaError


def names(pictures, split):
    return [(picture.path.name, picture.label) for picture in pictures.splits[split]]


def test_split_class_folders(split_folders):
    pictures = read_picture_set(split_folders)
    assert pictures.class_names == ("cat", "dog")
    assert names(pictures, "train") == [(f"{n}.png", label) for label in (0, 1) for n in range(3)]
    assert names(pictures, "validation") == [(f"{n}.png", label) for label in (0, 1) for n in range(2)]
    assert "test" not in pictures.splits
    assert pictures.images_per_class("train") == {"cat": 3, "dog": 3}
    assert pictures.labels("validation").tolist() == [0, 0, 1, 1]
    assert pictures.findings.sentences() == []


@pytest.mark.parametrize("folder", ["val", "valid", "Validation"])
def test_other_names_for_validation(split_folders, folder):
    (split_folders / "validation").rename(split_folders / folder)
    assert len(read_picture_set(split_folders).splits["validation"]) == 4


def test_masks_are_no_class(split_folders, save_picture):
    save_picture(split_folders / "masks" / "train" / "cat" / "0.png")
    assert read_picture_set(split_folders).class_names == ("cat", "dog")


def test_class_folders_are_split_by_the_seed_and_stratified(tmp_path, save_picture):
    for number in range(30):
        save_picture(tmp_path / ("cat" if number < 10 else "dog") / f"{number}.jpg", number)
    first, again, other = (read_picture_set(tmp_path, seed) for seed in (0, 0, 1))
    assert first.images_per_class("train") == {"cat": 8, "dog": 16}
    assert first.images_per_class("validation") == {"cat": 2, "dog": 4}
    assert names(first, "validation") == names(again, "validation")
    assert names(first, "validation") != names(other, "validation")


def test_flat_kaggle_folder(tmp_path, save_picture):
    for number in range(10):
        save_picture(tmp_path / f"cat.{number}.jpg", number)
        save_picture(tmp_path / f"dog.{number}.jpg", 100 + number)
    pictures = read_picture_set(tmp_path)
    assert pictures.class_names == ("cat", "dog")
    assert pictures.images_per_class("train") == {"cat": 8, "dog": 8}


def test_numbers_in_names_sort_as_numbers(split_folders, save_picture):
    save_picture(split_folders / "train" / "cat" / "10.png", 99)
    assert [name for name, _ in names(read_picture_set(split_folders), "train")][:4] == [
        "0.png",
        "1.png",
        "2.png",
        "10.png",
    ]


def test_unreadable_files_are_named_and_left_out(split_folders):
    broken = split_folders / "train" / "cat" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    text = split_folders / "validation" / "dog" / "1.png"
    text.write_text("not a picture")
    pictures = read_picture_set(split_folders)
    assert len(pictures.splits["train"]) == 5
    assert len(pictures.splits["validation"]) == 3
    sentences = pictures.findings.sentences()
    assert len(sentences) == 2
    assert any(str(broken) in sentence and "left out" in sentence for sentence in sentences)
    assert any(str(text) in sentence for sentence in sentences)


def test_file_that_cannot_be_read_is_left_out(split_folders, monkeypatch):
    locked = split_folders / "train" / "cat" / "0.png"
    read_bytes = Path.read_bytes

    def read(path):
        # A superuser's tests cannot take their own permission to read away.
        if path == locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    pictures = read_picture_set(split_folders)
    assert pictures.findings.unreadable == {locked: "Permission denied"}
    assert len(pictures.splits["train"]) == 5


def test_every_readable_picture_is_looked_at(split_folders):
    (split_folders / "train" / "cat" / "0.png").write_bytes(b"no picture")
    seen = {}
    pictures = read_picture_set(split_folders, look=lambda path, image: seen.update({path: image.size}))
    assert set(seen) == {picture.path for split in pictures.splits.values() for picture in split}
    assert set(seen.values()) == {(20, 16)}


def test_duplicates_are_named_within_and_across_splits(split_folders):
    original = split_folders / "train" / "cat" / "0.png"
    (split_folders / "train" / "cat" / "9.png").write_bytes(original.read_bytes())
    (split_folders / "validation" / "cat" / "9.png").write_bytes(original.read_bytes())
    findings = read_picture_set(split_folders).findings
    assert findings.duplicates == [(original, split_folders / "train" / "cat" / "9.png")]
    assert findings.cross_split_duplicates == [(original, split_folders / "validation" / "cat" / "9.png")]
    assert [sentence.split(":")[0] for sentence in findings.sentences()] == ["duplicate", "duplicate across splits"]


def test_equal_files_of_an_unsplit_folder_stay_on_one_side(tmp_path, save_picture):
    for number in range(20):
        save_picture(tmp_path / "cat" / f"{number}.png", number // 2)
        save_picture(tmp_path / "dog" / f"{number}.png", 100 + number)
    assert read_picture_set(tmp_path).findings.cross_split_duplicates == []


def test_fingerprint_depends_on_content_and_split_but_not_on_names(split_folders):
    before = read_picture_set(split_folders).fingerprint
    (split_folders / "train" / "cat" / "0.png").rename(split_folders / "train" / "cat" / "zero.png")
    assert read_picture_set(split_folders).fingerprint == before
    (split_folders / "train" / "cat" / "zero.png").rename(split_folders / "train" / "dog" / "zero.png")
    assert read_picture_set(split_folders).fingerprint != before


def test_progress_reaches_the_number_of_files(split_folders):
    calls = []
    read_picture_set(split_folders, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (10, 10)


class TestRefused:
    def refuse(self, root: Path, *words: str):
        with pytest.raises(FoveaError) as caught:
            read_picture_set(root)
        for word in words:
            assert word in str(caught.value)

    def test_no_folder(self, tmp_path):
        self.refuse(tmp_path / "nowhere", "no folder", "nowhere")

    def test_no_pictures(self, tmp_path):
        self.refuse(tmp_path, "no pictures", "train/CLASS")

    def test_one_class(self, tmp_path, save_picture):
        save_picture(tmp_path / "cat" / "0.png")
        self.refuse(tmp_path, "only the class 'cat'", "two")

    def test_empty_class_folder(self, split_folders):
        (split_folders / "train" / "fish").mkdir()
        self.refuse(split_folders, "'fish'", "no pictures", str(split_folders / "train"), "fill")

    def test_empty_class_folder_of_an_unsplit_set(self, tmp_path, save_picture):
        for label in ("cat", "dog"):
            save_picture(tmp_path / label / "0.png")
        (tmp_path / "fish").mkdir()
        self.refuse(tmp_path, "'fish'", f"no pictures in {tmp_path}:")

    def test_class_that_train_does_not_have(self, split_folders, save_picture):
        save_picture(split_folders / "validation" / "fish" / "0.png", 77)
        self.refuse(split_folders, "'fish' is in validation but not in train", "cat, dog")

    def test_train_without_classes(self, split_folders):
        shutil.rmtree(split_folders / "train")
        (split_folders / "train").mkdir()
        self.refuse(split_folders, "'cat' is in validation but not in train", "no class")

    def test_class_without_readable_pictures(self, split_folders):
        for path in (split_folders / "train" / "dog").iterdir():
            path.write_bytes(b"no picture")
        self.refuse(split_folders, "'dog'", "readable")

    def test_unsplit_class_of_one_picture(self, tmp_path, save_picture):
        save_picture(tmp_path / "cat" / "0.png", 1)
        for number in range(3):
            save_picture(tmp_path / "dog" / f"{number}.png", 2 + number)
        self.refuse(tmp_path, "one picture")


def test_pictures_of_every_suffix_are_found(tmp_path, save_picture):
    source = Image.open(save_picture(tmp_path / "source" / "a.png"))
    for label in ("cat", "dog"):
        (tmp_path / "set" / "train" / label).mkdir(parents=True)
        for position, suffix in enumerate(("jpg", "JPEG", "png", "webp", "gif", "bmp", "tif")):
            source.rotate(position).save(tmp_path / "set" / "train" / label / f"{position}.{suffix}")
    assert len(read_picture_set(tmp_path / "set").splits["train"]) == 14
