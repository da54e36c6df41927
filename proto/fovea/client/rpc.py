"""The client's gRPC side."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image

from fovea.client.answers import Box, Classification, ClassScore, Explanation, Layer, Model, Overlay, Served
from fovea.client.errors import FoveaError, UnavailableError
from fovea.client.transport import Asked, Target
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc

_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Grpc:
    """Asks over gRPC."""

    def __init__(self, target: str, encrypted: bool, api_key: str | None, ca_file: Path | None) -> None:
        if encrypted:
            roots = None if ca_file is None else ca_file.read_bytes()
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), _UNLIMITED)
        else:
            self._channel = grpc.insecure_channel(target, _UNLIMITED)
        self._vision = vision_pb2_grpc.VisionStub(self._channel)
        self._metadata = () if api_key is None else (("x-api-key", api_key),)

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()

    def models(self, seconds: float) -> list[Model]:
        """List the models."""
        return [_model(row) for row in self._ask(self._vision.ListModels, pb.ListModelsRequest(), seconds).models]

    def classify(
        self, asked: Asked, pictures: Sequence[bytes], top_k: int | None, seconds: float
    ) -> list[Classification]:
        """Name the class of each picture."""
        request = pb.ClassifyRequest(model=_ref(asked), images=pictures, top_k=top_k)
        answer = self._ask(self._vision.Classify, request, seconds)
        return [_classification(_served(answer), row) for row in answer.classifications]

    def grad_cam(
        self,
        asked: Asked,
        picture: bytes,
        method: str,
        layer: str | None,
        target: Target,
        overlay: Overlay | None,
        seconds: float,
    ) -> Explanation:
        """Explain a class by a class-activation map."""
        request = pb.GradCamRequest(
            model=_ref(asked),
            images=[picture],
            targets=_targets(target),
            layer=layer,
            methods=[method],
            overlay=_overlay(overlay),
        )
        return _explanation(self._ask(self._vision.GradCam, request, seconds))

    def attributions(
        self, asked: Asked, picture: bytes, target: Target, overlay: Overlay | None, seconds: float
    ) -> Explanation:
        """Explain a class by integrated gradients."""
        request = pb.AttributionsRequest(
            model=_ref(asked), images=[picture], targets=_targets(target), overlay=_overlay(overlay)
        )
        return _explanation(self._ask(self._vision.Attributions, request, seconds))

    def activations(
        self, asked: Asked, picture: bytes, layer: str, channels: Sequence[int], seconds: float
    ) -> np.ndarray:
        """Return float32 [h, w, channels]."""
        request = pb.ActivationsRequest(
            model=_ref(asked), images=[picture], layers=[layer], channels=channels, values=True
        )
        answer = self._ask(self._vision.Activations, request, seconds)
        return _array(answer.pictures[0].layers[0].activations)

    def filters(self, asked: Asked, layer: str, filters: Sequence[int], seconds: float) -> np.ndarray:
        """Return uint8 [filters, h, w, 3]."""
        request = pb.FilterPatternsRequest(model=_ref(asked), layer=layer, filters=filters)
        answer = self._ask(self._vision.FilterPatterns, request, seconds)
        return np.stack([np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in answer.patterns_png])

    def _ask(self, method: Callable[..., Any], request: Any, seconds: float) -> Any:
        try:
            return method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _error(error) from error


def _error(error: Any) -> FoveaError:
    trailers = dict(error.trailing_metadata() or ())
    status, sentence = error.code(), error.details() or "no reason given"
    code, request_id = trailers.get("fovea-error-code"), trailers.get("x-request-id")
    if status is grpc.StatusCode.UNAVAILABLE and code is None:
        return UnavailableError("UNREACHABLE", f"the gateway cannot be reached: {sentence}", request_id)
    # gRPC has one status for too much to do and for too large; the gateway's own code tells them apart.
    busy = status is grpc.StatusCode.RESOURCE_EXHAUSTED and code != "TOO_LARGE" and "larger than max" not in sentence
    if busy or status is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError(code or status.name, sentence, request_id)
    return FoveaError(code or status.name, sentence, request_id)


def _ref(asked: Asked) -> pb.ModelRef:
    if asked.version is not None:
        return pb.ModelRef(name=asked.name, version=asked.version)
    return pb.ModelRef(name=asked.name) if asked.label is None else pb.ModelRef(name=asked.name, label=asked.label)


def _targets(target: Target) -> pb.Targets:
    classes = [] if target.class_name is None else [target.class_name]
    return pb.Targets(classes=classes, position=target.position)


def _overlay(overlay: Overlay | None) -> pb.Overlay | None:
    return None if overlay is None else pb.Overlay(**vars(overlay))


def _served(answer: Any) -> Served:
    return Served(answer.model.name, answer.model.version)


def _array(tensor: pb.FloatTensor) -> np.ndarray:
    return np.frombuffer(tensor.float32_values, "<f4").reshape(tensor.shape).astype(np.float32)


def _classification(served: Served, row: pb.Classification) -> Classification:
    return Classification(
        model=served,
        label=row.label,
        score=row.score,
        top_k=tuple(ClassScore(best.label, best.class_index, best.score) for best in row.top_k),
        positions=tuple(_classification(served, position) for position in row.positions),
    )


def _explanation(answer: Any) -> Explanation:
    (row,) = answer.explanations
    box = Box(row.box.left, row.box.top, row.box.right, row.box.bottom) if row.HasField("box") else None
    return Explanation(
        model=_served(answer),
        label=row.label,
        class_index=row.class_index,
        score=row.score,
        method=row.method,
        layer=row.layer or None,
        heatmap=_array(row.heatmap),
        peak=row.peak,
        box=box,
        position=row.position if row.HasField("position") else None,
        overlay=Image.open(io.BytesIO(row.overlay_png)).convert("RGB") if row.overlay_png else None,
    )


def _model(row: pb.ModelStatus) -> Model:
    names = Layer.__dataclass_fields__
    loaded = [item.version for item in row.versions if item.state == "AVAILABLE"]
    return Model(
        name=row.name,
        ready=row.ready,
        version=max(loaded) if row.ready and loaded else None,
        classes=tuple(row.card.class_names),
        layers=tuple(Layer(**{name: getattr(layer, name) for name in names}) for layer in row.card.layers),
    )
