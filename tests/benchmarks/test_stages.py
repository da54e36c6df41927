"""The stages of a classify are measured on processes that run, and add up; no time is asserted."""

import io

import pytest
from PIL import Image

from benchmarks import processes, stages


@pytest.fixture
def jpeg():
    stream = io.BytesIO()
    Image.new("RGB", (48, 32), "red").save(stream, "JPEG")
    return stream.getvalue()


def test_every_stage_takes_time_and_the_core_holds_its_parts(tiny_server, jpeg):
    parts = stages.stages(tiny_server.grpc_target, "tiny", jpeg, calls=40)
    assert set(parts) == {"decode", "resize", "call", "core", "application"}
    assert all(milliseconds > 0 for milliseconds in parts.values())
    assert parts["application"] > parts["decode"] + parts["resize"]


def test_a_workers_time_is_measured(tiny_server, jpeg, tmp_path):
    with processes.gateway(tiny_server.grpc_target, ["tiny"], tmp_path / "log") as running:
        # Processor time counts in steps of 10 ms.
        assert stages.worker(running, "tiny", jpeg, calls=60, clients=4) > 0


def test_figures_add_up_to_the_whole():
    parts = {"decode": 0.5, "resize": 0.25, "call": 0.25, "core": 1.5, "application": 2.5}
    by_name = {figure.what: figure.value for figure in stages.figures(parts, one=3, many=2.75)}
    assert by_name["rest of the core"] == 0.5
    assert by_name["Flask, routing, validation, headers, log line"] == 1
    assert by_name["gunicorn and sockets, one client"] == 0.5
