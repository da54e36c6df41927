"""A memory of filter patterns: they depend on a model's version alone, and cost seconds."""

from collections.abc import Callable, Hashable, Sequence
from threading import Lock

import numpy as np
from cachetools import LRUCache

from serving.deadline import Deadline
from serving.errors import DeadlineExceededError

FILTERS_A_CALL = 4
"""So many are drawn at a time; those of a request that runs out of time are there for the next."""


class PatternCache:
    """Keeps the patterns used last, up to a number of bytes; draws for one request at a time."""

    def __init__(self, most_bytes: int) -> None:
        self._patterns: LRUCache[Hashable, np.ndarray] = LRUCache(most_bytes, getsizeof=lambda pattern: pattern.nbytes)
        self._drawing = Lock()

    def fetch(
        self, layer: Hashable, filters: Sequence[int], draw: Callable[[Sequence[int]], np.ndarray], deadline: Deadline
    ) -> np.ndarray:
        """Return patterns, and draw those that are missing.

        Args:
            layer: what the filters belong to: model, version and layer.
            filters: which.
            draw: returns the patterns of some filters, uint8 [k, h, w, 3].
            deadline: the request's.

        Returns:
            uint8 [number of filters, h, w, 3].

        Raises:
            DeadlineExceededError: the time is up; what was drawn until then is kept.
        """
        if not self._drawing.acquire(timeout=deadline.remaining()):
            raise DeadlineExceededError("filter patterns are being drawn for others; try again later")
        try:
            found = {item: pattern for item in filters if (pattern := self._patterns.get((layer, item))) is not None}
            missing = [item for item in filters if item not in found]
            for start in range(0, len(missing), FILTERS_A_CALL):
                deadline.remaining()
                some = missing[start : start + FILTERS_A_CALL]
                for item, drawn in zip(some, draw(some), strict=True):
                    # A view would keep the whole batch in memory.
                    found[item] = pattern = drawn.copy()
                    if pattern.nbytes <= self._patterns.maxsize:
                        self._patterns[layer, item] = pattern
        finally:
            self._drawing.release()
        return np.stack([found[item] for item in filters])
