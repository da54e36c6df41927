"""Features of a frozen base, computed once and kept on disk."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import platformdirs

from training.data.batches import Rows

BATCH_SIZE = 64


class Features:
    """Features of one split, memory-mapped: float32 [n, *shape]."""

    def __init__(self, path: Path):
        self._array = np.load(path, mmap_mode="r")
        self.shape = self._array.shape[1:]
        self.dtype = self._array.dtype

    def __len__(self) -> int:
        return len(self._array)

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Return the features at these positions, float32 [n, *shape]."""
        return self._array[positions]


def cached_features(
    base: keras.Model,
    pixels: Callable[[], Rows],
    key: str,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Run a base over pictures, or take what an earlier run kept.

    Args:
        base: the base; its weights and input size are part of the key.
        pixels: gives the pictures when they are needed.
        key: stands for the pictures and their order: data fingerprint and split.
        folder: where features are kept; the user's cache folder by default.
        progress: called with (pictures done, pictures in all).
    """
    folder = folder or Path(platformdirs.user_cache_dir("fovea")) / "features"
    path = folder / f"{_digest(base, key)}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = pixels()
        unfinished = path.with_suffix(".unfinished")
        array = np.lib.format.open_memmap(unfinished, "w+", np.float32, (len(rows), *base.output_shape[1:]))
        for start in range(0, len(rows), BATCH_SIZE):
            positions = np.arange(start, min(start + BATCH_SIZE, len(rows)))
            array[positions] = base.predict_on_batch(rows.read(positions).astype(np.float32))
            if progress:
                progress(int(positions[-1]) + 1, len(rows))
        array.flush()
        unfinished.replace(path)
    return Features(path)


def _digest(base: keras.Model, key: str) -> str:
    digest = hashlib.sha256(f"{key}\t{base.name}\t{base.input_shape}".encode())
    for weights in base.get_weights():
        digest.update(np.ascontiguousarray(weights).data)
    return digest.hexdigest()
