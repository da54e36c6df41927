"""The gateway's processes: gunicorn's master, and workers with both doors and a channel to the model server each."""

import errno
import logging
import os
import signal
import socket
import ssl
import struct
import threading
from typing import Any

from gunicorn.app.base import BaseApplication
from prometheus_client import multiprocess

from serving import logs, tls, tracing
from serving.backend import ModelServer
from serving.http.app import create_app
from serving.inference import Vision
from serving.rpc import Door
from serving.settings import Settings
from serving.shedding import Worker

log = logging.getLogger(__name__)

# Above the 60 s for which the usual load balancers keep idle connections, so that they close first.
_KEEPALIVE_SECONDS = 75


class PortTakenError(Exception):
    """An address that cannot be listened on."""


class Gateway(BaseApplication):
    """gunicorn, configured by our settings instead of its own files and flags (its documented custom application)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._certificate = tls.certificate(settings.tls_cert_file, settings.tls_key_file)
        self._socket_class = tls.impatient(settings.client_idle_s)
        listener = _listen(settings)
        self._http_port = listener.getsockname()[1]
        # gunicorn makes a socket of its own of the descriptor and closes this one.
        self._http_descriptor = listener.detach()
        self._reserved = _reserve(settings)
        self._grpc_port = self._reserved.getsockname()[1]
        self._door: Door
        self._vision: Vision
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's configuration."""
        options: dict[str, Any] = {
            "bind": f"fd://{self._http_descriptor}",
            "worker_class": Worker,
            "workers": self._settings.workers,
            "threads": self._settings.door_threads,
            "keepalive": _KEEPALIVE_SECONDS,
            "graceful_timeout": int(self._settings.drain_s + self._settings.grace_s) + 1,
            "control_socket_disable": True,
            "logger_class": logs.ServerLog,
            "logconfig_dict": logs.config(self._settings.log_level),
            "proc_name": "fovea-gateway",
            # In memory, so that heartbeats neither wait for a disk nor need a writable one.
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,
            "when_ready": self._when_ready,
            "post_worker_init": self._post_worker_init,
            "worker_exit": self._worker_exit,
            "child_exit": self._child_exit,
        }
        if self._certificate is not None:
            # The files say that connections are encrypted; with what, is asked for each anew.
            options |= {
                "certfile": str(self._settings.tls_cert_file),
                "keyfile": str(self._settings.tls_key_file),
                "ssl_context": self._tls_context,
            }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Make a worker's application; runs after the fork, which no gRPC channel survives."""
        server = ModelServer(
            self._settings.model_server_target,
            self._settings.max_answer_bytes,
            tls.authorities(self._settings.model_server_ca_file),
        )
        self._vision = Vision(server, self._settings)
        if self._settings.otlp_endpoint is not None:
            from serving.spans import Exporter

            tracing.exporter = Exporter(self._settings.otlp_endpoint, self._settings.trace_share)
        return create_app(self._vision, self._settings, self._stopping)

    def _tls_context(self, config: Any, default: Any) -> ssl.SSLContext:
        assert self._certificate is not None
        context = self._certificate.context()
        context.sslsocket_class = self._socket_class
        return context

    def _when_ready(self, arbiter: Any) -> None:
        log.info(
            "listening",
            extra={
                "fields": {
                    "host": self._settings.host,
                    "http_port": self._http_port,
                    "grpc_port": self._grpc_port,
                    "models": self._settings.models,
                }
            },
        )

    def _post_worker_init(self, worker: Any) -> None:
        address = f"{_bracketed(self._settings.host)}:{self._grpc_port}"
        worker.admission = self._vision.admission
        self._door = Door(self._vision, self._settings, self._stopping, address)

        def drain(number: int, frame: object) -> None:
            """Turn not ready first, and stop to accept once load balancers have had time to notice."""
            if self._stopping.is_set():
                return
            self._stopping.set()
            self._door.not_ready()
            threading.Timer(self._settings.drain_s, end).start()

        def end() -> None:
            self._door.stop(self._settings.grace_s)
            worker.handle_exit(signal.SIGTERM, None)

        signal.signal(signal.SIGTERM, drain)
        signal.siginterrupt(signal.SIGTERM, False)

    def _worker_exit(self, arbiter: Any, worker: Any) -> None:
        if hasattr(self, "_door"):
            self._door.stop(self._settings.grace_s if self._stopping.is_set() else 0).wait()
        if tracing.exporter is not None:
            tracing.exporter.stop()

    @staticmethod
    def _child_exit(arbiter: Any, worker: Any) -> None:
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            multiprocess.mark_process_dead(worker.pid)


def _listen(settings: Settings) -> socket.socket:
    """Bind the HTTP port, with a limit on how long a client may pause.

    gunicorn reads with blocking sockets: without the kernel's timeouts, which accepted connections
    inherit, as many silent clients as there are threads would stop a worker.
    """
    listener = _bind(settings.host, settings.http_port, "FOVEA_HTTP_PORT")
    seconds, fraction = divmod(settings.client_idle_s, 1)
    timeout = struct.pack("ll", int(seconds), int(fraction * 1e6))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
    return listener


def _reserve(settings: Settings) -> socket.socket:
    """Choose the gRPC port, which the workers share, and keep others from it.

    Workers bind it with SO_REUSEPORT, under which a second gateway could join unnoticed; so it is
    first bound without.
    """
    probe = _bind(settings.host, settings.grpc_port, "FOVEA_GRPC_PORT")
    port = probe.getsockname()[1]
    probe.close()
    return _bind(settings.host, port, "FOVEA_GRPC_PORT", shared=True)


def _bind(host: str, port: int, name: str, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror or error}"
        raise PortTakenError(f"port {port} on {host} {reason} ({name})") from None
    return listener


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
