"""No answer tells a path, a host, or how the program came to it."""

import re
import shutil
import socket
import sys
from pathlib import Path
from threading import Event

import grpc
import pytest
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc

from benchmarks.hostile import HOSTILE
from serving.http.app import create_app
from serving.settings import Settings
from tests import model_servers

REPOSITORY = Path(__file__).resolve().parents[3]
SECRETS = [str(REPOSITORY), "/tmp", "site-packages", sys.prefix, socket.gethostname(), "127.0.0.1", "localhost", ".pb"]
LEAK = re.compile("|".join([*map(re.escape, SECRETS), r"Traceback", r"\.py\b", r", line \d+", r"0x[0-9a-f]{6,}"]))
BAD_JSON = [
    '{"instances":[{"b64":"%%"}]}',
    '{"instances":[[[[1e400]]]]}',
    '{"instances":' + "[" * 2000,
    '{"inputs":[1]}',
]


@pytest.fixture(scope="module")
def half_broken(tiny_store, tmp_path_factory):
    """A model server with a version that is none, and an application in front of it."""
    folder = tmp_path_factory.mktemp("half_broken")
    shutil.copytree(tiny_store / "tiny" / "1", folder / "tiny" / "1")
    flags = ("--model_name=tiny", f"--model_base_path={folder / 'tiny'}", "--max_num_load_retries=0")
    with model_servers.ModelServer(folder / "log", *flags) as server:
        model_servers.publish_broken(folder / "tiny", 2)
        model_servers.wait_until(lambda: server.states("tiny").get(2, ("",))[0] == "END", 30, "the broken version")
        yield Settings(models=["tiny", "absent"], model_server_target=server.grpc_target)


def test_a_version_that_cannot_be_loaded_says_no_more_than_that(half_broken, make_vision, open_door):
    vision = make_vision(half_broken)
    answer = create_app(vision, half_broken, Event()).test_client().get("/v1/models/tiny")
    broken = answer.json["model_version_status"][0]
    assert (broken["version"], broken["state"]) == ("2", "END")
    sentence = "the version cannot be served; the model server's log says why"
    assert broken["status"]["error_message"] == sentence
    assert not LEAK.search(answer.text)
    stub = vision_pb2_grpc.VisionStub(open_door(vision, half_broken, Event())[1])
    assert stub.ListModels(pb.ListModelsRequest()).models[0].versions[0].error == sentence


@pytest.mark.parametrize("away", [False, True])
def test_no_answer_leaks(client, settings, make_vision, silent_server, corner, away):
    if away:
        limits = {"model_server_target": silent_server, "deadline_s": 0.3}
        settings = settings.model_copy(update=limits)
        client = create_app(make_vision(settings), settings, Event()).test_client()
    model = "/v1/models/tiny"
    answers = [client.get(path) for path in ("/readyz", "/v1/models", model, f"{model}/metadata", "/v2/models/tiny")]
    answers += [client.get(path) for path in ("/../../etc/passwd", "/page/../settings.py", "/page/%2e%2e/app.py")]
    answers += [client.post(f"{model}:classify", data=corner), client.post("/v1/models/broken:classify", data=corner)]
    for body in BAD_JSON:
        answers += [client.post(f"{model}:predict", data=body), client.post("/v2/models/tiny/infer", data=body)]
    answers += [client.post(f"{model}:{verb}", data=b"\0" * 9) for verb in ("classify", "predict", "explain", "x")]
    assert {answer.status_code for answer in answers} >= ({400, 404, 503} if away else {200, 400, 404, 502})
    for answer in answers:
        assert not LEAK.search(answer.text), answer.text


def test_what_is_said_of_hostile_pictures_leaks_nothing(client):
    for make, code in HOSTILE.items():
        if "large" not in make.__name__:
            answer = client.post("/v1/models/tiny:classify", data=make()[:200_000])
            assert not LEAK.search(answer.text), (make.__name__, answer.text)
            assert answer.status_code < 500, (make.__name__, code)


def test_grpc_leaks_nothing(settings, make_vision, open_door, silent_server, corner):
    away = settings.model_copy(update={"model_server_target": silent_server, "deadline_s": 0.3})
    stub = vision_pb2_grpc.VisionStub(open_door(make_vision(away), away, Event())[1])
    for request in (
        pb.ClassifyRequest(model=pb.ModelRef(name="tiny"), images=[corner]),
        pb.ClassifyRequest(model=pb.ModelRef(name="../tiny"), images=[corner]),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(request)
        assert not LEAK.search(caught.value.details())
