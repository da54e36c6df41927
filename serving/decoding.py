"""The pictures of requests, decoded within bounded memory."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
from PIL import Image

from serving import metrics
from serving.contract import images
from serving.deadline import Deadline
from serving.errors import DeadlineExceededError, EmptyBodyError, NotAnImageError, TooManyPixelsError
from serving.settings import Settings

# Pillow warns of what is odd in a picture, in words that hold its values: each is remembered for good. Some of it it
# logs as an error. But what is wrong with a picture is for whoever sent it.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

Picture = bytes | np.ndarray
"""An encoded picture, or its RGB pixels as uint8 [h, w, 3]."""


class Decoder:
    """Decodes pictures, large ones one at a time.

    Of the others all that can be worked on together have no more pixels than one of `max_pixels`. So the pixels in
    memory are bounded by twice that, however many requests there are.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_pixels = settings.max_pixels
        self._large = settings.max_pixels // settings.max_in_flight
        self._turn = Lock()

    def resized(
        self, image: Picture, height: int, width: int, position: int | None, deadline: Deadline
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Decode a picture to the size that a model takes.

        Args:
            image: the picture.
            height: of the result.
            width: of the result.
            position: the picture's place in its request, for what is said of it; None: it is the only one.
            deadline: the request's.

        Returns:
            uint8 [height, width, 3], and the picture's own size (width, height).

        Raises:
            FoveaError: it is no picture or too large, or the time is up before its turn.
        """
        header = self._header(image, position)
        with self._turn_of(header, deadline), metrics.DECODE.time():
            picture = _load(header, position)
            return images.resize(picture, height, width), picture.size

    @contextmanager
    def whole(self, image: Picture, deadline: Deadline) -> Iterator[Image.Image]:
        """Decode a picture, RGB and upright, to work on it within a `with` block.

        Raises:
            FoveaError: as for `resized`.
        """
        header = self._header(image, None)
        with self._turn_of(header, deadline):
            yield _load(header, None)

    def _header(self, image: Picture, position: int | None) -> Image.Image:
        if isinstance(image, np.ndarray):
            return Image.fromarray(image)
        if not image:
            raise EmptyBodyError(f"{_where(position)}the picture has zero bytes")
        try:
            return images.open_header(image, self._max_pixels)
        except images.TooManyPixelsError as error:
            raise TooManyPixelsError(f"{_where(position)}{error}") from error
        except images.UndecodableImageError as error:
            raise NotAnImageError(f"{_where(position)}{error}") from error

    @contextmanager
    def _turn_of(self, header: Image.Image, deadline: Deadline) -> Iterator[None]:
        seconds = deadline.remaining()
        if header.width * header.height <= self._large:
            yield
            return
        if not self._turn.acquire(timeout=seconds):
            raise DeadlineExceededError("the request's time ended while other large pictures were decoded")
        try:
            yield
        finally:
            self._turn.release()


def _load(header: Image.Image, position: int | None) -> Image.Image:
    try:
        return images.load(header)
    except images.UndecodableImageError as error:
        raise NotAnImageError(f"{_where(position)}{error}") from error


def _where(position: int | None) -> str:
    return "" if position is None else f"picture {position}: "
