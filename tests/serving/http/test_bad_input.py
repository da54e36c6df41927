"""What is wrong with a request, one case each: status, stable code, one sentence, the request id in answer and log."""

import base64
import io
import json
import logging
import re
import struct
import zlib
from threading import Event

import numpy as np
import pytest

from serving.http.app import create_app
from serving.inference import Vision
from serving.settings import Settings

CLASSIFY = "/v1/models/tiny/versions/1:classify"
GRAD_CAM = "/v1/models/tiny/versions/1/explain/grad-cam"
ACTIVATIONS = "/v1/models/tiny/versions/1/explain/activations"
FILTERS = "/v1/models/tiny/versions/1/explain/filters"


def _huge_png() -> bytes:
    """A PNG of 40,000 x 40,000 pixels by its header, of which not one is there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _check(answer, status, code, sentence, caplog):
    body = answer.get_json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert set(body) >= {"error", "code", "request_id"}
    assert re.search(sentence, body["error"]), body["error"]
    assert "Traceback" not in body["error"]
    assert "\n" not in body["error"]
    assert answer.headers["X-Request-Id"] == body["request_id"]
    lines = [record.fields for record in caplog.records if record.name == "serving.access"]
    assert (lines[-1]["request_id"], lines[-1]["status"], lines[-1]["code"]) == (body["request_id"], status, code)


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.INFO)


@pytest.fixture(scope="module")
def good(encode, red_corner):
    return encode(red_corner)


@pytest.mark.parametrize("path", [CLASSIFY, GRAD_CAM, ACTIVATIONS])
@pytest.mark.parametrize(
    ("make", "status", "code", "sentence"),
    [
        (lambda good: b"no picture at all", 400, "NOT_AN_IMAGE", "not a JPEG, PNG, WebP, GIF, BMP or TIFF picture"),
        (lambda good: good[: len(good) // 2], 400, "NOT_AN_IMAGE", "the picture is damaged"),
        (lambda good: b"", 400, "EMPTY_BODY", "the body is empty"),
        (lambda good: good + bytes(200_000), 413, "TOO_LARGE", "more than 200000 bytes"),
        (lambda good: _huge_png(), 413, "TOO_MANY_PIXELS", "40000 x 40000 pixels; at most 100000"),
    ],
    ids=["no image", "truncated", "zero bytes", "too many bytes", "too many pixels"],
)
def test_bodies(client, good, caplog, path, make, status, code, sentence):
    answer = client.post(path, data=make(good), content_type="image/png")
    _check(answer, status, code, sentence, caplog)


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("{", "BAD_JSON", "not JSON"),
        ("[]", "BAD_JSON", "must be an object"),
        ('{"instances": []}', "NO_INSTANCES", "no instances"),
        ("{}", "NO_INSTANCES", "no instances"),
        ('{"inputs": [1]}', "NO_INSTANCES", "no instances"),
        ('{"instances": {"b64": ""}}', "BAD_JSON", "must be a list"),
        ('{"instances": [7]}', "BAD_JSON", "instance 0 must be"),
        ('{"instances": [{"b64": "AA==", "x": 1}]}', "BAD_JSON", "instance 0 must be"),
        ('{"instances": [{"b64": "no base64!"}]}', "BAD_BASE64", "instance 0 is not base64"),
        ('{"instances": [{"b64": "AAAA"}, {"b64": "A"}]}', "BAD_BASE64", "instance 1 is not base64"),
        ('{"instances": [{"b64": 5}]}', "BAD_BASE64", "must be a string"),
        ('{"instances": [{"b64": ""}]}', "EMPTY_BODY", "zero bytes"),
        ('{"instances": [{"b64": "AAAA"}]}', "NOT_AN_IMAGE", "not a JPEG"),
        ('{"instances": [[[1, 2, 3]]]}', "BAD_JSON", "nested lists"),
        ('{"instances": [[[[1, 2, 3], [1, 2]]]]}', "BAD_JSON", "nested lists"),
        ('{"instances": [[[[1, 2, 256]]]]}', "BAD_JSON", "0..255"),
        ('{"instances": [[[[1, 2, -1]]]]}', "BAD_JSON", "0..255"),
        ('{"instances": [[[[0.5, 2, 1]]]]}', "BAD_JSON", "whole numbers"),
        ('{"instances": [[[["a", "b", "c"]]]]}', "BAD_JSON", "whole numbers"),
        ('{"instances": [[]]}', "BAD_JSON", "nested lists"),
        ('{"instances": [[[[]]]]}', "BAD_JSON", "nested lists"),
        ('{"signature_name": "grad_cam", "instances": [{"b64": "AAAA"}]}', "BAD_JSON", "signature_name"),
        ('{"instances": [1, 2, 3, 4, 5]}', "TOO_MANY_PICTURES", "5 pictures; at most 4"),
        ("", "EMPTY_BODY", "empty"),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "classify", "explain"])
def test_json(client, caplog, verb, text, code, sentence):
    answer = client.post(f"/v1/models/tiny:{verb}", data=text, content_type="application/json")
    _check(answer, 400, code, sentence, caplog)


def test_json_with_too_many_pixels(client, caplog):
    instance = {"b64": base64.b64encode(_huge_png()).decode()}
    answer = client.post("/v1/models/tiny:predict", json={"instances": [instance]})
    _check(answer, 413, "TOO_MANY_PIXELS", "at most 100000", caplog)


def test_a_form_without_the_field(client, good, caplog):
    answer = client.post(CLASSIFY, data={"picture": (io.BytesIO(good), "a.png")})
    _check(answer, 400, "WRONG_FIELD", "only 'picture'.*the file field 'file'", caplog)


def test_a_form_whose_parts_have_names_or_none(client, caplog):
    parts = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n"
    parts += b'--x\r\nContent-Disposition: form-data; name="picture"\r\n\r\n2\r\n--x--\r\n'
    answer = client.post(CLASSIFY, data=parts, content_type="multipart/form-data; boundary=x")
    _check(answer, 400, "WRONG_FIELD", "only 'picture'.*the file field 'file'", caplog)


def test_a_form_with_text_in_the_field(client, caplog):
    answer = client.post(CLASSIFY, data={"file": "text"}, content_type="multipart/form-data")
    _check(answer, 400, "WRONG_FIELD", "the file field 'file'", caplog)


def test_a_form_with_nothing_in_it(client, caplog):
    answer = client.post(CLASSIFY, data=b"--x--\r\n", content_type="multipart/form-data; boundary=x")
    _check(answer, 400, "WRONG_FIELD", "no fields", caplog)


def test_a_form_that_is_not_one(client, caplog):
    answer = client.post(CLASSIFY, data=b"garbage", content_type="multipart/form-data; boundary=x")
    _check(answer, 400, "WRONG_FIELD", "no fields", caplog)


def test_a_form_with_too_many_files(client, good, caplog):
    answer = client.post(CLASSIFY, data={"file": [(io.BytesIO(good), "a.png") for _ in range(5)]})
    _check(answer, 400, "TOO_MANY_PICTURES", "5 pictures; at most 4", caplog)


def test_a_form_with_an_empty_file_says_which(client, good, caplog):
    answer = client.post(CLASSIFY, data={"file": [(io.BytesIO(good), "a.png"), (io.BytesIO(b""), "b.png")]})
    _check(answer, 400, "EMPTY_BODY", "picture 1: the picture has zero bytes", caplog)


def test_a_form_of_too_many_bytes(client, caplog):
    answer = client.post(CLASSIFY, data={"file": (io.BytesIO(bytes(300_000)), "a.png")})
    _check(answer, 413, "TOO_LARGE", "more than 200000 bytes", caplog)


@pytest.mark.parametrize("content_type", ["text/html", "application/xml", "text/plain", "video/mp4", "nonsense"])
def test_unsupported_media_types(client, good, caplog, content_type):
    answer = client.post(CLASSIFY, data=good, content_type=content_type)
    _check(answer, 415, "UNSUPPORTED_MEDIA_TYPE", r"send image/\*", caplog)


@pytest.mark.parametrize(
    ("method", "path", "accept"),
    [
        ("POST", CLASSIFY, "image/png"),
        ("POST", "/v1/models/tiny:predict", "text/html"),
        ("POST", "/v1/models/tiny:explain", "image/png"),
        ("POST", GRAD_CAM, "image/webp"),
        ("POST", ACTIVATIONS, "text/csv"),
        ("GET", FILTERS, "application/json"),
    ],
)
def test_unacceptable_forms_of_an_answer(client, good, caplog, method, path, accept):
    body = {"data": good, "content_type": "image/png"} if method == "POST" else {}
    answer = client.open(path, method=method, headers={"Accept": accept}, **body)
    _check(answer, 406, "NOT_ACCEPTABLE", "the answer can be", caplog)


@pytest.mark.parametrize(
    ("path", "status", "code", "sentence"),
    [
        ("nobody:classify", 404, "UNKNOWN_MODEL", "'nobody' is not served here; served: tiny, cautious, broken"),
        ("nobody/explain/grad-cam", 404, "UNKNOWN_MODEL", "'nobody'"),
        ("tiny/versions/99:classify", 404, "UNKNOWN_VERSION", "has no version 99"),
        ("tiny/versions/99/explain/activations", 404, "UNKNOWN_VERSION", "has no version 99"),
        ("tiny/versions/abc:classify", 400, "INVALID_ARGUMENT", "'version' is wrong"),
        ("tiny/versions/0:classify", 400, "INVALID_ARGUMENT", "'version' is wrong"),
        ("tiny/versions/99999999999999999999:classify", 400, "INVALID_ARGUMENT", "'version' is wrong"),
        ("tiny/labels/none:classify", 400, "UNKNOWN_LABEL", "label 'none'"),
        ("tiny/labels/a%20b:classify", 400, "UNKNOWN_LABEL", "label 'a b'"),
        ("tiny/explain/grad-cam?layer=conv9", 400, "UNKNOWN_LAYER", "such layers are identity, block/conv$"),
        ("tiny/explain/grad-cam?layer=pool", 400, "UNKNOWN_LAYER", "'pool' with heat maps"),
        ("tiny/explain/activations?layer=x", 400, "UNKNOWN_LAYER", "such layers are identity, block/conv, pool$"),
        ("tiny/versions/1/explain/grad-cam?class=dog", 400, "UNKNOWN_CLASS", "'dog'; its classes are red, blue"),
        ("tiny/explain/grad-cam?class=2", 400, "UNKNOWN_CLASS", "no class '2'"),
        ("tiny/explain/grad-cam?class=-1", 400, "UNKNOWN_CLASS", "no class '-1'"),
        ("tiny:explain?class=dog", 400, "UNKNOWN_CLASS", "'dog'"),
        ("tiny/explain/grad-cam?position=0", 400, "INVALID_ARGUMENT", "reads no text; leave out the position"),
        ("tiny/explain/grad-cam?alpha=2", 400, "INVALID_ARGUMENT", "'alpha' is wrong"),
        ("tiny/explain/grad-cam?alpha=nan", 400, "INVALID_ARGUMENT", "'alpha' is wrong"),
        ("tiny/explain/grad-cam?clas=dog", 400, "INVALID_ARGUMENT", "no parameter 'clas'"),
        ("tiny/explain/activations?channels=x", 400, "INVALID_ARGUMENT", "numbers and ranges"),
        ("tiny/explain/activations?channels=5-2", 400, "INVALID_ARGUMENT", "smaller to the greater"),
        ("tiny/explain/activations?channels=0-99999999", 400, "INVALID_ARGUMENT", "range"),
        ("tiny/explain/activations?layer=pool&channels=2", 400, "INVALID_ARGUMENT", "no channel 2; .* 0 to 1"),
        ("tiny:classify?top_k=0", 400, "INVALID_ARGUMENT", "'top_k' is wrong"),
        ("tiny:classify?top_k=many", 400, "INVALID_ARGUMENT", "'top_k' is wrong"),
    ],
)
def test_names_and_parameters(client, good, caplog, path, status, code, sentence):
    answer = client.post(f"/v1/models/{path}", data=good, content_type="image/png")
    _check(answer, status, code, sentence, caplog)


@pytest.mark.parametrize(
    ("query", "code", "sentence"),
    [
        ("?layer=identity", "UNKNOWN_LAYER", "'identity' with filter patterns; such layers are block/conv"),
        ("?filter=2", "INVALID_ARGUMENT", "no filter 2; its filters are 0 to 1"),
        ("?filter=-1", "INVALID_ARGUMENT", "numbers and ranges"),
        ("?channels=1", "INVALID_ARGUMENT", "no parameter 'channels'"),
    ],
)
def test_filters(client, caplog, query, code, sentence):
    _check(client.get(FILTERS + query), 400, code, sentence, caplog)


def test_a_png_of_several_pictures(client, good, caplog):
    for path in (GRAD_CAM, ACTIVATIONS):
        files = {"file": [(io.BytesIO(good), "a"), (io.BytesIO(good), "b")]}
        answer = client.post(path, data=files, headers={"Accept": "image/png"})
        _check(answer, 400, "ONE_PICTURE_ONLY", "the request holds 2; ask for JSON or npz", caplog)


def test_a_png_of_several_layers(client, good, caplog):
    path = f"{ACTIVATIONS}?layer=identity&layer=pool"
    answer = client.post(path, data=good, content_type="image/png", headers={"Accept": "image/png"})
    _check(answer, 400, "INVALID_ARGUMENT", "a PNG shows one layer", caplog)


@pytest.mark.parametrize("path", [GRAD_CAM, ACTIVATIONS])
def test_colour_maps(client, good, caplog, path):
    answer = client.post(f"{path}?colormap=nope", data=good, content_type="image/png", headers={"Accept": "image/png"})
    _check(answer, 400, "UNKNOWN_COLORMAP", "'nope'", caplog)


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/models/tiny/versions", "/v2/health", "/nothing"])
def test_paths(client, caplog, path):
    _check(client.get(path), 404, "NOT_FOUND", "nothing at this path", caplog)


def test_methods(client, caplog):
    answer = client.get(CLASSIFY)
    _check(answer, 405, "METHOD_NOT_ALLOWED", "does not take this method", caplog)
    assert "POST" in answer.headers["Allow"]


def test_files_outside_the_page_are_not_served(client, caplog):
    for path in ("/page/../settings.py", "/page/%2e%2e/settings.py", "/page/nothing.js"):
        _check(client.get(path), 404, "NOT_FOUND", "nothing at this path", caplog)


def test_an_answer_that_breaks_the_contract(client, good, caplog):
    answer = client.post("/v1/models/broken:classify", data=good, content_type="image/png")
    _check(answer, 502, "MODEL_SERVER_ERROR", "not finite", caplog)


class TestModelServerAway:
    @pytest.fixture(scope="class")
    def settings(self):
        from tests.model_servers import free_port

        return Settings(models=["tiny"], model_server_target=f"127.0.0.1:{free_port()}")

    @pytest.fixture(scope="class")
    def client(self, settings, make_vision):
        return create_app(make_vision(settings), settings, Event()).test_client()

    def test_requests(self, client, settings, good, caplog):
        answer = client.post(CLASSIFY, data=good, content_type="image/png")
        _check(answer, 503, "MODEL_SERVER_UNAVAILABLE", "cannot be reached", caplog)
        assert answer.headers["Retry-After"] == "1"
        assert settings.model_server_target.split(":")[1] not in answer.get_data(as_text=True)
        assert "127.0.0.1" not in answer.get_data(as_text=True)

    def test_readiness(self, client):
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.get_json() == {"ready": False, "models": {"tiny": "MODEL_SERVER_UNAVAILABLE"}}

    def test_liveness(self, client):
        assert client.get("/healthz").status_code == 200


def test_a_model_server_that_does_not_answer_in_time(silent_server, make_vision, good, caplog):
    settings = Settings(models=["tiny"], model_server_target=silent_server, deadline_s=0.3)
    client = create_app(make_vision(settings), settings, Event()).test_client()
    answer = client.post(CLASSIFY, data=good, content_type="image/png")
    _check(answer, 504, "DEADLINE_EXCEEDED", "in time|longer than", caplog)


def test_the_clients_timeout_is_the_shorter_one(silent_server, make_vision, good, caplog):
    settings = Settings(models=["tiny"], model_server_target=silent_server, deadline_s=60)
    client = create_app(make_vision(settings), settings, Event()).test_client()
    answer = client.post(CLASSIFY, data=good, content_type="image/png", headers={"X-Request-Timeout": "0.3"})
    _check(answer, 504, "DEADLINE_EXCEEDED", "in time|longer than", caplog)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_timeout_that_is_none(client, good, text, caplog):
    answer = client.post(CLASSIFY, data=good, content_type="image/png", headers={"X-Request-Timeout": text})
    _check(answer, 400, "INVALID_ARGUMENT", "X-Request-Timeout must be a number of seconds above 0", caplog)


def test_a_model_that_the_model_server_does_not_know(settings, make_vision, good, caplog):
    settings = settings.model_copy(update={"models": ["absent"]})
    client = create_app(make_vision(settings), settings, Event()).test_client()
    answer = client.post("/v1/models/absent:classify", data=good, content_type="image/png")
    _check(answer, 503, "MODEL_NOT_READY", "no version that is loaded yet", caplog)
    answer = client.get("/v1/models/absent")
    _check(answer, 503, "MODEL_NOT_READY", "no version that is ready", caplog)
    assert answer.get_json() | {"name": "absent", "ready": False, "model_version_status": []} == answer.get_json()
    assert client.get("/v1/models").get_json()["models"][0]["ready"] is False


def test_activations_that_would_not_fit(settings, make_vision, good, caplog):
    settings = settings.model_copy(update={"max_answer_bytes": 9000})
    client = create_app(make_vision(settings), settings, Event()).test_client()
    # 24 * 32 * 3 values of 4 bytes.
    answer = client.post(ACTIVATIONS, data=good, content_type="image/png")
    _check(answer, 400, "ANSWER_TOO_LARGE", "more than 9000 bytes", caplog)
    assert client.post(f"{ACTIVATIONS}?layer=pool", data=good, content_type="image/png").status_code == 200


def test_an_unexpected_error_shows_nothing_of_itself(vision, settings, caplog):
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    app = create_app(vision, settings, Event())
    app.view_functions["healthz"] = fail
    answer = app.test_client().get("/healthz")
    _check(answer, 500, "INTERNAL", "^internal error$", caplog)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "a secret" in str(record.exc_info[1])
    assert record.fields["request_id"] == answer.get_json()["request_id"]


def test_readiness_turns_false_while_stopping(vision: Vision, settings):
    stopping = Event()
    client = create_app(vision, settings, stopping).test_client()
    assert client.get("/readyz").status_code == 200
    stopping.set()
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert json.loads(client.get("/readyz").data)["ready"] is False


def test_extreme_pictures_are_answered(client, encode):
    for shape in ((1, 1, 3), (1, 5000, 3), (5000, 1, 3)):
        picture = encode(np.zeros(shape, np.uint8))
        for path in (CLASSIFY, GRAD_CAM):
            assert client.post(path, data=picture, content_type="image/png").status_code == 200
        answer = client.post(GRAD_CAM, data=picture, content_type="image/png", headers={"Accept": "image/png"})
        assert answer.status_code == 200
