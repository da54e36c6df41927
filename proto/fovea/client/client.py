"""The client: pictures and parameters in, data classes out; knows neither REST nor gRPC."""

import io
import time
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import numpy as np
import tenacity
from PIL import Image

from fovea.client.answers import Classification, Explanation, Model, Overlay
from fovea.client.errors import UnavailableError
from fovea.client.transport import Asked, Target, Transport

T = TypeVar("T")
Picture = bytes | str | PathLike[str] | Image.Image | np.ndarray
"""An encoded picture, the path of one, an image of Pillow, or RGB pixels as uint8 [h, w, 3]."""


class Client:
    """Asks a gateway; safe to use from many threads, to be closed or used in a `with` block.

    All calls raise `FoveaError`: `UnavailableError` where it is worth trying again later, which the client itself has
    done as long as time and attempts allowed.
    """

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        attempts: int = 4,
        ca_file: str | PathLike[str] | None = None,
    ) -> None:
        """Connect at the first call.

        Args:
            address: `http://host:port` or `https://…` for REST, `grpc://host:port` or `grpcs://…` (with TLS) for gRPC.
            api_key: where the gateway asks for one.
            timeout_s: seconds for a call, all its attempts included; the gateway is told what is left.
            attempts: how often to try in all where the gateway is away or busy.
            ca_file: certificates, in PEM, that prove the gateway, in place of those that the system trusts.

        Raises:
            ValueError: another address.
        """
        self._transport = _transport(address, api_key, None if ca_file is None else Path(ca_file))
        self._timeout_s = timeout_s
        self._attempts = attempts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def models(self) -> list[Model]:
        """List the models that the gateway answers for."""
        return self._call(self._transport.models)

    def classify(
        self,
        model: str,
        picture: Picture,
        *,
        top_k: int | None = None,
        version: int | None = None,
        label: str | None = None,
    ) -> Classification:
        """Name the class of a picture, or read its text.

        Args:
            model: name of the model; without version and label the newest version answers.
            picture: the picture.
            top_k: how many classes to list; None: five, or all where there are fewer.
            version: number of the version.
            label: label of the version, such as stable.
        """
        return self.classify_all(model, [picture], top_k=top_k, version=version, label=label)[0]

    def classify_all(
        self,
        model: str,
        pictures: Sequence[Picture],
        *,
        top_k: int | None = None,
        version: int | None = None,
        label: str | None = None,
    ) -> list[Classification]:
        """Name the classes of several pictures in one call; parameters as for `classify`."""
        asked, encoded = Asked(model, version, label), [_encode(picture) for picture in pictures]
        return self._call(lambda seconds: self._transport.classify(asked, encoded, top_k, seconds))

    def grad_cam(
        self,
        model: str,
        picture: Picture,
        *,
        method: str = "grad_cam",
        layer: str | None = None,
        target: str | int | None = None,
        position: int | None = None,
        overlay: Overlay | None = None,
        version: int | None = None,
        label: str | None = None,
    ) -> Explanation:
        """Show where a picture speaks for a class.

        Args:
            model: name of the model.
            picture: the picture.
            method: grad_cam, hires_cam, grad_cam_pp or layer_cam.
            layer: name of a convolution; None: the last.
            target: name or index of the class; None: the predicted one.
            position: character of the text to explain, counted from 0 (models that read texts).
            overlay: also draw the map over the picture.
            version: number of the version.
            label: label of the version.
        """
        asked, encoded = Asked(model, version, label), _encode(picture)
        wanted = Target(None if target is None else str(target), position)
        return self._call(lambda left: self._transport.grad_cam(asked, encoded, method, layer, wanted, overlay, left))

    def attributions(
        self,
        model: str,
        picture: Picture,
        *,
        target: str | int | None = None,
        position: int | None = None,
        overlay: Overlay | None = None,
        version: int | None = None,
        label: str | None = None,
    ) -> Explanation:
        """Show what each pixel adds to the score of a class, by integrated gradients; parameters as for `grad_cam`."""
        asked, encoded = Asked(model, version, label), _encode(picture)
        wanted = Target(None if target is None else str(target), position)
        return self._call(lambda left: self._transport.attributions(asked, encoded, wanted, overlay, left))

    def activations(
        self,
        model: str,
        picture: Picture,
        layer: str,
        *,
        channels: Sequence[int] = (),
        version: int | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """Return what a layer makes of a picture.

        Args:
            model: name of the model.
            picture: the picture.
            layer: name of a convolution or pooling layer.
            channels: channels to return; empty: all.
            version: number of the version.
            label: label of the version.

        Returns:
            float32 [h, w, channels].
        """
        asked, encoded = Asked(model, version, label), _encode(picture)
        return self._call(lambda left: self._transport.activations(asked, encoded, layer, channels, left))

    def filters(
        self,
        model: str,
        layer: str,
        *,
        filters: Sequence[int] = (),
        version: int | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """Return the patterns that filters of a convolution respond to most.

        Args:
            model: name of the model.
            layer: name of a convolution.
            filters: filters to draw, at most 64; empty: the first 16.
            version: number of the version.
            label: label of the version.

        Returns:
            uint8 [filters, h, w, 3], of the model's input size.
        """
        asked = Asked(model, version, label)
        return self._call(lambda left: self._transport.filters(asked, layer, filters, left))

    def _call(self, ask: Callable[[float], T]) -> T:
        """Ask, again while the gateway is away or busy; `ask` is given the seconds that are left."""
        end = time.monotonic() + self._timeout_s
        again = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(UnavailableError),
            stop=tenacity.stop_after_attempt(self._attempts) | tenacity.stop_before_delay(self._timeout_s),
            wait=_wait,
            reraise=True,
        )
        return again(lambda: ask(max(end - time.monotonic(), 0.001)))


_backoff = tenacity.wait_random_exponential(multiplier=0.1, max=2)


def _wait(state: tenacity.RetryCallState) -> float:
    """Wait as long as the gateway asks for, and so much longer that clients do not all come back at once."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, UnavailableError) else None
    return (asked or 0.0) + _backoff(state)


def _transport(address: str, api_key: str | None, ca_file: Path | None) -> Transport:
    parts = urlsplit(address)
    if not parts.netloc or parts.scheme not in ("http", "https", "grpc", "grpcs"):
        raise ValueError(f"{address!r} is no address: http://, https://, grpc:// or grpcs:// with a host and a port")
    # Each only where it is used: gRPC is not needed for REST, nor httpx for gRPC.
    if parts.scheme.startswith("http"):
        from fovea.client.rest import Rest

        return Rest(address, api_key, ca_file)
    from fovea.client.rpc import Grpc

    return Grpc(parts.netloc, parts.scheme == "grpcs", api_key, ca_file)


def _encode(picture: Picture) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | PathLike):
        return Path(picture).read_bytes()
    stream = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(stream, "PNG")
    return stream.getvalue()
