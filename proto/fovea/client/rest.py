"""The client's REST side."""

import io
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from PIL import Image

from fovea.client.answers import Box, Classification, ClassScore, Explanation, Layer, Model, Overlay, Served
from fovea.client.errors import FoveaError, UnavailableError
from fovea.client.transport import Asked, Target

_OCTETS = "application/octet-stream"
_BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)


class Rest:
    """Asks over REST."""

    def __init__(self, url: str, api_key: str | None, ca_file: Path | None) -> None:
        headers = {} if api_key is None else {"X-Api-Key": api_key}
        verify = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
        self._http = httpx.Client(base_url=url, headers=headers, verify=verify)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self, seconds: float) -> list[Model]:
        """List the models."""
        return [_model(row) for row in self._ask("GET", "/v1/models", seconds).json()["models"]]

    def classify(
        self, asked: Asked, pictures: Sequence[bytes], top_k: int | None, seconds: float
    ) -> list[Classification]:
        """Name the class of each picture."""
        files = [("file", ("picture", picture, _OCTETS)) for picture in pictures]
        answer = self._ask("POST", f"{_path(asked)}:classify", seconds, {"top_k": top_k}, files=files).json()
        served = Served(**answer["model"])
        return [_classification(served, row) for row in answer["classifications"]]

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
        query = {"method": method, "layer": layer, **_query(target)}
        return self._explain(asked, "grad-cam", picture, query, overlay, seconds)

    def attributions(
        self, asked: Asked, picture: bytes, target: Target, overlay: Overlay | None, seconds: float
    ) -> Explanation:
        """Explain a class by integrated gradients."""
        return self._explain(asked, "attributions", picture, _query(target), overlay, seconds)

    def activations(
        self, asked: Asked, picture: bytes, layer: str, channels: Sequence[int], seconds: float
    ) -> np.ndarray:
        """Return float32 [h, w, channels]."""
        query = {"layer": layer, "channels": ",".join(map(str, channels)) or None}
        (array,) = self._arrays("POST", f"{_path(asked)}/explain/activations", seconds, query, picture).values()
        return array[0]

    def filters(self, asked: Asked, layer: str, filters: Sequence[int], seconds: float) -> np.ndarray:
        """Return uint8 [filters, h, w, 3]."""
        query = {"layer": layer, "filter": ",".join(map(str, filters)) or None}
        return self._arrays("GET", f"{_path(asked)}/explain/filters", seconds, query)["patterns"]

    def _explain(
        self,
        asked: Asked,
        kind: str,
        picture: bytes,
        query: Mapping[str, Any],
        overlay: Overlay | None,
        seconds: float,
    ) -> Explanation:
        answer = self._ask("POST", f"{_path(asked)}/explain/{kind}", seconds, query, content=picture).json()
        served, (row,) = Served(**answer["model"]), answer["explanations"]
        drawn = None
        if overlay is not None:
            # Of the version and the class that were answered, also where others have come in between.
            same = Asked(served.name, served.version, None)
            how = {**query, "class": row["class_index"] if "position" not in row else row["label"], **_drawing(overlay)}
            png = self._ask(
                "POST", f"{_path(same)}/explain/{kind}", seconds, how, content=picture, accept="image/png"
            ).content
            drawn = Image.open(io.BytesIO(png)).convert("RGB")
        return Explanation(
            model=served,
            label=row["label"],
            class_index=row["class_index"],
            score=row["score"],
            method=row["method"],
            layer=row.get("layer"),
            heatmap=np.array(row["heatmap"], np.float32),
            peak=row["peak"],
            box=None if row["box"] is None else Box(**row["box"]),
            position=row.get("position"),
            overlay=drawn,
        )

    def _arrays(
        self, method: str, path: str, seconds: float, query: Mapping[str, Any], content: bytes | None = None
    ) -> dict[str, np.ndarray]:
        answer = self._ask(method, path, seconds, query, content=content, accept="application/x-npz")
        with np.load(io.BytesIO(answer.content)) as arrays:
            return dict(arrays)

    def _ask(
        self,
        method: str,
        path: str,
        seconds: float,
        query: Mapping[str, Any] | None = None,
        accept: str = "application/json",
        **body: Any,
    ) -> httpx.Response:
        headers = {"Accept": accept, "X-Request-Timeout": f"{seconds:.3f}"}
        if body.get("content") is not None:
            headers["Content-Type"] = _OCTETS
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            answer = self._http.request(method, path, params=parameters, headers=headers, timeout=seconds, **body)
        except httpx.ConnectTimeout as error:
            raise UnavailableError("UNREACHABLE", f"the gateway cannot be reached: {error}") from error
        except httpx.TimeoutException as error:
            raise FoveaError("DEADLINE_EXCEEDED", "the gateway did not answer in time") from error
        except httpx.TransportError as error:
            raise UnavailableError("UNREACHABLE", f"the gateway cannot be reached: {error}") from error
        if answer.is_success:
            return answer
        raise _error(answer)


def _error(answer: httpx.Response) -> FoveaError:
    try:
        body = answer.json()
        code, sentence, request_id = body["code"], body["error"], body.get("request_id")
    except (ValueError, KeyError, TypeError):
        # Not the gateway, but something in between.
        code, sentence, request_id = f"HTTP_{answer.status_code}", answer.reason_phrase or "no reason given", None
    if answer.status_code in _BUSY:
        after = answer.headers.get("Retry-After", "")
        return UnavailableError(code, sentence, request_id, float(after) if after.isdigit() else None)
    return FoveaError(code, sentence, request_id)


def _path(asked: Asked) -> str:
    path = f"/v1/models/{quote(asked.name, safe='')}"
    if asked.version is not None:
        return f"{path}/versions/{asked.version}"
    return path if asked.label is None else f"{path}/labels/{quote(asked.label, safe='')}"


def _query(target: Target) -> dict[str, Any]:
    return {"class": target.class_name, "position": target.position}


def _drawing(overlay: Overlay) -> dict[str, Any]:
    return {
        "alpha": overlay.alpha,
        "colormap": overlay.colormap,
        "box": str(overlay.box).lower(),
        "legend": str(overlay.legend).lower(),
    }


def _classification(served: Served, row: Mapping[str, Any]) -> Classification:
    return Classification(
        model=served,
        label=row["label"],
        score=row["score"],
        top_k=tuple(ClassScore(**best) for best in row.get("top_k", ())),
        positions=tuple(_classification(served, position) for position in row.get("positions", ())),
    )


def _model(row: Mapping[str, Any]) -> Model:
    names = Layer.__dataclass_fields__
    return Model(
        name=row["name"],
        ready=row["ready"],
        version=row["version"],
        classes=tuple(row["classes"]),
        layers=tuple(Layer(**{name: layer.get(name, False) for name in names}) for layer in row["layers"]),
    )
