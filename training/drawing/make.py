"""Write a set of drawn pictures, with masks, as the folders that training reads."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from zlib import crc32

import numpy as np

from training.drawing.animals import SPECIES
from training.drawing.scene import draw

GENERATOR_VERSION = 1
"""Raised with every change that makes other pictures from the same seed."""

MASKS = "masks"
"""The folder of the masks, beside the splits."""

PER_CLASS: Mapping[str, int] = MappingProxyType({"train": 200, "validation": 100, "test": 100})
JPEG_QUALITY = 90
WORKERS = min(8, os.cpu_count() or 1)
FEW = 64
"""So many pictures are drawn sooner than worker processes start."""


@dataclass(frozen=True)
class _Task:
    folder: Path
    split: str
    species: str
    index: int
    size: int
    seed: int

    def run(self) -> None:
        name = f"{self.species}.{self.index:04d}"
        key = [self.seed, crc32(self.split.encode()), crc32(self.species.encode()), self.index]
        drawing = draw(self.species, np.random.default_rng(np.random.SeedSequence(key)), self.size)
        drawing.picture.save(self.folder / self.split / self.species / f"{name}.jpg", quality=JPEG_QUALITY)
        drawing.mask.save(self.folder / MASKS / self.split / self.species / f"{name}.png")


def make_picture_set(
    folder: Path,
    species: Sequence[str] = ("cat", "dog"),
    per_class: Mapping[str, int] = PER_CLASS,
    size: int = 160,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw a labelled picture set into a folder that is new or empty.

    Written are `<split>/<species>/<species>.0001.jpg` and so on for each split of `per_class` (split name to number of
    pictures), RGB JPEG, width and height each 0.8 to 1.2 times `size` pixels; the mask of each, 0 or 255, 255 where
    the animal is seen, as `masks/<split>/<species>/<species>.0001.png`; and, last, `set.json`, which says how the set
    was made. A picture depends on the seed, split, species and its number alone: a larger set begins with the pictures
    of a smaller one.

    `progress` is called with the number of pictures done and of all.
    Raises FileExistsError for a folder with something in it and ValueError for arguments that cannot be drawn.
    """
    _check(species, per_class, size, seed)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder; a picture set is written into a new or empty one")
    for split in per_class:
        for name in species:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            (folder / MASKS / split / name).mkdir(parents=True, exist_ok=True)

    tasks = list(_tasks(folder, species, per_class, size, seed))
    for done, _ in enumerate(_run(tasks), start=1):
        if progress:
            progress(done, len(tasks))

    made = {
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "size": size,
        "species": list(species),
        "per_class": dict(per_class),
    }
    (folder / "set.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def _run(tasks: Sequence[_Task]) -> Iterator[None]:
    if len(tasks) <= FEW:
        yield from map(_Task.run, tasks)
        return
    # A forked copy of a process that holds TensorFlow's threads may hang: start afresh.
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_Task.run, tasks, chunksize=8)


def _tasks(folder: Path, species: Sequence[str], per_class: Mapping[str, int], size: int, seed: int) -> Iterator[_Task]:
    for split, count in per_class.items():
        for name in species:
            for index in range(1, count + 1):
                yield _Task(folder, split, name, index, size, seed)


def _check(species: Sequence[str], per_class: Mapping[str, int], size: int, seed: int) -> None:
    unknown = [name for name in species if name not in SPECIES]
    if unknown:
        raise ValueError(f"there is no species {unknown[0]!r}; the species that can be drawn are {', '.join(SPECIES)}")
    if len(species) < 2 or len(set(species)) < len(species):
        raise ValueError("a picture set needs two or more different species")
    if not per_class:
        raise ValueError("a picture set needs at least one split, such as train")
    for split, count in per_class.items():
        if split in ("", ".", "..", MASKS) or "/" in split or "\\" in split:
            raise ValueError(f"{split!r} cannot be the name of a split; train, validation and test are usual")
        if count < 1:
            raise ValueError(f"split {split} has {count} pictures a class; it needs at least 1")
    if not 32 <= size <= 1024:
        raise ValueError(f"a size of {size} pixels cannot be drawn; it lies between 32 and 1024")
    if seed < 0:
        raise ValueError(f"the seed is {seed}; it is 0 or more")
