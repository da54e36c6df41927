"""Pictures of a text of fixed length: read a folder of them, or make one."""

import importlib.util
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.pictures import (
    Findings,
    Look,
    Picture,
    PictureSet,
    examine_all,
    find_duplicates,
    pictures_in,
    split_folders,
)
from training.data.staging import new_folder
from training.errors import FoveaError

DIGITS = "0123456789"

Progress = Callable[[int, int], None]


def read_captcha_set(
    root: Path,
    seed: int = 0,
    validation_share: float = 0.2,
    progress: Progress | None = None,
    look: Look | None = None,
) -> PictureSet:
    """Read a folder of pictures whose file names begin with their text: `0417.png`, `0417_2.png`.

    The text ends at the first `_` or `.`. The folder has the folders `train`, `validation` and, where it exists,
    `test`; or none of them, and then a share of the texts is taken for validation. Every file is decoded once to find
    the damaged ones, which are left out.

    Args:
        root: the folder.
        seed: decides which texts of an unsplit folder become validation texts.
        validation_share: share of the texts that does, in 0..1.
        progress: called with (files done, files in all).
        look: called with each readable picture while it is decoded.

    Returns:
        The set; its classes are the characters of the training texts, in the order of their code points.

    Raises:
        FoveaError: no such folder, no pictures, texts of different length, a character that train does not have.
    """
    if not root.is_dir():
        raise FoveaError(f"there is no folder {root}; --data takes a folder of pictures named by their text")
    folders = split_folders(root)
    files = {split: pictures_in(folder) for split, folder in folders.items()} or _split(root, seed, validation_share)
    digests, unreadable = examine_all([path for paths in files.values() for path in paths], progress, look)
    readable = {split: [path for path in paths if path not in unreadable] for split, paths in files.items()}
    for split, paths in readable.items():
        if not paths:
            raise FoveaError(
                f"no readable pictures in {folders.get(split, root)}; expected files named by their text, as 0417.png"
            )
    _check_lengths(readable)
    class_names = tuple(sorted(set("".join(map(_text, readable["train"])))))
    if len(class_names) < 2:
        raise FoveaError(f"the texts in {root} have only the character {class_names[0]!r}; at least two are needed")
    splits = {
        split: [Picture(path, _indices(path, split, class_names), digests[path]) for path in paths]
        for split, paths in readable.items()
    }
    return PictureSet(root, class_names, splits, Findings(unreadable, *find_duplicates(splits)))


def _text(path: Path) -> str:
    text = path.name.partition(".")[0].partition("_")[0]
    if not text:
        raise FoveaError(f"the name of {path} has no text before its first _ or . ; name it as 0417_2.png")
    return text


def _indices(path: Path, split: str, class_names: Sequence[str]) -> tuple[int, ...]:
    for character in _text(path):
        if character not in class_names:
            raise FoveaError(
                f"the character {character!r} of {path} is in {split} but not in train, "
                f"which has {''.join(class_names)}"
            )
    return tuple(class_names.index(character) for character in _text(path))


def _check_lengths(files: Mapping[str, Sequence[Path]]) -> None:
    first, *others = [path for paths in files.values() for path in paths]
    for path in others:
        if len(_text(path)) != len(_text(first)):
            raise FoveaError(
                f"the texts of {first} and {path} differ in length; all texts must have the same number of characters"
            )


def _split(root: Path, seed: int, validation_share: float) -> dict[str, list[Path]]:
    """Split a folder by the seed; pictures of one text stay on one side."""
    by_text: dict[str, list[Path]] = defaultdict(list)
    for path in pictures_in(root):
        by_text[_text(path)].append(path)
    if len(by_text) < 2:
        raise FoveaError(
            f"{root} has pictures of {len(by_text)} texts; expected train/0417.png and validation/2960.png, "
            "or two texts or more to split"
        )
    texts = np.random.default_rng(seed).permutation(sorted(by_text)).tolist()
    held_out = set(texts[: min(max(1, round(len(texts) * validation_share)), len(texts) - 1)])
    splits: dict[str, list[Path]] = {"train": [], "validation": []}
    for text, paths in by_text.items():
        splits["validation" if text in held_out else "train"] += paths
    return splits


def make_captchas(
    folder: Path,
    counts: Mapping[str, int],
    length: int = 4,
    alphabet: str = DIGITS,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write pictures of random texts as `<split>/<text>.png`, 160x60, distorted as the package `captcha` does it.

    The same arguments give the same pictures. A text of one held-out split is in no other split and not in train,
    unless they take more than half of all texts of this length.

    Args:
        folder: a new or empty folder.
        counts: split to number of pictures; a split of 0 is left out.
        length: characters of a text.
        alphabet: two or more different letters (A-Z, a-z) and digits.
        seed: decides texts and pictures.
        progress: called with (pictures written, pictures in all).

    Raises:
        FoveaError: the folder is not empty, or the alphabet or length is none.
    """
    if len(set(alphabet)) != len(alphabet) or len(alphabet) < 2 or not (alphabet.isascii() and alphabet.isalnum()):
        raise FoveaError(f"{alphabet!r} is no alphabet; give two or more letters or digits, each once")
    if length < 1:
        raise FoveaError(f"a text of {length} characters is none; give 1 or more")
    chance = _Chance(seed)
    texts = _texts(counts, length, alphabet, chance)
    image = _image_captcha(chance)
    total, done = sum(counts.values()), 0
    with new_folder(folder) as staging:
        for split, of_split in texts.items():
            (staging / split).mkdir()
            seen: Counter[str] = Counter()
            for text in of_split:
                seen[text] += 1
                name = text if seen[text] == 1 else f"{text}_{seen[text]}"
                image.generate_image(text).save(staging / split / f"{name}.png")
                done += 1
                if progress:
                    progress(done, total)


class _Chance(random.Random):
    """A seeded generator under the names of the module `secrets`."""

    def randbelow(self, limit: int) -> int:
        return self.randrange(limit)

    def randbits(self, bits: int) -> int:
        return self.getrandbits(bits)


def _image_captcha(chance: _Chance) -> Any:
    """Return a maker of pictures that draws from the generator.

    The package takes its numbers from the module `secrets`, which has no seed; a copy of it that nobody else uses gets
    the generator in that place.
    """
    spec = importlib.util.find_spec("captcha.image")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.secrets = chance  # type: ignore[attr-defined]
    return module.ImageCaptcha()  # 160x60


def _texts(counts: Mapping[str, int], length: int, alphabet: str, chance: _Chance) -> dict[str, list[str]]:
    """Draw the texts of each split as numbers whose digits are characters."""
    possible = len(alphabet) ** length

    def text(number: int) -> str:
        return "".join(alphabet[number // len(alphabet) ** place % len(alphabet)] for place in reversed(range(length)))

    wanted = sum(count for split, count in counts.items() if split != "train")
    held_out = chance.sample(range(possible), wanted) if wanted <= possible // 2 else []
    taken, rest = set(held_out), iter(held_out)
    texts: dict[str, list[str]] = {}
    for split, count in counts.items():
        if split != "train" and held_out:
            numbers = [next(rest) for _ in range(count)]
        else:
            numbers = []
            while len(numbers) < count:
                if (number := chance.randrange(possible)) not in taken:
                    numbers.append(number)
        if count:
            texts[split] = [text(number) for number in numbers]
    return texts
