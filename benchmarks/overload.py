"""What a gateway answers when it is asked for several times of what it can answer."""

import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import httpx
import numpy as np
import typer

from benchmarks import load, processes
from benchmarks.load import Outcome
from benchmarks.measuring import Figure, report

CLIENTS = 16
TIMES = (1, 2, 4)
PROBE_S = 0.1
REFUSED = (429, 503)
"""By the model server, whose threads are all busy, and by the gateway."""
GOAL = 0.9
"""How much of the peak is to be left at the greatest load."""


class Load:
    """Asks one gateway for one picture, again and again."""

    def __init__(self, url: str, model: str, jpeg: bytes) -> None:
        self._url = url
        self._port = int(url.rpartition(":")[2])
        self._requests = [load.post(f"/v1/models/{model}:classify", "image/jpeg", jpeg)]

    def peak(self, seconds: float) -> float:
        """Return what is answered a second to clients that ask at once whenever they are answered."""
        return _answered(load.closed(self._port, self._requests, CLIENTS, seconds))

    def open(self, rate: float, seconds: float, seed: int) -> tuple[Outcome, list[float]]:
        """Ask so many times a second, whatever comes back; return the seconds that probes of /healthz took as well."""
        probes: list[float] = []
        ended = threading.Event()

        def probe() -> None:
            with httpx.Client(timeout=load.TIMEOUT_S, trust_env=False) as http:
                while not ended.wait(PROBE_S):
                    started = time.perf_counter()
                    http.get(f"{self._url}/healthz").raise_for_status()
                    probes.append(time.perf_counter() - started)

        with ThreadPoolExecutor(1) as thread:
            probing = thread.submit(probe)
            try:
                outcome = load.open_loop(self._port, self._requests, rate, seconds, seed)
            finally:
                ended.set()
            probing.result()
        return outcome, probes


def overload(asked: Load, seconds: float, rounds: int) -> list[Figure]:
    """Measure the peak by clients that wait for their answers, and what is left of it at multiples of that rate.

    Peak and multiples take turns, so that what else the machine does hits all alike.
    """
    peaks: list[float] = []
    kept: dict[int, list[float]] = {times: [] for times in TIMES}
    outcomes: dict[int, list[Outcome]] = {times: [] for times in TIMES}
    probes: dict[int, list[float]] = {times: [] for times in TIMES}
    asked.peak(min(1, seconds))
    for number in range(rounds):
        peaks.append(asked.peak(seconds))
        for times in TIMES:
            outcome, probed = asked.open(times * peaks[-1], seconds, number)
            kept[times].append(_answered(outcome) / peaks[-1])
            outcomes[times].append(outcome)
            probes[times] += probed
    figures = [Figure(f"peak, {CLIENTS} clients, median", float(np.median(peaks)), "/s")]
    others = 0
    for times in TIMES:
        share, goal = float(np.median(kept[times])), GOAL if times == max(TIMES) else None
        outcome = load.merge(outcomes[times])
        refused = np.concatenate([outcome.failed.get(status, np.empty(0)) for status in REFUSED])
        others += outcome.errors - len(refused)
        figures += [
            Figure(f"answered at {times} times the peak", share, "of the peak", at_least=goal),
            _percentile(f"at {times} times: answered, 99th percentile", outcome.latencies),
            _percentile(f"at {times} times: refused, 99th percentile", refused),
            _percentile(f"at {times} times: /healthz, 99th percentile", probes[times]),
        ]
    return [*figures, Figure("neither answered nor refused", others, "requests", at_most=0)]


def _answered(outcome: Outcome) -> float:
    """Return how many of the requests of a second are answered, sooner or later."""
    return len(outcome.latencies) / outcome.seconds


def _percentile(what: str, seconds: Sequence[float] | np.ndarray) -> Figure:
    return Figure(what, 1000 * float(np.percentile(seconds if len(seconds) else [0.0], 99)), "ms")


def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of each load.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="How often each load takes its turn.")] = 3,
) -> None:
    """Measure what a gateway in front of the scratch net answers under too much load."""
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch

    with (
        scratch.served(scratch.NAME) as (folder, server, _),
        processes.gateway(server.target, [scratch.NAME], folder / "gateway.log") as running,
    ):
        figures = overload(Load(running.url, scratch.NAME, scratch.jpeg()), seconds, rounds)
    report("overload", {"seconds": seconds, "rounds": rounds}, figures)


if __name__ == "__main__":
    typer.run(main)
