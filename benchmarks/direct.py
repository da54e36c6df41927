"""Calls to the model server that do not pass through the gateway."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import grpc
import numpy as np

from serving import tensors, wire

TIMEOUT_S = 60

Call = Callable[[], wire.PredictResponse]


@contextmanager
def predictor(target: str, model: str) -> Iterator[Callable[[str, Mapping[str, np.ndarray]], Call]]:
    """Give a function that makes, of a signature's name and inputs, a call with the request written beforehand."""
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = wire.PredictionServiceStub(channel)

        def prepare(signature: str, inputs: Mapping[str, np.ndarray]) -> Call:
            request = wire.PredictRequest(model_spec=wire.ModelSpec(name=model, signature_name=signature))
            for name, array in inputs.items():
                request.inputs[name].CopyFrom(tensors.to_proto(array))
            return lambda: stub.Predict(request, timeout=TIMEOUT_S)

        yield prepare
