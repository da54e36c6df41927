"""Gateway processes on loopback."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

_REPOSITORY = Path(__file__).resolve().parents[1]


class Gateway:
    """A gateway process on free ports, to be used in a `with` block that starts and stops it.

    `log` receives its lines; settings are given as in `Gateway(log, models="tiny", workers=2)`.
    """

    def __init__(self, log: Path, command: tuple[str, ...] = ("-m", "serving"), **settings: Any) -> None:
        self.log = log
        self._command = [sys.executable, *command]
        chosen = {"host": "127.0.0.1", "http_port": 0, "grpc_port": 0, "drain_s": 0, **settings}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FOVEA_")}
        self._environment = kept | {f"FOVEA_{name.upper()}": str(value) for name, value in chosen.items()}

    def __enter__(self) -> "Gateway":
        self.start()
        try:
            self.wait_until_alive()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process without waiting for it."""
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                self._command, cwd=_REPOSITORY, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )

    def wait_until_alive(self, timeout_s: float = 30.0) -> None:
        """Wait until /healthz answers, and open `http`, a client."""
        deadline = time.monotonic() + timeout_s
        certificate = self._environment.get("FOVEA_TLS_CERT_FILE")
        scheme, verify = ("https", ssl.create_default_context(cafile=certificate)) if certificate else ("http", True)
        while True:
            listening = self.lines("listening")
            if listening:
                self.url = f"{scheme}://127.0.0.1:{listening[0]['http_port']}"
                self.grpc_target = f"127.0.0.1:{listening[0]['grpc_port']}"
                try:
                    httpx.get(f"{self.url}/healthz", timeout=timeout_s, verify=verify)
                    break
                except httpx.TransportError:
                    pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the gateway did not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        self.http = httpx.Client(base_url=self.url, timeout=timeout_s, verify=verify)

    def lines(self, message: str) -> list[dict[str, Any]]:
        """Return the log's lines with a message."""
        complete = self.log.read_text().split("\n")[:-1]
        lines = [json.loads(line) for line in complete if line.startswith("{")]
        return [line for line in lines if line["message"] == message]

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def stop(self, timeout_s: float = 30.0) -> int:
        """Send SIGTERM and return the exit status."""
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End the process and its workers at once."""
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
