"""The time that a request has left."""

import time

from serving.errors import DeadlineExceededError


class Deadline:
    """A moment by which a request has to be answered."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, more than 0.

        Raises:
            DeadlineExceededError: none are left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError(f"the request took longer than {self._seconds:g} seconds")
        return left
