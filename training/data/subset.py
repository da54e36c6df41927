"""A small split of a large unsplit picture folder."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from training.data.pictures import examine, find_files
from training.data.staging import check_new, new_folder
from training.errors import FoveaError

PER_CLASS: Mapping[str, int] = MappingProxyType({"train": 1000, "validation": 500, "test": 500})
"""The small split of cats and dogs in F. Chollet, Deep Learning with Python, section 5.2."""

_AT_ONCE = 64


@dataclass
class Subset:
    """What was passed over while a subset was made."""

    unreadable: dict[Path, str] = field(default_factory=dict)
    """Why a file could not be decoded."""
    duplicates: list[tuple[Path, Path]] = field(default_factory=list)
    """Pairs of a file that was taken and one of the same content that was not."""


def make_subset(
    source: Path,
    target: Path,
    per_class: Mapping[str, int] = PER_CLASS,
    shuffle_seed: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Subset:
    """Copy some pictures of each class into split class folders: all of them, or nothing.

    The pictures of a class are taken in the order of the numbers in their names, or shuffled by a seed: the first
    ones go to the first split, the next ones to the second. Passed over are files that cannot be decoded and files
    whose content was taken before, so that no two splits and no two classes share a picture. Files are copied, not
    linked: a link would not cross file systems, and an edit of the one would change the other.

    Args:
        source: class folders (`Cat/0.jpg`), or a flat folder as Kaggle's (`cat.0.jpg`).
        target: a new or empty folder; gets `<split>/<class>/<name in the source's class>`.
        per_class: split (train, validation, test) to number of pictures of each class; a split of 0 is left out.
        shuffle_seed: None for the order of the numbers.
        progress: called with (pictures taken, pictures to take).

    Raises:
        FoveaError: the target is not empty; the source is no such folder, is split already, or has one class
            or too few pictures in a class.
    """
    check_new(target)
    classes = _classes(source)
    wanted = sum(per_class.values())
    subset, taken = Subset(), 0
    known: dict[str, Path] = {}
    with new_folder(target) as folder, ThreadPoolExecutor() as pool:
        for label, (name, paths) in enumerate(classes.items()):
            order = paths if shuffle_seed is None else _shuffled(paths, [shuffle_seed, label])
            usable = _usable(order, pool, known, subset)
            for number, split in enumerate(split for split, count in per_class.items() for _ in range(count)):
                path = next(usable, None)
                if path is None:
                    raise FoveaError(
                        f"class {name!r} has {number} readable and different pictures in {source}; "
                        f"{wanted} are wanted ({_told(per_class)}): ask for fewer"
                    )
                copy = folder / split / name / _name_in_class(path, source, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
                taken += 1
                if progress:
                    progress(taken, wanted * len(classes))
    return subset


def _classes(source: Path) -> dict[str, list[Path]]:
    if not source.is_dir():
        raise FoveaError(f"there is no folder {source}; name a folder of class folders, or of CLASS.0.jpg, CLASS.1.jpg")
    files, presplit = find_files(source)
    if presplit:
        raise FoveaError(f"{source} is split into train and others already; a subset is made of an unsplit folder")
    classes = dict(sorted(files["train"].items()))
    if len(classes) < 2:
        found = f"only the class {next(iter(classes))!r}" if classes else "no pictures"
        raise FoveaError(f"{source} has {found}; expected CLASS/*.jpg or CLASS.0.jpg of two classes or more")
    return classes


def _shuffled(paths: Sequence[Path], seed: list[int]) -> list[Path]:
    return [paths[position] for position in np.random.default_rng(seed).permutation(len(paths))]


def _usable(paths: Sequence[Path], pool: ThreadPoolExecutor, known: dict[str, Path], subset: Subset) -> Iterator[Path]:
    """Give the readable files with new content in their order; note the others in `subset`."""
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        for path, (digest, reason) in zip(some, pool.map(examine, some), strict=True):
            if reason is not None:
                subset.unreadable[path] = reason
            elif (first := known.setdefault(digest, path)) is not path:
                subset.duplicates.append((first, path))
            else:
                yield path


def _name_in_class(path: Path, source: Path, name: str) -> Path:
    inside = path.relative_to(source)
    return inside.relative_to(name) if inside.parts[0] == name and len(inside.parts) > 1 else inside


def _told(per_class: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in per_class.items() if count)
