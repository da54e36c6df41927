"""Features of a frozen base, computed once and kept on disk."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import keras
import numpy as np
import platformdirs

from training.data.batches import Rows
from training.errors import FoveaError, reason

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
        base: the base; its name, weights, and the shapes it takes and gives are part of the key.
        pixels: gives the pictures when they are needed.
        key: stands for the pictures and their order: data fingerprint and split.
        folder: where features are kept; the user's cache folder by default.
        progress: called with (pictures done, pictures in all).

    Raises:
        FoveaError: the folder cannot be written, or is full.
    """
    folder = folder or Path(platformdirs.user_cache_dir("fovea")) / "features"
    path = folder / f"{_digest(base, key)}.npy"
    if not path.exists():
        rows = pixels()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _compute(base, rows, path, progress)
        except OSError as error:
            raise FoveaError(
                f"features cannot be kept in {folder}: {reason(error)}; XDG_CACHE_HOME may name another cache folder"
            ) from error
    return Features(path)


def _compute(base: keras.Model, rows: Rows, path: Path, progress: Callable[[int, int], None] | None) -> None:
    # Written, not mapped: a full disk would end the process at a mapped page.
    unfinished = path.with_suffix(f".{uuid4().hex}.unfinished")
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), *base.output_shape[1:])}
    try:
        with unfinished.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(rows), BATCH_SIZE):
                positions = np.arange(start, min(start + BATCH_SIZE, len(rows)))
                features = base.predict_on_batch(rows.read(positions).astype(np.float32))
                file.write(features.astype("<f4").tobytes())
                if progress:
                    progress(int(positions[-1]) + 1, len(rows))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _digest(base: keras.Model, key: str) -> str:
    shapes_and_policy = (base.input_shape, base.output_shape, base.dtype_policy.name)
    digest = hashlib.sha256(f"{key}\t{base.name}\t{shapes_and_policy}".encode())
    for weights in base.get_weights():
        digest.update(np.ascontiguousarray(weights).data)
    return digest.hexdigest()
