"""One loaded version of a model: a SavedModel in a graph and a session of its own."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.model_server.batching import Batcher, Run
from serving.model_server.errors import ServingError, invalid

DEFAULT_SIGNATURE = "serving_default"
_WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_MAX_WARMUP_RECORDS = 1000
_MAX_TIMEOUT_S = 1e6
_TYPE_NAMES = {tf.float16: "half", tf.float32: "float", tf.float64: "double"}


def type_name(dtype: tf.DType) -> str:
    """Name a type as TensorFlow Serving's messages do (`float`, not `float32`)."""
    return _TYPE_NAMES.get(dtype, dtype.name)


def as_written() -> tf.compat.v1.ConfigProto:
    """Return a configuration that leaves graphs as they are: to rewrite one takes longer than a single call."""
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


class Servable:
    """A model version ready to answer; any number of threads may call it at once.

    Raises ServingError or `tf.errors.OpError` from the constructor when the SavedModel cannot be loaded or one of
    its warm-up requests fails. With `batching`, calls that come while others are computed are merged.
    """

    def __init__(
        self,
        name: str,
        version: int,
        path: str,
        config: tf.compat.v1.ConfigProto | None = None,
        batching: bool = False,
    ) -> None:
        self.name = name
        self.version = version
        self._compute: Run = Batcher(self._run) if batching else self._run
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            self.signatures = _load(self._session, path)
            for request in _warmup_requests(path):
                self.predict(request)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the session."""
        self._session.close()

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Iterable[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Run one signature; an empty `output_filter` fetches every output.

        `inputs` and the result are keyed by the names in the signature; strings are arrays of `bytes` objects.
        Raises ServingError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for wrong input or output
        names, types or shapes. What the graph itself raises is a `tf.errors.OpError`.
        """
        if signature_name not in self.signatures:
            raise ServingError(StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature_name}" not found.')
        signature = self.signatures[signature_name]
        _check_inputs(signature, inputs)
        _check_outputs(signature, list(output_filter))
        return self._compute(signature_name, inputs, output_filter, timeout_s)

    def _run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Iterable[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, np.ndarray]:
        signature = self.signatures[signature_name]
        fetches = {alias: signature.outputs[alias].name for alias in output_filter or signature.outputs}
        feeds = {signature.inputs[alias].name: array for alias, array in inputs.items()}
        # gRPC reports a call without a deadline as one with centuries left.
        timeout_ms = max(1, int(timeout_s * 1000)) if timeout_s is not None and timeout_s < _MAX_TIMEOUT_S else 0
        options = tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms) if timeout_ms else None
        outputs = self._session.run(fetches, feeds, options)
        # A scalar string comes back as plain bytes, whose natural numpy type would drop trailing zero bytes.
        return {
            alias: np.asarray(value, object if isinstance(value, bytes) else None) for alias, value in outputs.items()
        }

    def predict(
        self, request: predict_pb2.PredictRequest, timeout_s: float | None = None
    ) -> predict_pb2.PredictResponse:
        """Answer a PredictRequest, whatever model its spec names; errors as `run`."""
        inputs = {}
        for alias, tensor in request.inputs.items():
            try:
                inputs[alias] = tf.make_ndarray(tensor)
            except (TypeError, ValueError, OverflowError, MemoryError) as error:
                raise invalid(f"tensor parsing error: {alias}") from error
        signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        outputs = self.run(signature_name, inputs, request.output_filter, timeout_s)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = signature_name
        infos = self.signatures[signature_name].outputs
        for alias, array in outputs.items():
            response.outputs[alias].CopyFrom(tf.make_tensor_proto(array, dtype=infos[alias].dtype))
        return response


def _load(session: tf.compat.v1.Session, path: str) -> dict[str, meta_graph_pb2.SignatureDef]:
    # TensorFlow Serving loads in this way too: what `tf.saved_model.load` forgives fails here.
    try:
        return dict(tf.compat.v1.saved_model.loader.load(session, {"serve"}, path).signature_def)
    except (OSError, RuntimeError, ValueError) as error:
        # Missing files, tags or variables.
        raise ServingError(StatusCode.NOT_FOUND, str(error)) from error


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _check_inputs(signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, np.ndarray]) -> None:
    wanted, sent = set(signature.inputs), set(inputs)
    if len(sent) != len(wanted):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_set(sent)}) != len({_set(wanted)}). "
            f"Sent extra: {_set(sent - wanted)}. Missing but required: {_set(wanted - sent)}."
        )
    for index, (alias, array) in enumerate(inputs.items()):
        if alias not in wanted:
            raise invalid(
                f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set {_set(wanted)}."
            )
        info = signature.inputs[alias]
        expected, given = tf.as_dtype(info.dtype), tf.as_dtype(array.dtype)
        if expected != given:
            raise invalid(
                f"Expects arg[{index}] to be {type_name(expected)} but {type_name(given)} is provided, in input {alias}"
            )
        shape = tf.TensorShape(info.tensor_shape)
        if not shape.is_compatible_with(array.shape):
            raise invalid(f"Input {alias} has shape {list(array.shape)} but the signature expects {shape}.")


def _check_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: list[str]) -> None:
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_set(signature.outputs)}."
            )
        if output_filter.count(alias) > 1:
            raise invalid(f"duplicate output tensor alias: {alias}")


def _warmup_requests(path: str) -> Iterator[predict_pb2.PredictRequest]:
    file = tf.io.gfile.join(path, _WARMUP_FILE)
    if not tf.io.gfile.exists(file):
        return
    for number, record in enumerate(tf.data.TFRecordDataset(file).as_numpy_iterator()):
        if number == _MAX_WARMUP_RECORDS:
            raise invalid(f"{file} holds more than {_MAX_WARMUP_RECORDS} warm-up records.")
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            raise ServingError(
                StatusCode.UNIMPLEMENTED,
                f"Warm-up record {number} of {file} is not a predict_log, the only kind run here.",
            )
        yield log.predict_log.request
