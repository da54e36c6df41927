"""Short runs of `python -m benchmarks.fuzz`, against a real gateway, and of `python -m benchmarks.fuzz_guided`."""

import random
import subprocess
import sys
from collections import Counter, defaultdict
from importlib.util import find_spec

import httpx
import pytest

from benchmarks import fuzz, fuzz_bytes, fuzz_guided
from benchmarks.processes import REPOSITORY
from tests.gateways import Gateway

REQUESTS = 800
needs_atheris = pytest.mark.skipif(find_spec("atheris") is None, reason="Atheris is there for Linux on x86-64 only")


def test_damaged_requests_neither_fail_nor_kill_the_gateway(tiny_server, tmp_path):
    with Gateway(tmp_path / "log", models="tiny", model_server_target=tiny_server.grpc_target) as gateway:
        workers = gateway.workers()
        target = fuzz.Target(gateway.url, gateway.grpc_target, "tiny", "block/conv", gateway.log)
        findings = fuzz.attack(target, range(REQUESTS), seed=1)
        assert gateway.workers() == workers
        assert list(fuzz.oddities(gateway.log.read_bytes())) == []
    assert [fault for found in findings for fault in found.faults] == []
    # It is neither all refused, in which case nothing was tried, nor are doors left out.
    answers = sum((found.answers for found in findings), Counter())
    assert answers.total() == REQUESTS
    assert {"REST 200", "REST 400", "open inference 400", "gRPC OK", "gRPC INVALID_ARGUMENT"} <= set(answers)
    assert max(found.slowest_s for found in findings) < 30


def test_a_seed_makes_the_same_damage():
    seeds = fuzz.pictures()
    made = [[fuzz.damage(data, random.Random(3), seeds) for data in seeds] for _ in range(2)]
    assert made[0] == made[1]
    assert sum(damaged != data for damaged, data in zip(made[0], seeds, strict=True)) > len(seeds) / 2


def test_a_number_makes_the_same_request_whatever_was_sent_before(tiny_server, tmp_path):
    with Gateway(tmp_path / "log", models="tiny", model_server_target=tiny_server.grpc_target) as gateway:
        target = fuzz.Target(gateway.url, gateway.grpc_target, "tiny", "block/conv", gateway.log)
        for numbers in ([3, 8, 7], [7]):
            fuzz.attack(target, numbers, seed=5, clients=1)
        first, second = [line for line in gateway.lines("request") if line["request_id"] == "5-7"]
    assert {key: first[key] for key in ("route", "bytes_in", "status")} == {
        key: second[key] for key in ("route", "bytes_in", "status")
    }


def test_what_does_not_belong_into_a_log_is_found_with_the_requests_that_may_have_caused_it():
    lines = [
        b'{"level": "info"}',
        b"Traceback (most recent call last):",
        b"TypeError: \xff",
        b'{"level": "warning"}',
        b'{"level": "error", "message": "unexpected error"}',
        b'{"level": "info", "exception": "Traceback"}',
        b"7",
    ]
    log = b"".join(line + b"\n" for line in lines)
    odd = list(fuzz.oddities(log))
    assert [(at, text.count("\n")) for at, text in odd] == [
        (log.index(b"Trace"), 2),
        (log.index(b'{"level": "error"'), 3),
    ]
    begun = [[(0, 1), (10, 3), (20, 5), (80, 7)], [(5, 2)]]
    findings = [fuzz.Findings(begun=one) for one in begun]
    assert fuzz.suspects(20, findings) == [2, 3, 5]


def test_requests_that_fuzzing_begins_with_are_answered_at_every_door(tiny_server, tmp_path):
    pictures = fuzz.pictures()
    statuses = defaultdict(set)
    with Gateway(tmp_path / "log", models="tiny", model_server_target=tiny_server.grpc_target) as gateway:
        for data in fuzz_bytes.seeds(pictures):
            made = fuzz_bytes.request(data, "tiny", pictures[4]).get_request()
            sent = gateway.http.request(
                made.method, made.full_path, content=made.get_data(), headers=list(made.headers.items())
            )
            statuses[data[0]].add(sent.status_code)
    assert set(statuses) == set(range(fuzz_bytes.DOORS))
    assert [door for door, found in statuses.items() if httpx.codes.OK not in found or max(found) >= 500] == []


@needs_atheris
def test_guided_requests_reach_what_those_they_began_with_did_not():
    command = [sys.executable, "-m", "benchmarks.fuzz_guided", "--requests", "400"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {figure.what: figure.value for figure in fuzz_guided.figures(done.stderr, failed=False)}
    assert found["requests"] == 400
    assert found["branches reached, in the end"] > found["branches reached, by those that it begins with"] > 1000


@needs_atheris
def test_a_request_that_makes_the_gateway_fail_ends_the_guided_run_and_is_kept(tiny_store, tmp_path):
    picture, begun = tmp_path / "picture", tmp_path / "begun" / "request"
    begun.parent.mkdir()
    picture.write_bytes(fuzz.pictures()[4])
    begun.write_bytes(next(fuzz_bytes.seeds(fuzz.pictures())))
    # This model's answers are not finite, for which the gateway answers 502.
    command = [sys.executable, "-m", "benchmarks.fuzz_target", tiny_store / "broken", picture, begun.parent]
    # A process begins with the peak of memory of the one that started it, which libFuzzer would count.
    flags = [f"-artifact_prefix={tmp_path}/", "-rss_limit_mb=0"]
    done = subprocess.run([*map(str, command), *flags], cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0
    assert "MODEL_SERVER_ERROR" in done.stdout + done.stderr
    (kept,) = tmp_path.glob("crash-*")
    assert kept.read_bytes() == begun.read_bytes()
