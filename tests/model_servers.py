"""Model server processes on loopback, and tiny SavedModels for them to serve."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.launch import model_server_command

_REPOSITORY = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """Find a TCP port that nothing listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> float:
    """Wait for a condition and return how long that took, in seconds; raises AssertionError after `timeout_s`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started


class ModelServer:
    """A model server process on free ports, to be used in a `with` block that starts and stops it.

    It is the embedded one unless `FOVEA_MODEL_SERVER` or PATH names a real one. `log` receives what it writes.
    """

    def __init__(self, log: Path, *flags: str, command: list[str] | None = None) -> None:
        self.log = log
        self.grpc_port, self.rest_port = free_port(), free_port()
        self.grpc_target = f"127.0.0.1:{self.grpc_port}"
        self.rest_url = f"http://127.0.0.1:{self.rest_port}"
        ports = (f"--port={self.grpc_port}", f"--rest_api_port={self.rest_port}")
        self._command = [*(command or model_server_command()), *ports, *flags]

    def __enter__(self) -> "ModelServer":
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process without waiting for it."""
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                self._command, cwd=_REPOSITORY, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(self.grpc_target, options=unlimited)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until both ports answer."""
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self.process.poll() is not None:
                raise RuntimeError(f"the model server ended with {self.process.returncode}:\n{self.log.read_text()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the model server did not answer in {timeout_s} s:\n{self.log.read_text()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with closing(socket.socket()) as grpc_probe, closing(socket.socket()) as rest_probe:
            return not (
                grpc_probe.connect_ex(("127.0.0.1", self.grpc_port))
                or rest_probe.connect_ex(("127.0.0.1", self.rest_port))
            )

    def stop(self, timeout_s: float = 15.0) -> int:
        """Send SIGTERM and return the exit status; a process that outlives `timeout_s` is killed."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def predict(
        self, spec: Mapping[str, Any], inputs: Mapping[str, Any], timeout_s: float = 30.0, **fields: Any
    ) -> dict[str, np.ndarray]:
        """Call Predict over gRPC and return the outputs; `spec` holds the fields of a ModelSpec."""
        response = self.prediction.Predict(predict_request(spec, inputs, **fields), timeout=timeout_s)
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def states(self, name: str) -> dict[int, tuple[str, int]]:
        """Return version to (state, error code) as GetModelStatus tells it; {} for an unknown model."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        try:
            response = self.models.GetModelStatus(request, timeout=10)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return {}
            raise
        name_of = get_model_status_pb2.ModelVersionStatus.State.Name
        return {s.version: (name_of(s.state), s.status.error_code) for s in response.model_version_status}

    def is_available(self, name: str, *versions: int) -> bool:
        """Tell whether all of these versions are in state AVAILABLE."""
        states = self.states(name)
        return all(states.get(version) == ("AVAILABLE", 0) for version in versions)

    def reload(self, config: model_server_config_pb2.ModelServerConfig, timeout_s: float = 30.0) -> None:
        """Replace the configuration through HandleReloadConfigRequest."""
        self.models.HandleReloadConfigRequest(
            model_management_pb2.ReloadConfigRequest(config=config), timeout=timeout_s
        )


def model_spec(name: str, version: int | None = None, label: str = "", signature_name: str = "") -> dict[str, Any]:
    """Make the fields of a ModelSpec."""
    spec: dict[str, Any] = {"name": name, "signature_name": signature_name}
    if version is not None:
        spec["version"] = {"value": version}
    if label:
        spec["version_label"] = label
    return spec


def predict_request(spec: Mapping[str, Any], inputs: Mapping[str, Any], **fields: Any) -> predict_pb2.PredictRequest:
    """Make a PredictRequest; inputs are arrays, or TensorProtos to be sent as they are."""
    request = predict_pb2.PredictRequest(model_spec=spec, **fields)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(
            value if isinstance(value, type(request.inputs[name])) else tf.make_tensor_proto(value)
        )
    return request


def models_config(*models: Mapping[str, Any]) -> model_server_config_pb2.ModelServerConfig:
    """Make a ModelServerConfig from the fields of its ModelConfigs, `model_platform` filled in."""
    config = model_server_config_pb2.ModelServerConfig()
    for model in models:
        config.model_config_list.config.add(model_platform="tensorflow", **model)
    return config


def write_config(path: Path, config: model_server_config_pb2.ModelServerConfig) -> None:
    """Write a configuration file, in one step so that no reader sees half of it."""
    staged = path.with_suffix(".staged")
    staged.write_text(text_format.MessageToString(config))
    staged.rename(path)


def publish(source: Path, base_path: Path, version: int) -> None:
    """Put a copy of a SavedModel into a model folder: staged beside it, then renamed into place."""
    staged = base_path.parent / f"staged-{base_path.name}-{version}"
    shutil.copytree(source, staged)
    base_path.mkdir(exist_ok=True)
    staged.rename(base_path / str(version))


def publish_broken(base_path: Path, version: int) -> None:
    """Put a version into a model folder whose saved_model.pb is no SavedModel."""
    staged = base_path.parent / f"staged-{base_path.name}-{version}"
    staged.mkdir()
    (staged / "saved_model.pb").write_bytes(b"not a protocol buffer")
    staged.rename(base_path / str(version))


def write_warmup(model: Path, *requests: predict_pb2.PredictRequest) -> None:
    """Write the warm-up file of a SavedModel."""
    (model / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(model / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
# The mean brightness of each image and its complement, in float32.
PROBABILITIES = np.array([[23.5 / 255, 1 - 23.5 / 255], [71.5 / 255, 1 - 71.5 / 255]], np.float32)


def export_tiny(path: Path, version: int) -> None:
    """Export the model that the tests serve: one signature per thing that can happen to a request."""
    model = _Tiny(version)
    tf.saved_model.save(model, str(path), signatures={name: getattr(model, name) for name in _Tiny.SIGNATURES})


def _signature(**inputs: tf.TensorSpec) -> Callable[[Callable[..., Any]], Any]:
    return tf.function(input_signature=[tf.TensorSpec(s.shape, s.dtype, name=name) for name, s in inputs.items()])


_FLOATS = tf.TensorSpec([None], tf.float32)
_STRINGS = tf.TensorSpec([None], tf.string)
_PICTURES = tf.TensorSpec([None, 4, 4, 3], tf.uint8)


class _Tiny(tf.Module):
    SIGNATURES = ("serving_default", "version_number", "pair", "echo", "ratio", "text", "inflate", "read", "half",
                  "constant", "count")  # fmt: skip

    def __init__(self, version: int) -> None:
        super().__init__()
        # A variable, so that the variables' files take part.
        self.version = tf.Variable(version, dtype=tf.int64)

    @_signature(images=_PICTURES)
    def serving_default(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        brightness = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2, 3]) / 255
        return {"probabilities": tf.stack([brightness, 1 - brightness], axis=1)}

    @_signature(images=_PICTURES)
    def version_number(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"number": tf.fill([tf.shape(images)[0]], self.version)}

    @_signature(images=_PICTURES)
    def pair(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"darkest": tf.reduce_min(images, [1, 2, 3]), "brightest": tf.reduce_max(images, [1, 2, 3])}

    @_signature(values=_FLOATS)
    def echo(self, values: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"values": tf.identity(values)}

    @_signature(a=_FLOATS, b=_FLOATS)
    def ratio(self, a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"ratio": a / b}

    @_signature(text=_STRINGS)
    def text(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"copy": tf.identity(text), "copy_bytes": tf.identity(text), "length": tf.strings.length(text)}

    @_signature(data=_STRINGS)
    def inflate(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"data": tf.io.decode_compressed(data, "ZLIB")}

    @_signature(path=_STRINGS)
    def read(self, path: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"content": tf.map_fn(tf.io.read_file, path)}

    @_signature(values=_FLOATS)
    def half(self, values: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"values": tf.cast(values, tf.float16)}

    @_signature()
    def constant(self) -> dict[str, tf.Tensor]:
        return {"text": tf.constant(b"fixed\0")}

    @_signature(steps=tf.TensorSpec([None], tf.int32))
    def count(self, steps: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take a time that grows with `steps`, to have requests in flight."""
        last = tf.reduce_max(steps)
        total = tf.while_loop(lambda i: i < last, lambda i: i + 1, [tf.constant(0)], parallel_iterations=1)[0]
        return {"steps": tf.fill([tf.shape(steps)[0]], total)}
