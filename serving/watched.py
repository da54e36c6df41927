"""What files say, read again when they change."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

INTERVAL_S = 1.0


class Watched(Generic[T]):
    """A value made of files; safe to use from many threads.

    Files count as changed when another file is in their place, also behind a symbolic link, which is how Kubernetes
    replaces what it mounts. What cannot be read leaves the former value in force.
    """

    def __init__(self, files: Sequence[Path], load: Callable[[], T]) -> None:
        """Make the value.

        Args:
            files: the files.
            load: makes the value of them.

        Raises:
            Exception: what `load` raises.
        """
        self._files = files
        self._load = load
        self._lock = Lock()
        self._seen = self._look()
        self._value = load()
        self._next = time.monotonic() + INTERVAL_S

    def get(self) -> T:
        """Return the value; looks at the files once a second at most."""
        if time.monotonic() >= self._next and self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        return self._value

    def _refresh(self) -> None:
        self._next = time.monotonic() + INTERVAL_S
        found = self._look()
        if found == self._seen:
            return
        self._seen = found
        names = ", ".join(map(str, self._files))
        try:
            self._value = self._load()
        except (OSError, ValueError) as error:
            log.error("%s changed and cannot be used, what was read before stays in force: %s", names, error)
        else:
            log.info("%s read again", names)

    def _look(self) -> list[tuple[int, ...] | None]:
        return [_identity(file) for file in self._files]


def _identity(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
