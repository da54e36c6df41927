"""The metrics that a scrape finds after requests over both doors."""

from threading import Event

import pytest
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from serving.http.app import create_app
from serving.settings import Settings
from tests.model_servers import free_port

ROUTE = "/v1/models/<name:model>/versions/<name:version>:classify"


def _scrape(client):
    text = client.get("/metrics").get_data(as_text=True)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _added(before, after, name, **labels):
    key = name, frozenset(labels.items())
    return after.get(key, 0) - before.get(key, 0)


@pytest.fixture
def classify(client, corner):
    def classify(path):
        return client.post(path, data=corner, content_type="image/png")

    return classify


def test_requests_carry_the_version_that_answered(client, classify):
    before = _scrape(client)
    classify("/v1/models/tiny/versions/1:classify")
    classify("/v1/models/tiny/versions/99:classify")
    after = _scrape(client)
    ok = {"route": ROUTE, "model": "tiny", "version": "1", "code": "OK"}
    assert _added(before, after, "fovea_requests_total", **ok) == 1
    missing = {"route": ROUTE, "model": "tiny", "version": "", "code": "UNKNOWN_VERSION"}
    assert _added(before, after, "fovea_requests_total", **missing) == 1


def test_predictions_are_counted_by_class_and_confidence(client, channel, classify, corner):
    before = _scrape(client)
    classify("/v1/models/tiny/versions/1:classify")
    classify("/v1/models/tiny/versions/2:classify")
    # From a probability of .25 on this one says blue, of which red is twice as probable as in `tiny`.
    classify("/v1/models/cautious:classify")
    request = pb.ClassifyRequest(model=pb.ModelRef(name="tiny", version=1), images=[corner, corner])
    vision_pb2_grpc.VisionStub(channel).Classify(request)
    # Explanations repeat what was classified.
    classify("/v1/models/tiny/versions/1/explain/grad-cam")
    after = _scrape(client)
    counts = {
        (model, version, label): _added(
            before, after, "fovea_predictions_total", **{"model": model, "version": version, "class": label}
        )
        for model, version, label in (("tiny", "1", "red"), ("tiny", "2", "rot"), ("cautious", "1", "blue"))
    }
    assert counts == {("tiny", "1", "red"): 3, ("tiny", "2", "rot"): 1, ("cautious", "1", "blue"): 1}
    tiny = {"model": "tiny", "version": "1"}
    assert _added(before, after, "fovea_prediction_confidence_count", **tiny) == 3
    # Red's probability is 1 / (1 + exp(-10 / 48)) = 0.552.
    assert _added(before, after, "fovea_prediction_confidence_bucket", **tiny, le="0.5") == 0
    assert _added(before, after, "fovea_prediction_confidence_bucket", **tiny, le="0.6") == 3


def test_pictures_are_measured(client, classify, corner):
    before = _scrape(client)
    classify("/v1/models/tiny/versions/1:classify")
    after = _scrape(client)
    assert _added(before, after, "fovea_picture_bytes_sum") == len(corner)
    assert _added(before, after, "fovea_picture_pixels_sum") == 24 * 32
    assert _added(before, after, "fovea_call_pictures_sum") == 1
    assert _added(before, after, "fovea_call_pictures_count") == 1


def test_the_model_servers_models(client):
    found = _scrape(client)
    assert found["fovea_model_ready", frozenset({("model", "tiny")})] == 1
    assert found["fovea_model_version", frozenset({("model", "tiny")})] == 2
    assert found["fovea_model_version", frozenset({("model", "broken")})] == 7


def test_a_model_server_that_is_away(make_vision):
    settings = Settings(models=["lost"], model_server_target=f"127.0.0.1:{free_port()}")
    found = _scrape(create_app(make_vision(settings), settings, Event()).test_client())
    assert found["fovea_model_ready", frozenset({("model", "lost")})] == 0
    assert found["fovea_model_version", frozenset({("model", "lost")})] == 0


def test_stages(client, classify):
    before = _scrape(client)
    classify("/v1/models/tiny/versions/1:classify")
    after = _scrape(client)
    for stage in ("queue", "decode", "model_server"):
        assert _added(before, after, "fovea_stage_duration_seconds_count", stage=stage) >= 1
