"""Time contenders side by side, compare figures with their goals, and report them with the machine they hold for."""

import gc
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

ARTIFACTS = Path(__file__).resolve().parents[1] / ".artifacts" / "benchmarks"
WARM_UP_CALLS = 20
_PACKAGES = ("fovea", "flask", "grpcio", "gunicorn", "keras", "numpy", "pillow", "tensorflow")


@dataclass(frozen=True)
class Figure:
    """A measured value, and the goal that it should reach where there is one."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the value keeps to its goal; None where there is no goal."""
        if self.at_most is None and self.at_least is None:
            return None
        # The bounds may be NumPy's, whose truth values JSON does not know.
        return bool(
            (self.at_most is None or self.value <= self.at_most)
            and (self.at_least is None or self.value >= self.at_least)
        )

    @property
    def goal(self) -> str:
        """The goal in words, empty where there is none."""
        bounds = (("<=", self.at_most), (">=", self.at_least))
        return " and ".join(f"{sign} {bound:g} {self.unit}" for sign, bound in bounds if bound is not None)


def interleave(
    contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = WARM_UP_CALLS
) -> dict[str, np.ndarray]:
    """Call the contenders in turn, A, B, A, B and so on, so that what else the machine does hits all alike.

    Args:
        contenders: calls without arguments, by name.
        rounds: how often each is timed.
        warm_up: how often each is called before, untimed.

    Returns:
        Seconds of each call, float64 [rounds], by name.
    """
    for _ in range(warm_up):
        for call in contenders.values():
            call()
    seconds = {name: np.empty(rounds) for name in contenders}
    # A collection would be charged to whichever contender it happens in.
    gc.collect()
    gc.disable()
    try:
        for index in range(rounds):
            for name, call in contenders.items():
                started = time.perf_counter()
                call()
                seconds[name][index] = time.perf_counter() - started
    finally:
        gc.enable()
    return seconds


def median_ms(what: str, seconds: np.ndarray) -> Figure:
    """Return the median of measured seconds as a figure in milliseconds."""
    return Figure(f"{what}, median", 1000 * float(np.median(seconds)), "ms")


def machine() -> dict[str, object]:
    """Describe the machine, its load (average over 1, 5 and 15 minutes) and the versions in use."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out in columns: what, value, goal, and whether it was reached."""
    verdict = {True: "reached", False: "missed", None: ""}
    rows = [
        (figure.what, f"{figure.value:.3g} {figure.unit}", figure.goal, verdict[figure.reached]) for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{what:<{widths[0]}}  {value:>{widths[1]}}  {goal:<{widths[2]}}  {reached}".rstrip()
        for what, value, goal, reached in rows
    )


def report(name: str, options: Mapping[str, object], figures: Sequence[Figure], folder: Path = ARTIFACTS) -> Path:
    """Print the table, and write the figures with options and machine to `<folder>/<name>.json`; return that path."""
    here = machine()
    content = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": dict(options),
        "machine": here,
        "figures": [vars(figure) | {"reached": figure.reached} for figure in figures],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(table(figures))
    load = " ".join(map(str, os.getloadavg()))
    print(f"\n{here['cpu']}, {here['cores']} cores, load average {load}; written to {path}")
    return path
