"""The processes that are measured, on free ports of the loopback address; memory is read from Linux's /proc."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 300
"""Several processes that import TensorFlow one after another may take minutes on a busy machine."""
STOP_TIMEOUT_S = 20
POLL_S = 0.005


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that answers."""

    url: str
    pid: int
    """Process id of gunicorn's master."""
    start_s: float
    """Seconds from the start of the process to the first answer of /healthz."""

    def worker(self) -> int:
        """Return the process id of the one worker."""
        (pid,) = self.workers()
        return pid

    def workers(self) -> list[int]:
        """Return the process ids of all workers."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


@dataclass(frozen=True)
class RunningModelServer:
    """A model server that has loaded its models."""

    target: str
    """gRPC address, host:port."""
    pid: int


@contextmanager
def gateway(
    model_server_target: str, models: Sequence[str], log: Path, settings: Mapping[str, str] | None = None
) -> Iterator[RunningGateway]:
    """Run a gateway with its default settings.

    Args:
        model_server_target: where the model server listens, host:port.
        models: names of the models to answer for.
        log: receives what the gateway writes.
        settings: other settings, by the names of their variables.

    Raises:
        RuntimeError: it ended or did not answer in time; the message holds its log.
    """
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FOVEA_")}
    environment |= {
        "FOVEA_MODELS": ",".join(models),
        "FOVEA_MODEL_SERVER_TARGET": model_server_target,
        "FOVEA_HOST": "127.0.0.1",
        "FOVEA_HTTP_PORT": str(port),
        "FOVEA_GRPC_PORT": "0",
        "FOVEA_DRAIN_S": "0",
        **(settings or {}),
    }
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(timeout=START_TIMEOUT_S, trust_env=False) as http:

        def answers() -> bool:
            try:
                return http.get(f"{url}/healthz").status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        started = time.perf_counter()
        with _process([sys.executable, "-m", "serving"], log, environment) as process:
            while not answers():
                _check(process, started, log)
                time.sleep(POLL_S)
            yield RunningGateway(url, process.pid, time.perf_counter() - started)


@contextmanager
def http_server(
    command: Sequence[str], environment: Mapping[str, str], port: int, path: str, log: Path
) -> Iterator[int]:
    """Run a server of others until it answers a GET, whatever the status below 500, and give its process id.

    Args:
        command: program and arguments.
        environment: variables beside those of this process.
        port: where it is told to listen.
        path: what to ask for.
        log: receives what it writes.

    Raises:
        RuntimeError: it ended or did not answer in time; the message holds its log.
    """
    with httpx.Client(timeout=START_TIMEOUT_S, trust_env=False) as http:

        def answers() -> bool:
            try:
                return http.get(f"http://127.0.0.1:{port}{path}").status_code < httpx.codes.INTERNAL_SERVER_ERROR
            except httpx.TransportError:
                return False

        started = time.perf_counter()
        with _process(command, log, dict(os.environ) | dict(environment)) as process:
            while not answers():
                _check(process, started, log)
                time.sleep(0.1)
            yield process.pid


@contextmanager
def model_server(config_file: str, log: Path) -> Iterator[str]:
    """Run a model server of what a `models.config` lists, and give its gRPC target; see `running_model_server`."""
    with running_model_server(config_file, log) as server:
        yield server.target


@contextmanager
def running_model_server(config_file: str, log: Path, flags: Sequence[str] = ()) -> Iterator[RunningModelServer]:
    """Run a model server of what a `models.config` lists, with more flags.

    Raises:
        RuntimeError: it ended or did not answer in time; the message holds its log.
    """
    port = free_port()
    command = [
        *(sys.executable, "-m", "serving.model_server.launch"),
        f"--port={port}",
        f"--model_config_file={config_file}",
        "--allow_version_labels_for_unavailable_models=true",
        *flags,
    ]
    started = time.perf_counter()
    with _process(command, log, dict(os.environ)) as process:
        # The port opens when every model is loaded.
        while not _listens(port):
            _check(process, started, log)
            time.sleep(0.1)
        yield RunningModelServer(f"127.0.0.1:{port}", process.pid)


def memory_mb(pid: int) -> dict[str, float]:
    """Return a process's resident (Rss) and proportional (Pss) memory in MB of 10^6 bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {key: int(value.split()[0]) for key, value in (line.split(":") for line in lines)}
    return {key: kib[key] * 1024 / 1e6 for key in ("Rss", "Pss")}


def cpu_s(*pids: int) -> float:
    """Return the seconds of processor time that processes have used, in steps of 10 ms.

    What else the machine does changes it less than the time that passes.
    """
    ticks = 0
    for pid in pids:
        # The command's name, in parentheses, may hold spaces; utime and stime are fields 14 and 15 (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return the process ids of a process and of all that it and its children started."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        # Field 4 is the parent. A process may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            children[int((folder / "stat").read_text().rpartition(")")[2].split()[1])].append(int(folder.name))
    found = [pid]
    for parent in found:
        found += children[parent]
    return found


@contextmanager
def _process(command: Sequence[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Run a process in a session of its own, and end it with all its children."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        started = _handles(family(process.pid)[1:])
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        # What it started may outlive it, in its session or in one of its own.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for handle in started:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
        process.wait()


def _handles(pids: Sequence[int]) -> list[int]:
    """Open descriptors of processes, which mean no others once these have ended."""
    handles = []
    for pid in pids:
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    return handles


def _check(process: subprocess.Popen, started: float, log: Path) -> None:
    name = " ".join(map(str, process.args[1:3]))  # type: ignore[index]  # a list, as _process gave it
    if process.poll() is not None:
        raise RuntimeError(f"{name} ended with {process.returncode}:\n{log.read_text()}")
    if time.perf_counter() - started > START_TIMEOUT_S:
        raise RuntimeError(f"{name} did not answer in {START_TIMEOUT_S} s:\n{log.read_text()}")


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
