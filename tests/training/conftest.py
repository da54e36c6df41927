"""Picture folders for the tests of training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Save = Callable[..., Path]


@pytest.fixture
def save_picture() -> Save:
    """A function that saves a small picture of noise, the same for the same seed, and returns its path."""

    def save(path: Path, seed: int = 0, size: tuple[int, int] = (20, 16)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return save


@pytest.fixture
def split_folders(tmp_path: Path, save_picture: Save) -> Path:
    """Split class folders: 3 + 3 pictures to train, 2 + 2 to validate, with equal names in both classes."""
    root = tmp_path / "pictures"
    seed = 0
    for split, count in (("train", 3), ("validation", 2)):
        for label in ("cat", "dog"):
            for number in range(count):
                save_picture(root / split / label / f"{number}.png", seed := seed + 1)
    return root
