"""A small stand-in for tensorflow_model_server: for a laptop, for tests and for CI, never for production."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    from serving.model_server.manager import ModelManager

_log = logging.getLogger("model_server")
_GRACE_S = 5.0
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
_THREADS = 4 * (os.cpu_count() or 1)
_FLAGS: list[tuple[str, int | str | bool, str]] = [
    ("port", 8500, "gRPC port, on all interfaces"),
    ("rest_api_port", 0, "REST port, on all interfaces; 0: no REST"),
    ("model_config_file", "", "ModelServerConfig in text form; model_name and model_base_path are then ignored"),
    ("model_config_file_poll_wait_seconds", 0, "pause between two looks at that file; 0: only one look"),
    ("model_name", "default", "name of the one model without a configuration file"),
    ("model_base_path", "", "its folder of versions, absolute"),
    ("file_system_poll_wait_seconds", 1, "pause between two looks for versions; 0: only when configured"),
    ("allow_version_labels_for_unavailable_models", False, "a new label may name a version that is not loaded yet"),
    ("enable_batching", False, "merge calls that come while others are computed"),
    ("enable_grpc_healthcheck_service", False, "answer grpc.health.v1 as well"),
    ("grpc_max_threads", _THREADS, "gRPC calls at once; more are refused"),
    ("rest_api_num_threads", _THREADS, "REST calls at once; more wait"),
    ("rest_api_timeout_in_ms", 30000, "bound of one REST predict; 0: none"),
    ("tensorflow_intra_op_parallelism", 0, "threads of one op; 0: TensorFlow chooses"),
    ("tensorflow_inter_op_parallelism", 0, "ops at once; 0: TensorFlow chooses, -1: one, in the thread of the call"),
]
_FLAGS_WITHOUT_EFFECT = (
    "batching_parameters_file",
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
    flags = parse_flags(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatter in ("tensorflow", "waitress.queue"):
        logging.getLogger(chatter).setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Blocked here and so in every thread to come, to be taken at the one place that waits for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)

    # TensorFlow imports Keras where it finds it, and Keras matplotlib, which makes a cache of fonts in HOME at every
    # cold start. Sessions need neither: without them a start takes 1.3 s and 100 MB less.
    sys.modules["keras"] = None  # type: ignore[assignment]  # as the import system documents
    # TensorFlow takes seconds to import: only once the flags are known to be right.
    from serving.model_server.errors import ServingError

    try:
        _serve(flags)
    except (ServingError, OSError) as error:
        if not _asked_to_stop():
            _log.error("cannot start: %s", error)
            return 1
    return 0


def parse_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse flags as tensorflow_model_server names them; a wrong one ends the process with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.model_server",
        description=f"{__doc__} The flags are those of tensorflow_model_server.",
        epilog=f"Accepted without effect: --{', --'.join(_FLAGS_WITHOUT_EFFECT)}.",
        allow_abbrev=False,
    )
    for name, default, meaning in _FLAGS:
        shown = f"{meaning} (default: {str(default).lower() or 'empty'})"
        if isinstance(default, bool):
            parser.add_argument(f"--{name}", type=_boolean, nargs="?", const=True, default=default, help=shown)
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default, help=shown)
    for name in _FLAGS_WITHOUT_EFFECT:
        parser.add_argument(f"--{name}", nargs="?", help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    for name, default, _ in _FLAGS:
        least = 1 if name.endswith("threads") else -1 if name == "tensorflow_inter_op_parallelism" else 0
        if type(default) is int and getattr(flags, name) < least:
            parser.error(f"--{name} must be at least {least}")
    if not 0 < flags.port < 65536 or not 0 <= flags.rest_api_port < 65536 or flags.port == flags.rest_api_port:
        parser.error("--port and --rest_api_port must be two different ports from 1 to 65535")
    if not flags.model_config_file and not flags.model_base_path:
        parser.error("--model_config_file or --model_base_path must say what to serve")
    return flags


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return values[text.lower()]


def _asked_to_stop() -> bool:
    return bool(signal.sigpending() & _STOP_SIGNALS)


def _serve(flags: argparse.Namespace) -> None:
    import tensorflow as tf

    from serving.model_server.config import read_config, single_model
    from serving.model_server.manager import ModelManager

    file = flags.model_config_file
    config = read_config(file) if file else single_model(flags.model_name, flags.model_base_path)
    manager = ModelManager(
        poll_wait_s=flags.file_system_poll_wait_seconds,
        allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        session_config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=flags.tensorflow_intra_op_parallelism,
            inter_op_parallelism_threads=flags.tensorflow_inter_op_parallelism,
            # On a laptop a training run may want the same GPU.
            gpu_options=tf.compat.v1.GPUOptions(allow_growth=True),
            # What a thread that has nothing to compute takes is missing to the gateway beside it.
            experimental=tf.compat.v1.ConfigProto.Experimental(disable_thread_spinning=True),
        ),
        batching=flags.enable_batching,
    )
    try:
        _answer(flags, manager, config)
    finally:
        # A thread that is still in TensorFlow when the interpreter ends aborts the process.
        manager.close()


def _answer(flags: argparse.Namespace, manager: "ModelManager", config: "ModelServerConfig") -> None:
    from serving.model_server.config import read_config
    from serving.model_server.errors import ServingError
    from serving.model_server.grpc_door import create_grpc_server
    from serving.model_server.rest_door import RestServer, create_app

    file = flags.model_config_file
    manager.reload(config, keep_waiting=lambda: not _asked_to_stop())
    # Like the real server's, the ports open only now: what connects can be answered.
    grpc_server = create_grpc_server(manager, flags.port, flags.grpc_max_threads, flags.enable_grpc_healthcheck_service)
    rest_server = None
    if flags.rest_api_port:
        app = create_app(manager, flags.rest_api_timeout_in_ms / 1000 or None)
        rest_server = RestServer(app, flags.rest_api_port, flags.rest_api_num_threads)
        rest_server.start()
    grpc_server.start()
    _log.info("serving gRPC at port %d, REST at port %s", flags.port, flags.rest_api_port or "none")

    if file and flags.model_config_file_poll_wait_seconds > 0:
        while not signal.sigtimedwait(_STOP_SIGNALS, flags.model_config_file_poll_wait_seconds):
            try:
                manager.reload(read_config(file))
            except ServingError as error:  # the next look may find it mended
                _log.error("configuration not applied, the old one stays: %s", error)
    else:
        signal.sigwait(_STOP_SIGNALS)
    _log.info("stopping")
    grpc_stopped = grpc_server.stop(_GRACE_S)
    if rest_server:
        rest_server.stop(_GRACE_S)
    grpc_stopped.wait()


if __name__ == "__main__":
    sys.exit(main())
