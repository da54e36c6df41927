"""A folder of labelled pictures as a data set: splits, classes, damaged and duplicate files."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np
from PIL import Image

from serving.contract import images
from training.errors import FoveaError
from training.errors import reason as reason_of

SPLITS = ("train", "validation", "test")
"""Names of the splits, and of the folders that hold them; `val` and `valid` mean validation too."""

Look = Callable[[Path, Image.Image], None]
"""Takes a file and the picture decoded from it; called from several threads."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

_SPLIT_FOLDERS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation"} | {
    "val": "validation",
    "test": "test",
}
_KAGGLE_NAME = re.compile(r"(?P<label>[^.]+)\.\d+\.\w+", re.ASCII)
_IGNORED_FOLDERS = {"masks"}


@dataclass(frozen=True)
class Picture:
    """One labelled picture file."""

    path: Path
    label: int | tuple[int, ...]
    """Index into the class names of the set; for a text, the index of each character."""
    digest: str
    """SHA-256 of the file's bytes."""


@dataclass(frozen=True)
class Findings:
    """What is wrong with the files of a set; the first kind is left out of it, the others stay in."""

    unreadable: Mapping[Path, str] = field(default_factory=dict)
    """Why a file could not be decoded."""
    duplicates: Sequence[tuple[Path, Path]] = ()
    """Pairs of equal files in one split."""
    cross_split_duplicates: Sequence[tuple[Path, Path]] = ()
    """Pairs of equal files in two splits: what is measured on one was seen in the other."""

    def sentences(self, limit: int | None = None) -> list[str]:
        """Say each finding in one line that names the files.

        Args:
            limit: the most lines of a kind; all by default.
        """
        return [
            *some("unreadable, left out", [f"{path} ({reason})" for path, reason in self.unreadable.items()], limit),
            *some("duplicate", _equal(self.duplicates), limit),
            *some("duplicate across splits", _equal(self.cross_split_duplicates), limit),
        ]


def some(kind: str, findings: Sequence[str], limit: int | None) -> list[str]:
    """Return a line for each finding of a kind, or for the first ones and how many more there are."""
    lines = [f"{kind}: {finding}" for finding in findings[:limit]]
    return lines if len(lines) == len(findings) else [*lines, f"{kind}: and {len(findings) - len(lines)} more"]


def _equal(pairs: Iterable[tuple[Path, Path]]) -> list[str]:
    return [f"{second} equals {first}" for first, second in pairs]


@dataclass(frozen=True)
class PictureSet:
    """Labelled pictures in splits."""

    root: Path
    class_names: tuple[str, ...]
    """Names by class index; for texts, the characters."""
    splits: Mapping[str, Sequence[Picture]]
    """Pictures per split in an order that depends on names alone; splits without pictures are absent."""
    findings: Findings

    @property
    def fingerprint(self) -> str:
        """SHA-256 over split, class name and content of every picture; independent of file names."""
        rows = sorted(
            f"{split}\t{self.name(picture)}\t{picture.digest}"
            for split, pictures in self.splits.items()
            for picture in pictures
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    @property
    def positions(self) -> int | None:
        """Number of characters of each text; None where the pictures have one class each."""
        labels = (picture.label for pictures in self.splits.values() for picture in pictures)
        label = next(labels, None)
        return len(label) if isinstance(label, tuple) else None

    def name(self, picture: Picture) -> str:
        """Return the class name of a picture, or its text."""
        indices = picture.label if isinstance(picture.label, tuple) else (picture.label,)
        return "".join(self.class_names[index] for index in indices)

    def labels(self, split: str) -> np.ndarray:
        """Return the class indices of a split's pictures, int32 [n], or [n, positions] for texts."""
        return np.array([picture.label for picture in self.splits[split]], np.int32)

    def images_per_class(self, split: str) -> dict[str, int]:
        """Count a split's pictures by class name; for texts, how often each character occurs."""
        counts = np.bincount(self.labels(split).ravel(), minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))


def read_picture_set(
    root: Path,
    seed: int = 0,
    validation_share: float = 0.2,
    progress: Callable[[int, int], None] | None = None,
    look: Look | None = None,
) -> PictureSet:
    """Read a folder in one of three forms, decoding every file once to find the damaged ones.

    * split class folders: `train/cat/…`, `validation/cat/…` and, where it exists, `test/cat/…`;
    * class folders: `cat/…`, `dog/…`, split by the seed into train and validation, stratified;
    * flat, as Kaggle's cats and dogs: `cat.0.jpg`, `dog.0.jpg`, split likewise.

    A folder named `masks` beside the splits is no class.

    Args:
        root: the folder.
        seed: decides which pictures of an unsplit folder become validation pictures.
        validation_share: share of each class that does, in 0..1.
        progress: called with (files done, files in all).
        look: called with each readable picture while it is decoded.

    Raises:
        FoveaError: no such folder, no pictures, fewer than two classes, a class without pictures in
            train, or one in another split that train does not have.
    """
    if not root.is_dir():
        raise FoveaError(f"there is no folder {root}; --data takes a folder of class folders with pictures")
    files, presplit = find_files(root)
    class_names = tuple(sorted({label for labels in files.values() for label in labels}))
    _check_classes(root, files, presplit)

    paths = [path for labels in files.values() for group in labels.values() for path in group]
    digests, unreadable = examine_all(paths, progress, look)
    splits: dict[str, list[Picture]] = {}
    for split, labels in files.items():
        splits[split] = [
            Picture(path, class_names.index(label), digests[path])
            for label, group in sorted(labels.items())
            for path in group
            if path not in unreadable
        ]
        for label in labels:
            if all(path in unreadable for path in labels[label]):
                raise FoveaError(f"class {label!r} has no readable picture in {root if not presplit else root / split}")
    if not presplit:
        splits = _split(splits["train"], len(class_names), seed, validation_share, root)
    return PictureSet(root, class_names, splits, Findings(unreadable, *find_duplicates(splits)))


