"""Decoded pictures on disk, so that memory does not grow with their number."""

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from serving.contract import images


class Pixels:
    """Pictures of one size in an unnamed temporary file, read in any order from any thread.

    Decoding takes longer than a small net needs for a picture; done once, every later epoch costs a
    read of the page cache.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        height: int,
        width: int,
        progress: Callable[[int, int], None] | None = None,
    ):
        """Decode and resize the pictures, with all cores.

        Raises:
            images.UndecodableImageError: one of the files is damaged.
            OSError: the temporary folder is full.
        """
        self.shape = (height, width, 3)
        self.dtype = np.dtype(np.uint8)
        self._bytes = height * width * 3
        self._count = len(paths)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the object)

        def store(position: int) -> None:
            pixels = images.resize(images.decode(paths[position].read_bytes()), height, width)
            os.pwrite(self._file.fileno(), pixels.tobytes(), position * self._bytes)

        with ThreadPoolExecutor() as pool:
            for done, _ in enumerate(pool.map(store, range(len(paths))), start=1):
                if progress:
                    progress(done, len(paths))

    def __len__(self) -> int:
        return self._count

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Return the pictures at these positions, uint8 [n, height, width, 3]."""
        batch = np.empty((len(positions), *self.shape), np.uint8)
        for row, position in zip(batch, positions, strict=True):
            os.preadv(self._file.fileno(), [row.data], int(position) * self._bytes)
        return batch
