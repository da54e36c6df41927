"""Probabilities of pictures; what several requests ask for at the same time goes into one call of the model server."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from serving import metrics
from serving.backend import RefusedError
from serving.catalog import Served
from serving.deadline import Deadline
from serving.errors import DeadlineExceededError, ModelServerError
from serving.merging import Merger

Predict = Callable[[Served, np.ndarray, Deadline], np.ndarray]


class Predictor:
    """Keeps a few calls under way; pictures that come meanwhile share the next one, if they are for the same version.

    Under load that saves most of what calls cost here and in the model server, and makes its batches. A request that
    comes alone is passed on at once.
    """

    def __init__(self, predict: Predict, calls: int, max_pictures: int) -> None:
        """Share calls.

        Args:
            predict: returns the probabilities of pictures, uint8 [N, H, W, 3], in their order, or raises.
            calls: how many are under way at a time.
            max_pictures: of a call that several share.
        """
        self._predict = predict
        self._merged = Merger(self._together, calls, max_pictures, alone_after=(ModelServerError, RefusedError))

    def __call__(self, served: Served, pixels: np.ndarray, deadline: Deadline) -> np.ndarray:
        """Return the probabilities of pictures, uint8 [N, H, W, 3].

        Raises:
            DeadlineExceededError: as the request's deadline says.
            Exception: what the call raised. A shared one that the model server refused or failed to answer is made
                again for each request, so that none has another's picture to suffer for, nor a model server that
                takes fewer at a time.
        """
        asked, key = _Asked(served, pixels, deadline), (served.name, served.version)
        while True:
            try:
                with metrics.MODEL_SERVER.time():
                    return self._merged(asked, key, len(pixels), deadline.remaining())
            except TimeoutError:
                raise DeadlineExceededError("the model server did not answer in time") from None
            except _OthersDeadlineError:
                continue

    def _together(self, requests: "Sequence[_Asked]") -> Sequence[np.ndarray | Exception]:
        first = requests[0]
        pixels = first.pixels if len(requests) == 1 else np.concatenate([request.pixels for request in requests])
        metrics.CALL_PICTURES.observe(len(pixels))
        try:
            probabilities = self._predict(first.served, pixels, first.deadline)
        except DeadlineExceededError as error:
            # The call had the time of the one that led; whoever has more asks again.
            return [error, *[_OthersDeadlineError()] * (len(requests) - 1)]
        ends = list(accumulate(len(request.pixels) for request in requests))
        return [probabilities[end - len(request.pixels) : end] for end, request in zip(ends, requests, strict=True)]


class _Asked(NamedTuple):
    """What a request asks for."""

    served: Served
    pixels: np.ndarray
    deadline: Deadline


class _OthersDeadlineError(Exception):
    """The call that a request shared ended with the time of another one."""