def find_files(root: Path) -> tuple[dict[str, dict[str, list[Path]]], bool]:
    """Find the picture files of a folder in one of the forms of `read_picture_set`, in the order of their numbers.

    Returns:
        (files by split and class name, all in train for an unsplit folder; whether the folder itself says the split).
    """
    presplit = split_folders(root)
    if presplit:
        by_split = {
            split: {entry.name: pictures_in(entry) for entry in _folders(path)} for split, path in presplit.items()
        }
        return by_split, True
    if folders := _folders(root):
        return {"train": {entry.name: pictures_in(entry) for entry in folders}}, False
    flat: dict[str, list[Path]] = defaultdict(list)
    for path in pictures_in(root):
        if match := _KAGGLE_NAME.fullmatch(path.name):
            flat[match["label"]].append(path)
    return {"train": dict(flat)}, False


def split_folders(root: Path) -> dict[str, Path]:
    """Find the folders of the splits; none where there is no train folder among them."""
    found = {
        _SPLIT_FOLDERS[entry.name.lower()]: entry for entry in _folders(root) if entry.name.lower() in _SPLIT_FOLDERS
    }
    return {split: found[split] for split in SPLITS if split in found} if "train" in found else {}


def _folders(root: Path) -> list[Path]:
    return sorted(
        entry
        for entry in root.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in _IGNORED_FOLDERS
    )


def pictures_in(folder: Path) -> list[Path]:
    """Find the picture files of a folder and of those in it, in the order of their numbers."""
    return sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()), key=_natural_order
    )


def _natural_order(path: Path) -> list[str | int]:
    """Sort cat.2.jpg before cat.10.jpg."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def _check_classes(root: Path, files: dict[str, dict[str, list[Path]]], presplit: bool) -> None:
    if not any(group for labels in files.values() for group in labels.values()):
        loose = pictures_in(root)
        raise FoveaError(
            f"no {'class folders' if loose else 'pictures'} in {root}; "
            "expected train/CLASS/*.jpg and validation/CLASS/*.jpg, CLASS/*.jpg, or CLASS.0.jpg"
            + (
                f". Are {loose[0].name} and the others named by their text? The recipe captcha reads those, and "
                "`fovea data check --texts`"
                if loose
                else ""
            )
        )
    train = sorted(files["train"])
    for split, labels in files.items():
        for label, group in labels.items():
            if not group:
                place = root / split if presplit else root
                raise FoveaError(f"class {label!r} has no pictures in {place}: fill its folder or remove it")
            if label not in files["train"]:
                raise FoveaError(
                    f"class {label!r} is in {split} but not in train, which has {', '.join(train) or 'no class'}: "
                    f"give train pictures of it, or remove it from {split}"
                )
    if len(train) < 2:
        raise FoveaError(f"{root} has only the class {train[0]!r}; a classifier needs at least two")


def examine(path: Path, look: Look | None = None) -> tuple[str, str | None]:
    """Read and decode a file.

    Returns:
        (SHA-256 of its bytes, None), or ("", the reason) if it cannot be read or decoded.
    """
    try:
        data = path.read_bytes()
        image = images.decode(data)
    except images.UndecodableImageError as error:
        return "", str(error)
    except OSError as error:
        return "", reason_of(error)
    if look:
        look(path, image)
    return hashlib.sha256(data).hexdigest(), None


def examine_all(
    paths: Sequence[Path], progress: Callable[[int, int], None] | None = None, look: Look | None = None
) -> tuple[dict[Path, str], dict[Path, str]]:
    """Return every file's digest, and why the damaged ones cannot be decoded."""
    digests, unreadable = {}, {}
    with ThreadPoolExecutor() as pool:
        examined = pool.map(examine, paths, repeat(look))
        for done, (path, (digest, reason)) in enumerate(zip(paths, examined, strict=True), start=1):
            digests[path] = digest
            if reason is not None:
                unreadable[path] = reason
            if progress:
                progress(done, len(paths))
    return digests, unreadable


def _split(
    pictures: Sequence[Picture], classes: int, seed: int, validation_share: float, root: Path
) -> dict[str, list[Picture]]:
    """Split each class by the seed; equal files stay on one side."""
    splits: dict[str, list[Picture]] = {"train": [], "validation": []}
    for label in range(classes):
        copies: dict[str, list[Picture]] = defaultdict(list)
        for picture in pictures:
            if picture.label == label:
                copies[picture.digest].append(picture)
        if len(copies) < 2:
            raise FoveaError(f"{root} has a class of one picture; two are needed, one to train and one to validate")
        groups = [copies[digest] for digest in sorted(copies)]
        np.random.default_rng([seed, label]).shuffle(groups)
        held_out = min(max(1, round(len(groups) * validation_share)), len(groups) - 1)
        for position, group in enumerate(groups):
            splits["validation" if position < held_out else "train"] += group
    return {split: sorted(group, key=lambda p: (p.label, _natural_order(p.path))) for split, group in splits.items()}


def find_duplicates(
    splits: Mapping[str, Iterable[Picture]],
) -> tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]]:
    """Return the pairs of equal files in one split, and those in two."""
    first_seen: dict[str, tuple[str, Path]] = {}
    within: list[tuple[Path, Path]] = []
    across: list[tuple[Path, Path]] = []
    for split, pictures in splits.items():
        for picture in pictures:
            if picture.digest not in first_seen:
                first_seen[picture.digest] = (split, picture.path)
                continue
            first_split, first = first_seen[picture.digest]
            (within if first_split == split else across).append((first, picture.path))
    return within, across
