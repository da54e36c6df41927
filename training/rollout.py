"""Labels and loading: TensorFlow Serving refuses a label on a version that it has not loaded."""

import time

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from training.errors import FoveaError

LOAD_TIMEOUT_S = 300.0
_POLL_S = 0.5


def wait_until_loaded(server: str, model: str, version: int, timeout_s: float = LOAD_TIMEOUT_S) -> None:
    """Wait until a model server answers for a version.

    Args:
        server: its gRPC address, host:port.
        model: name of the model.
        version: the version.
        timeout_s: how long to wait.

    Raises:
        FoveaError: the version failed to load, or did not within the time; the last reason is told.
    """
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    request.model_spec.version.value = version
    state = get_model_status_pb2.ModelVersionStatus.State
    reason = "it did not answer"
    deadline = time.monotonic() + timeout_s
    with grpc.insecure_channel(server) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        while time.monotonic() < deadline:
            try:
                (status,) = stub.GetModelStatus(request, timeout=5).model_version_status
            except grpc.RpcError as error:
                reason = error.details() or error.code().name
            else:
                if status.state == state.AVAILABLE:
                    return
                if status.state == state.END and status.status.error_code:
                    raise FoveaError(f"version {version} of {model!r} failed to load: {status.status.error_message}")
                reason = f"it is in state {state.Name(status.state)}"
            time.sleep(_POLL_S)
    raise FoveaError(f"{server} did not load version {version} of {model!r} within {timeout_s:.0f} s: {reason}")
