import hashlib
import os
import re
import subprocess
import sys
from threading import Event

import grpc
import pytest
from fovea.oip import open_inference_pb2, open_inference_pb2_grpc
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from serving import api_keys, watched
from serving.errors import UnauthenticatedError
from serving.http.app import create_app

OPEN = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/page/page.js", "/v2/health/live", "/v2/health/ready")


@pytest.fixture(scope="module")
def made():
    """Keys and their entries by name."""
    return {name: api_keys.make(name) for name in ("lab", "phone")}


@pytest.fixture(scope="module")
def locked(settings, made):
    return settings.model_copy(update={"api_keys": [entry for _, entry in made.values()]})


@pytest.fixture(scope="module")
def locked_client(vision, locked):
    return create_app(vision, locked, Event()).test_client()


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch):
    monkeypatch.setattr(watched, "INTERVAL_S", 0)


def counted(name, code):
    return REGISTRY.get_sample_value("fovea_api_key_requests_total", {"api_key": name, "code": code}) or 0


def test_an_entry_holds_the_hash_of_a_long_random_key():
    (key, entry), (other, _) = api_keys.make("lab"), api_keys.make("lab")
    assert key != other
    assert re.fullmatch(r"fovea_[A-Za-z0-9_-]{43}", key)
    assert entry == f"lab:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.mark.parametrize("header", ["X-Api-Key: {}", "Authorization: Bearer {}", "Authorization: bearer  {}"])
def test_a_key_opens_over_rest(locked_client, made, header, caplog):
    caplog.set_level("INFO")
    before = counted("phone", "OK")
    name, _, value = header.format(made["phone"][0]).partition(": ")
    answer = locked_client.get("/v1/models/tiny", headers={name: value})
    assert answer.status_code == 200
    assert counted("phone", "OK") == before + 1
    (line,) = [record.fields for record in caplog.records if record.name == "serving.access"]
    assert line["api_key"] == "phone"
    assert made["phone"][0] not in str(line)


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({}, "this gateway needs an API key; "),
        ({"Authorization": "Basic bGFiOmxhYg=="}, "this gateway needs an API key; "),
        ({"X-Api-Key": ""}, "this gateway needs an API key; "),
        ({"X-Api-Key": "fovea_none"}, "the API key is not known here; "),
        ({"Authorization": "Bearer schl\u00fcssel"}, "the API key is not known here; "),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny:classify", "/v2/models/tiny/infer", "/nothing/here"])
def test_without_a_known_key_everything_is_closed(locked_client, path, headers, sentence):
    before = counted("", "UNAUTHENTICATED")
    method = locked_client.post if path[-3:] in ("ify", "fer") else locked_client.get
    answer = method(path, headers=headers, data=b"x" if method == locked_client.post else None)
    assert (answer.status_code, answer.json["code"]) == (401, "UNAUTHENTICATED")
    assert answer.json["error"] == sentence + "send it as Authorization: Bearer KEY or as X-Api-Key: KEY"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="fovea"'
    assert counted("", "UNAUTHENTICATED") == before + 1


@pytest.mark.parametrize("path", OPEN)
def test_what_probes_and_browsers_ask_first_stays_open(locked_client, path):
    assert locked_client.get(path).status_code in (200, 503)


def test_where_no_keys_are_set_none_is_needed(client):
    assert client.get("/v1/models/tiny").status_code == 200


@pytest.fixture(scope="module")
def locked_channel(open_door, vision, locked):
    return open_door(vision, locked, Event())[1]


@pytest.mark.parametrize("header", ["x-api-key: {}", "authorization: Bearer {}"])
def test_a_key_opens_over_grpc(locked_channel, made, header):
    name, _, value = header.format(made["lab"][0]).partition(": ")
    stub = vision_pb2_grpc.VisionStub(locked_channel)
    before = counted("lab", "OK")
    assert stub.ListModels(pb.ListModelsRequest(), metadata=[(name, value)]).models
    assert counted("lab", "OK") == before + 1


@pytest.mark.parametrize("metadata", [[], [("x-api-key", "fovea_none")]])
def test_without_a_known_key_grpc_is_closed(locked_channel, metadata):
    calls = (
        (vision_pb2_grpc.VisionStub(locked_channel).ListModels, pb.ListModelsRequest()),
        (
            open_inference_pb2_grpc.GRPCInferenceServiceStub(locked_channel).ModelReady,
            open_inference_pb2.ModelReadyRequest(name="tiny"),
        ),
    )
    for call, request in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call(request, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "API key" in caught.value.details()
        assert dict(caught.value.trailing_metadata())["fovea-error-code"] == "UNAUTHENTICATED"


def test_health_stays_open_over_grpc(locked_channel):
    health = health_pb2_grpc.HealthStub(locked_channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    inference = open_inference_pb2_grpc.GRPCInferenceServiceStub(locked_channel)
    assert inference.ServerLive(open_inference_pb2.ServerLiveRequest()).live


def test_a_changed_file_is_read_again(tmp_path, made):
    """As Kubernetes does it: the file is a link through a link to a folder, and that link is replaced."""
    for name, (_, entry) in made.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(f"# keys\n\n{entry}\n")
    current, file = tmp_path / "..data", tmp_path / "keys"
    current.symlink_to("lab")
    file.symlink_to("..data/keys")
    keys = api_keys.ApiKeys([], file)
    assert keys.authenticate({"x-api-key": made["lab"][0]}) == "lab"
    (tmp_path / "next").symlink_to("phone")
    os.replace(tmp_path / "next", current)
    assert keys.authenticate({"x-api-key": made["phone"][0]}) == "phone"
    with pytest.raises(UnauthenticatedError):
        keys.authenticate({"x-api-key": made["lab"][0]})


@pytest.mark.parametrize("damage", ["lab:no hash", None])
def test_a_file_that_cannot_be_used_any_more_leaves_the_keys_as_they_were(tmp_path, made, damage, caplog):
    file = tmp_path / "keys"
    file.write_text(made["lab"][1])
    keys = api_keys.ApiKeys([], file)
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    assert keys.authenticate({"x-api-key": made["lab"][0]}) == "lab"
    assert "what was read before stays in force" in caplog.text


def test_a_file_that_lost_its_last_key_closes_the_gateway(tmp_path, made):
    file = tmp_path / "keys"
    file.write_text(made["lab"][1])
    keys = api_keys.ApiKeys([], file)
    file.write_text("")
    with pytest.raises(UnauthenticatedError):
        keys.authenticate({"x-api-key": made["lab"][0]})
    assert keys.required


def test_two_keys_may_have_one_name_and_one_key_only_one(made):
    (_, lab), (key, second) = made["lab"], api_keys.make("lab")
    keys = api_keys.ApiKeys([lab, second], None)
    assert {keys.authenticate({"x-api-key": key}), keys.authenticate({"x-api-key": made["lab"][0]})} == {"lab"}
    with pytest.raises(ValueError, match="entry 2 has the key of another name"):
        api_keys.parse([lab, lab.replace("lab", "home")])


def test_the_command_makes_a_key_whose_entry_opens():
    command = [sys.executable, "-m", "serving", "key", "night-shift"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    key = done.stderr.strip().rpartition(" ")[2]
    assert api_keys.ApiKeys([done.stdout.strip()], None).authenticate({"x-api-key": key}) == "night-shift"
    failed = subprocess.run([*command[:-1], "a b"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.startswith("'a b' is not a name")
