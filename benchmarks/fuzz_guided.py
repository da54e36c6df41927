"""Requests that grow: kept where they reach code that none has reached before (libFuzzer by Atheris), until one fails.

`benchmarks.fuzz` sends what it damages through both doors of a real gateway. This has the application answer in one
process and sees which branches of it, of werkzeug and of Pillow's formats a request takes; what is written in C, such
as the decoders of pixels, it does not see.
"""

import importlib.util
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import fuzz, fuzz_bytes
from benchmarks.measuring import ARTIFACTS, Figure, report
from benchmarks.processes import REPOSITORY

SLOWEST_S = 30
_STATUS = re.compile(r"#\d+\s+(INITED|DONE)\s+cov: (\d+) ft: \d+ corp: (\d+)/")


def figures(log: str, failed: bool) -> list[Figure]:
    """Read what libFuzzer tells of a run.

    Args:
        log: what it wrote.
        failed: whether it ended with a request that failed.
    """
    found = {what: (float(covered), float(kept)) for what, covered, kept in _STATUS.findall(log)}
    made = re.search(r"stat::number_of_executed_units: (\d+)", log)
    return [
        Figure("requests", float(made[1]) if made else 0, ""),
        *(
            Figure(f"{name}, {when}", found[what][index], "")
            for index, name in enumerate(("branches reached", "requests that each reach others"))
            for what, when in (("INITED", "by those that it begins with"), ("DONE", "in the end"))
            if what in found
        ),
        Figure("answers of 5xx, exceptions, and requests that took too long", float(failed), "", at_most=0),
    ]


def main(
    requests: Annotated[int, typer.Option(min=100, help="Requests in all.")] = 100_000,
    seed: Annotated[int, typer.Option(min=1, help="Another seed makes other requests.")] = 1,
    only: Annotated[Path | None, typer.Option(exists=True, help="Make only the request in this file.")] = None,
) -> None:
    """Look for requests that make the gateway fail; exit code 1, and the request in a file, where one does."""
    # As for Ctrl-C, so that no process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit("Atheris is not installed; there are wheels of it for Linux on x86-64 only")
    from training.quiet import import_tensorflow

    import_tensorflow()
    from benchmarks import scratch
    from training.store import Store

    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fovea-benchmark-") as temporary:
        folder = Path(temporary)
        scratch.publish_net(scratch.net(folder / "net", scratch.MEAN), Store(folder / "store"), scratch.MEAN)
        pictures = fuzz.pictures()
        picture = folder / "picture"
        picture.write_bytes(pictures[4])
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, data in enumerate(fuzz_bytes.seeds(pictures)):
            (corpus / f"{number:03}").write_bytes(data)
        flags = [
            *(f"-runs={requests}", f"-seed={seed}", f"-max_len={fuzz_bytes.LONGEST}", f"-timeout={SLOWEST_S}"),
            *("-print_final_stats=1", "-verbosity=1", f"-artifact_prefix={ARTIFACTS}/"),
            str(only or corpus),
        ]
        command = [sys.executable, "-m", "benchmarks.fuzz_target", str(folder / "store" / scratch.MEAN), str(picture)]
        log = ""
        with subprocess.Popen([*command, *flags], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                log += line
                print(line, end="", file=sys.stderr)
        failed = process.returncode != 0
    if only is None:
        report("fuzz_guided", {"requests": requests, "seed": seed}, figures(log, failed))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
