"""A small stand-in for tensorflow_model_server: for a laptop, for tests and for CI, never for production."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow_serving.config import model_server_config_pb2

    from serving.model_server.manager import ModelManager

_log = logging.getLogger("model_server")
_GRACE_S = 5.0
# Flags of tensorflow_model_server that start the stand-in too, so that one command line serves both.
_WITHOUT_EFFECT = (
    "batching_parameters_file",
    "enable_batching",
    "enable_model_warmup",
    "enable_per_model_batching_parameters",
    "enable_profiler",
    "enable_serialization_as_tensor_content",
    "flush_filesystem_caches",
    "grpc_channel_arguments",
    "load_retry_interval_micros",
    "max_num_load_retries",
    "monitoring_config_file",
    "num_load_threads",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    flags = _parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s model_server: %(message)s"
    )
    for chatter in ("tensorflow", "waitress.queue"):
        logging.getLogger(chatter).setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    from serving.model_server.errors import ServingError

    try:
        _serve(flags, stop)
    except (ServingError, OSError) as error:
        if stop.is_set():
            return 0
        _log.error("cannot start: %s", error)
        return 1
    return 0


def _serve(flags: argparse.Namespace, stop: threading.Event) -> None:
    # TensorFlow takes seconds to import: only once the flags are known to be right.
    import tensorflow as tf

    from serving.model_server.grpc_door import create_grpc_server
    from serving.model_server.manager import ModelManager
    from serving.model_server.rest_door import RestServer, create_app

    config = _read_config(flags)
    manager = ModelManager(
        poll_wait_s=flags.file_system_poll_wait_seconds,
        allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        session_config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism,
            inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism,
        ),
    )
    manager.reload(config, keep_waiting=lambda: not stop.is_set())
    grpc_server = create_grpc_server(manager, flags.port, flags.grpc_max_threads, flags.enable_grpc_healthcheck_service)
    rest_server = None
    if flags.rest_api_port:
        app = create_app(manager, timeout_s=flags.rest_api_timeout_in_ms / 1000)
        rest_server = RestServer(app, flags.rest_api_port, flags.rest_api_num_threads)
        rest_server.start()
        _log.info("REST at port %d", flags.rest_api_port)
    grpc_server.start()
    _log.info("gRPC at port %d", flags.port)

    _poll_config(flags, manager, stop)
    _log.info("stopping")
    grpc_stopped = grpc_server.stop(_GRACE_S)
    if rest_server:
        rest_server.stop(_GRACE_S)
    grpc_stopped.wait()
    manager.close()


def _poll_config(flags: argparse.Namespace, manager: "ModelManager", stop: threading.Event) -> None:
    """Wait for `stop`, and meanwhile apply the configuration file again and again; what fails is tried again."""
    from serving.model_server.errors import ServingError

    seconds = flags.model_config_file_poll_wait_seconds if flags.model_config_file else 0
    while not stop.wait(seconds or None):
        try:
            manager.reload(_read_config(flags))
        except (ServingError, OSError) as error:
            _log.error("configuration not applied, the old one stays: %s", error)


def _read_config(flags: argparse.Namespace) -> "model_server_config_pb2.ModelServerConfig":
    import tensorflow as tf
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    from serving.model_server.errors import invalid

    config = model_server_config_pb2.ModelServerConfig()
    if not flags.model_config_file:
        config.model_config_list.config.add(
            name=flags.model_name, base_path=flags.model_base_path, model_platform="tensorflow"
        )
        return config
    try:
        with tf.io.gfile.GFile(flags.model_config_file) as file:
            text_format.Parse(file.read(), config)
    except (tf.errors.OpError, text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{flags.model_config_file}': {error}") from error
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.model_server",
        description=f"{__doc__} Its flags are those of tensorflow_model_server.",
        allow_abbrev=False,
    )
    threads = 4 * (os.cpu_count() or 1)
    add = parser.add_argument
    add("--port", type=_port, default=8500, help="gRPC port, on all interfaces (default 8500)")
    add("--rest_api_port", type=int, default=0, help="REST port, on all interfaces (default 0: no REST)")
    add("--model_config_file", default="", help="ModelServerConfig in text form; --model_name is then ignored")
    add(
        "--model_config_file_poll_wait_seconds",
        type=int,
        default=0,
        metavar="S",
        help="read the file again every S seconds (default 0: never)",
    )
    add("--model_name", default="default", help="name of the one model without a configuration file")
    add("--model_base_path", default="", help="its folder of versions, absolute")
    add(
        "--file_system_poll_wait_seconds",
        type=int,
        default=1,
        metavar="S",
        help="look for new versions every S seconds (default 1; 0: only when configured)",
    )
    _add_switch(
        parser, "allow_version_labels_for_unavailable_models", "a label that is new may name a version not yet loaded"
    )
    _add_switch(parser, "enable_grpc_healthcheck_service", "answer grpc.health.v1 as well")
    add("--grpc_max_threads", type=int, default=threads, metavar="N", help="concurrent gRPC calls, more are refused")
    add("--rest_api_num_threads", type=int, default=threads, metavar="N", help="concurrent REST calls, more wait")
    add("--rest_api_timeout_in_ms", type=int, default=30000, metavar="MS", help="bound of one REST predict")
    add("--tensorflow_intra_op_parallelism", type=int, default=0, metavar="N", help="threads of one op")
    add("--tensorflow_inter_op_parallelism", type=int, default=0, metavar="N", help="ops at once")
    ignored = parser.add_argument_group("accepted for tensorflow_model_server's sake, without effect here")
    for name in _WITHOUT_EFFECT:
        ignored.add_argument(f"--{name}", nargs="?", metavar="X", help=argparse.SUPPRESS)
    ignored.description = ", ".join(f"--{name}" for name in _WITHOUT_EFFECT)
    return parser


def _add_switch(parser: argparse.ArgumentParser, name: str, help_text: str) -> None:
    parser.add_argument(f"--{name}", nargs="?", type=_boolean, const=True, default=False, metavar="B", help=help_text)


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return values[text.lower()]


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
