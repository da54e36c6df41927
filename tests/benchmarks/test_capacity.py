"""The costs that a capacity is computed from are measured on processes that run, and the computation is right."""

import io

import pytest
from PIL import Image

from benchmarks import capacity, processes, scratch
from benchmarks.measuring import Figure
from benchmarks.processes import RunningModelServer


def test_processors_follow_from_cost_load_and_utilisation():
    # 1,000 pictures a second of 6 ms keep 6 processors busy, which is .6 of 10.
    rate, needed = capacity.processors([Figure("classify", 6, "ms")], load=3_600_000, utilisation=0.6)
    assert (rate.value, rate.unit) == (1000, "a second")
    assert (needed.what, needed.value, needed.unit) == ("for them: classify", pytest.approx(10), "processors")


def test_costs_are_measured_on_both_processes(tiny_server, tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (48, 32), "red").save(stream, "JPEG")
    server = RunningModelServer(tiny_server.grpc_target, tiny_server.process.pid)
    with processes.gateway(server.target, ["tiny"], tmp_path / "log") as running:
        # Processor time counts in steps of 10 ms.
        figures = capacity.cost(running, server, "tiny", stream.getvalue(), calls=30)
    figures += capacity.batching(server, "tiny", calls=100)
    assert len({figure.what for figure in figures}) == len(figures) == 6 + 2 * len(capacity.BATCHES)
    assert {figure.unit for figure in figures} == {"ms"}
    by_name = {figure.what: figure.value for figure in figures}
    assert by_name["gateway, classify"] > 0
    assert by_name["model server, classify"] > 0


def test_the_net_on_the_bundled_base_can_be_measured_too(tmp_path):
    assert scratch.net(tmp_path / "run", scratch.TRANSFER).input_shape == (None, 64, 64, 3)


def test_a_running_server_is_measured_by_its_speed(tiny_server):
    figures = capacity.throughput(tiny_server.grpc_target, "tiny", calls=8)
    assert len(figures) == 2 * len(capacity.BATCHES)
    assert all(figure.value > 0 and figure.unit == "pictures/s" for figure in figures)
