"""What a person should know of a picture set before training on it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.data.near_duplicates import NEAR, nearest, perceptual_hash
from training.data.pictures import Picture, PictureSet, read_picture_set, some

SMALL_SIDE = 32
"""Pictures with a side below this many pixels are counted as small: the bases see little in them."""

UNBALANCED = 1.5
"""From this ratio of the largest to the smallest class in train on, class weights are advised.

At 1.5 to 1, always naming the larger of two classes is right three times in five.
"""


@dataclass(frozen=True)
class NearDuplicate:
    """Two pictures in different splits that show the same, but not the same file."""

    first: Path
    second: Path
    """The one in the later split."""
    distance: int
    """Hamming distance of their perceptual hashes, 0 to `near_duplicates.NEAR`."""


@dataclass(frozen=True)
class Check:
    """A picture set and what was found in it."""

    pictures: PictureSet
    sizes: np.ndarray
    """Width and height of every readable picture in pixels, upright, int32 [n,2]."""
    near_duplicates: Sequence[NearDuplicate]
    """For each picture of a later split the nearest in an earlier one, if it is near; the nearest pairs first."""

    @property
    def small(self) -> int:
        """Number of pictures with a side below `SMALL_SIDE`."""
        return int((self.sizes.min(axis=1) < SMALL_SIDE).sum())

    @property
    def imbalance(self) -> float:
        """Pictures of the largest class in train to those of the smallest, 1 or more."""
        counts = self.pictures.images_per_class("train").values()
        return max(counts) / min(counts)

    def summary(self) -> list[str]:
        """Say in a few lines what the set holds."""
        counts = [f"{split}: {self._counts(split)}" for split in self.pictures.splits]
        (width, height) = (_spread(self.sizes[:, axis]) for axis in (0, 1))
        return [
            *counts,
            f"width: {width['min']} to {width['max']} pixels, median {width['median']:g}",
            f"height: {height['min']} to {height['max']} pixels, median {height['median']:g}",
        ]

    def warnings(self, limit: int | None = None) -> list[str]:
        """Say what is wrong with the set, one finding a line.

        Args:
            limit: the most lines about files of one kind; all by default.
        """
        looks = [
            f"{near.second} looks like {near.first} ({near.distance} bits differ)" for near in self.near_duplicates
        ]
        return [
            *self._about_splits(),
            *self._about_balance(),
            *self._about_texts(),
            *([f"small: {self.small} pictures have a side below {SMALL_SIDE} pixels"] if self.small else []),
            *self.pictures.findings.sentences(limit),
            *some("near duplicate across splits", looks, limit),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON types; files are relative to the set's folder."""
        findings = self.pictures.findings

        def pairs(found: Iterable[tuple[Path, Path]]) -> list[list[str]]:
            return [[self._name(first), self._name(second)] for first, second in found]

        return {
            "trainable": True,
            "folder": str(self.pictures.root),
            "fingerprint": self.pictures.fingerprint,
            "classes": list(self.pictures.class_names),
            "counts": {split: self.pictures.images_per_class(split) for split in self.pictures.splits},
            "width": _spread(self.sizes[:, 0]),
            "height": _spread(self.sizes[:, 1]),
            "small": {"below": SMALL_SIDE, "count": self.small},
            "imbalance": {"ratio": round(self.imbalance, 3), "class_weights_advised": self._class_weights_advised},
            "unreadable": {self._name(path): why for path, why in findings.unreadable.items()},
            "duplicates": pairs(findings.duplicates),
            "cross_split_duplicates": pairs(findings.cross_split_duplicates),
            "near_duplicates": [
                {"files": [self._name(near.first), self._name(near.second)], "distance": near.distance}
                for near in self.near_duplicates
            ],
            "warnings": self.warnings(),
        }

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.pictures.root))

    @property
    def _class_weights_advised(self) -> bool:
        return self.imbalance >= UNBALANCED and self.pictures.positions is None

    def _counts(self, split: str) -> str:
        counts = self.pictures.images_per_class(split)
        if self.pictures.positions is None:
            return ", ".join(f"{count} {label}" for label, count in counts.items())
        characters = ", ".join(f"{label} {count} times" for label, count in counts.items())
        return f"{len(self.pictures.splits[split])} texts of {self.pictures.positions} characters: {characters}"

    def _about_splits(self) -> list[str]:
        splits = self.pictures.splits
        lines = [
            f"{split} has no {label}: its accuracy says nothing about that class"
            for split in splits
            for label, count in self.pictures.images_per_class(split).items()
            if not count
        ]
        if "validation" not in splits:
            lines.append(f"no validation folder beside {self.pictures.root / 'train'}: `fovea train` needs one")
        return lines

    def _about_balance(self) -> list[str]:
        if self.imbalance < UNBALANCED:
            return []
        counts = self.pictures.images_per_class("train")
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        ratio = f"in train, {self.imbalance:.1f} to 1"
        if self.pictures.positions is not None:
            return [f"unbalanced: {most} {counts[most]} times to {least} {counts[least]} times {ratio}"]
        return [f"unbalanced: {counts[most]} {most} to {counts[least]} {least} {ratio}; train with --class-weights"]

    def _about_texts(self) -> list[str]:
        """Say which splits hold out pictures but not texts."""
        if self.pictures.positions is None:
            return []
        known = {picture.label for picture in self.pictures.splits["train"]}
        seen = {
            split: sum(picture.label in known for picture in pictures)
            for split, pictures in self.pictures.splits.items()
            if split != "train"
        }
        return [
            f"{split} has {count} pictures of texts that train has too: its accuracy is not that on unseen texts"
            for split, count in seen.items()
            if count
        ]


def check_picture_set(
    root: Path,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    read: Callable[..., PictureSet] = read_picture_set,
) -> Check:
    """Read a picture set, decoding every file once, and look for what spoils training and measuring.

    Args:
        root: a folder in one of the forms that `read` takes.
        seed: decides how an unsplit folder is split, as in training.
        progress: called with (files done, files in all).
        read: `read_picture_set`, or `read_captcha_set` for pictures named by their text.

    Raises:
        FoveaError: the set cannot be trained on; as `read` says.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    hashes: dict[Path, np.ndarray] = {}

    def look(path: Path, image: Image.Image) -> None:
        sizes[path] = image.size
        hashes[path] = perceptual_hash(image)

    pictures = read(root, seed, progress=progress, look=look)
    return Check(pictures, np.array(list(sizes.values()), np.int32), _near_duplicates(pictures, hashes))


def _near_duplicates(pictures: PictureSet, hashes: dict[Path, np.ndarray]) -> list[NearDuplicate]:
    found: list[NearDuplicate] = []
    earlier: list[Picture] = []
    for split in pictures.splits.values():
        if earlier and split:
            others = np.array([hashes[picture.path] for picture in earlier])
            positions, distances = nearest(np.array([hashes[picture.path] for picture in split]), others)
            for picture, position, distance in zip(split, positions, distances, strict=True):
                other = earlier[position]
                if distance <= NEAR and picture.digest != other.digest:
                    found.append(NearDuplicate(other.path, picture.path, int(distance)))
        earlier += split
    return sorted(found, key=lambda near: near.distance)


def _spread(values: np.ndarray) -> dict[str, float]:
    return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}
