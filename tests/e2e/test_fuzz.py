"""A short run of `python -m benchmarks.fuzz`, against a real gateway."""

import random

from benchmarks import fuzz
from tests.gateways import Gateway

REQUESTS = 800


def test_damaged_requests_neither_fail_nor_kill_the_gateway(tiny_server, tmp_path):
    with Gateway(tmp_path / "log", models="tiny", model_server_target=tiny_server.grpc_target) as gateway:
        workers = gateway.workers()
        found = fuzz.attack(gateway.url, gateway.grpc_target, "tiny", "block/conv", REQUESTS, seed=1)
        assert gateway.workers() == workers
        log = gateway.log.read_text()
    assert found.faults == []
    assert "Traceback" not in log
    assert "unexpected error" not in log
    # It is neither all refused, in which case nothing was tried, nor are doors left out.
    assert found.answers.total() == REQUESTS
    assert {"REST 200", "REST 400", "open inference 400", "gRPC OK", "gRPC INVALID_ARGUMENT"} <= set(found.answers)
    assert found.slowest_s < 30


def test_a_seed_makes_the_same_damage():
    seeds = fuzz.pictures()
    made = [[fuzz.damage(data, random.Random(3), seeds) for data in seeds] for _ in range(2)]
    assert made[0] == made[1]
    assert sum(damaged != data for damaged, data in zip(made[0], seeds, strict=True)) > len(seeds) / 2
