"""Ask a gateway with other projects' clients; runs in the environment of `make clients`, prints JSON.

Usage: foreign_clients.py CLIENT URL GRPC_TARGET PICTURE PIXELS

PICTURE is an encoded picture, PIXELS an npy file of uint8 [1, h, w, 3].
"""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "tiny"


def kserve_v1(url: str, target: str, picture: bytes, pixels: np.ndarray) -> dict[str, Any]:
    """KServe's REST client, V1."""
    from kserve import InferenceRESTClient, RESTConfig

    body = {"instances": [{"b64": base64.b64encode(picture).decode()}]}

    async def ask() -> dict[str, Any]:
        client = InferenceRESTClient(RESTConfig(protocol="v1", timeout=60))
        try:
            return {
                "live": await client.is_server_live(url),
                "ready": await client.is_model_ready(url, MODEL),
                "predict": (await client.infer(url, body, model_name=MODEL))["predictions"],
                "explain": (await client.explain(url, MODEL, body))["explanations"][0]["label"],
                "error": await _caught(client.infer(url, {"instances": []}, model_name=MODEL)),
            }
        finally:
            await client.close()

    return asyncio.run(ask())


def kserve_v2(url: str, target: str, picture: bytes, pixels: np.ndarray) -> dict[str, Any]:
    """KServe's REST client, V2."""
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    def request(name: str, datatype: str, values: np.ndarray, binary: bool, *outputs: str) -> InferRequest:
        tensor = InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, binary_data=binary)
        asked = [RequestedOutput(output, {"binary_data": binary}) for output in outputs]
        return InferRequest(MODEL, [tensor], request_id="42", request_outputs=asked)

    async def ask() -> dict[str, Any]:
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))

        async def infer(*args: Any) -> dict[str, list[Any]]:
            answer = await client.infer(url, request(*args), model_name=MODEL)
            assert answer.id == "42"
            return {output.name: _plain(output.as_numpy()) for output in answer.outputs}

        text = base64.b64encode(picture)
        try:
            return {
                "live": await client.is_server_live(url),
                "ready": await client.is_server_ready(url),
                "model_ready": await client.is_model_ready(url, MODEL),
                "base64": await infer("image_bytes", "BYTES", np.array([text], object), False),
                "binary": await infer("image_bytes", "BYTES", np.array([picture], object), True, "probabilities"),
                "pixels": await infer("images", "UINT8", pixels, False),
                "binary_pixels": await infer("images", "UINT8", pixels, True, "probabilities"),
                "error": await _caught(infer("x", "UINT8", pixels, False)),
            }
        finally:
            await client.close()

    return asyncio.run(ask())


def kserve_grpc(url: str, target: str, picture: bytes, pixels: np.ndarray) -> dict[str, Any]:
    """KServe's gRPC client."""
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    async def ask() -> dict[str, Any]:
        client = InferenceGRPCClient(target)

        async def infer(name: str, datatype: str, values: np.ndarray) -> dict[str, list[Any]]:
            tensor = InferInput(name, list(values.shape), datatype)
            tensor.set_data_from_numpy(values)
            answer = await client.infer(InferRequest(MODEL, [tensor], request_id="42"))
            assert answer.id == "42"
            return {output.name: _plain(output.as_numpy()) for output in answer.outputs}

        try:
            return {
                "live": await client.is_server_live(),
                "ready": await client.is_server_ready(),
                "model_ready": await client.is_model_ready(MODEL),
                "picture": await infer("image_bytes", "BYTES", np.array([picture], object)),
                "pixels": await infer("images", "UINT8", pixels),
            }
        finally:
            await client.close()

    return asyncio.run(ask())


def triton_http(url: str, target: str, picture: bytes, pixels: np.ndarray) -> dict[str, Any]:
    """Triton's HTTP client."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(url.removeprefix("http://"), connection_timeout=60, network_timeout=60)
    found = _ask_triton(triton, client, picture, pixels)
    metadata = client.get_model_metadata(MODEL)
    found["inputs"] = {item["name"]: item["shape"] for item in metadata["inputs"]}
    found["server"] = client.get_server_metadata()["name"]
    tensor = triton.InferInput("images", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=False)
    asked = [triton.InferRequestedOutput(name, binary_data=False) for name in ("probabilities", "label")]
    answer = client.infer(MODEL, [tensor], outputs=asked)
    found["json"] = {name: _plain(answer.as_numpy(name)) for name in ("probabilities", "label")}
    return found


def triton_grpc(url: str, target: str, picture: bytes, pixels: np.ndarray) -> dict[str, Any]:
    """Triton's gRPC client."""
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(target)
    found = _ask_triton(triton, client, picture, pixels)
    metadata = client.get_model_metadata(MODEL)
    found["inputs"] = {item.name: list(item.shape) for item in metadata.inputs}
    found["server"] = client.get_server_metadata().name
    return found


def _ask_triton(triton: Any, client: Any, picture: bytes, pixels: np.ndarray) -> dict[str, Any]:
    names = ("probabilities", "label", "score")

    def infer(name: str, datatype: str, values: np.ndarray, version: str = "") -> dict[str, list[Any]]:
        tensor = triton.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        asked = [triton.InferRequestedOutput(output) for output in names]
        answer = client.infer(MODEL, [tensor], model_version=version, outputs=asked, request_id="42")
        return {output: _plain(answer.as_numpy(output)) for output in names}

    def error() -> str:
        try:
            infer("images", "UINT8", pixels, "9")
        except triton.InferenceServerException as caught:
            return caught.message()
        return ""

    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(MODEL, "1"),
        "picture": infer("image_bytes", "BYTES", np.array([picture], object)),
        "pixels": infer("images", "UINT8", pixels),
        "older": infer("images", "UINT8", pixels, "1"),
        "error": error(),
    }


async def _caught(call: Any) -> str:
    try:
        await call
    except Exception as error:
        return str(error)
    return ""


def _plain(values: np.ndarray) -> list[Any]:
    return [item.decode() if isinstance(item, bytes) else item for item in values.ravel().tolist()]


if __name__ == "__main__":
    name, url, target, picture, pixels = sys.argv[1:]
    print(json.dumps(globals()[name](url, target, Path(picture).read_bytes(), np.load(pixels))))
