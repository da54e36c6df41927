"""The gRPC door, over a real channel."""

import io
import logging
import math
from contextlib import nullcontext
from threading import Event

import grpc
import numpy as np
import pytest
from fovea.v1 import vision_pb2 as pb
from fovea.v1 import vision_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from serving import rpc
from serving.deadline import Deadline
from serving.settings import Settings
from tests.model_servers import free_port

P_RED = 1 / (1 + math.exp(-10 / 48))
TINY = pb.ModelRef(name="tiny", version=1)
BLUE = pb.Targets(classes=["blue"])


@pytest.fixture(scope="module")
def stub(channel):
    return vision_pb2_grpc.VisionStub(channel)


def _array(tensor: pb.FloatTensor) -> np.ndarray:
    return np.frombuffer(tensor.float32_values, "<f4").reshape(tensor.shape)


def test_classify(stub, corner):
    answer = stub.Classify(pb.ClassifyRequest(model=TINY, images=[corner, corner], top_k=1))
    assert (answer.model.name, answer.model.version) == ("tiny", 1)
    assert len(answer.classifications) == 2
    row = answer.classifications[0]
    assert (row.label, [best.label for best in row.top_k]) == ("red", ["red"])
    assert row.score == pytest.approx(P_RED, abs=1e-6)


@pytest.mark.parametrize(
    ("ref", "version"),
    [(pb.ModelRef(name="tiny"), 2), (pb.ModelRef(name="tiny", label="stable"), 1), (TINY, 1)],
)
def test_the_version_is_chosen(stub, corner, ref, version):
    assert stub.Classify(pb.ClassifyRequest(model=ref, images=[corner])).model.version == version


def test_grad_cam(stub, corner):
    request = pb.GradCamRequest(model=TINY, images=[corner], overlay={"alpha": 0, "colormap": "viridis"})
    (row,) = stub.GradCam(request).explanations
    heatmap = _array(row.heatmap)
    assert heatmap.shape == (6, 8)
    assert heatmap[1, 2] == pytest.approx(10 / 48, abs=1e-6)
    assert np.count_nonzero(heatmap) == 1
    assert row.peak == pytest.approx(10 / 48, abs=1e-6)
    assert (row.box.left, row.box.top, row.box.right, row.box.bottom) == (8, 4, 12, 8)
    assert (row.label, row.class_index, row.layer) == ("red", 0, "block/conv")
    # At strength 0 the overlay is the picture.
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(row.overlay_png))), np.asarray(Image.open(io.BytesIO(corner)))
    )


def test_grad_cam_without_evidence(stub, corner):
    (row,) = stub.GradCam(pb.GradCamRequest(model=TINY, images=[corner], targets=BLUE)).explanations
    assert (row.label, row.peak, row.HasField("box"), row.overlay_png) == ("blue", 0, False, b"")


def test_several_methods_and_classes(stub, corner):
    request = pb.GradCamRequest(
        model=TINY, images=[corner, corner], targets={"top_k": 2}, methods=["layer_cam", "grad_cam"]
    )
    rows = stub.GradCam(request).explanations
    assert [(row.picture, row.label, row.method) for row in rows] == [
        (picture, label, method)
        for picture in (0, 1)
        for label in ("red", "blue")
        for method in ("layer_cam", "grad_cam")
    ]


def test_attributions(stub, corner, red_corner):
    request = pb.AttributionsRequest(model=TINY, images=[corner], values=True, overlay={})
    (row,) = stub.Attributions(request).explanations
    assert (row.method, row.layer, row.label) == ("integrated_gradients", "", "red")
    attributions = _array(row.attributions)
    np.testing.assert_allclose(attributions, red_corner / 255 * (10 / 48 / 16), atol=1e-7)
    np.testing.assert_allclose(_array(row.heatmap), attributions.sum(axis=2), atol=1e-7)
    assert row.score_change == pytest.approx(10 / 48, rel=1e-5)
    assert row.completeness_error == pytest.approx(0, abs=1e-6)
    assert Image.open(io.BytesIO(row.overlay_png)).size == (32, 24)
    (row,) = stub.Attributions(pb.AttributionsRequest(model=TINY, images=[corner], targets=BLUE)).explanations
    assert (row.label, row.HasField("attributions"), row.overlay_png, row.peak) == ("blue", False, b"", 0)


def test_activations(stub, corner, red_corner):
    request = pb.ActivationsRequest(model=TINY, images=[corner], layers=["identity"], channels=[2, 0], values=True)
    ((layer,),) = (picture.layers for picture in stub.Activations(request).pictures)
    assert list(layer.shape) == [24, 32, 3]
    assert layer.silent_channels == 2
    assert layer.strongest[0].channel == 0
    np.testing.assert_array_equal(_array(layer.activations), red_corner[..., [2, 0]].astype(np.float32))


def test_activations_in_summary(stub, corner):
    (picture,) = stub.Activations(pb.ActivationsRequest(model=TINY, images=[corner])).pictures
    assert [layer.layer for layer in picture.layers] == ["identity", "block/conv", "pool"]
    assert not any(layer.HasField("activations") for layer in picture.layers)


def test_filter_patterns(stub):
    answer = stub.FilterPatterns(pb.FilterPatternsRequest(model=TINY, filters=[1]))
    assert (answer.layer, list(answer.filters)) == ("block/conv", [1])
    pattern = np.asarray(Image.open(io.BytesIO(answer.patterns_png[0])))
    assert pattern.shape == (24, 32, 3)
    assert pattern[0, 0].tolist() == [128, 128, 255]


def test_list_models(stub):
    models = stub.ListModels(pb.ListModelsRequest()).models
    assert [(model.name, model.ready) for model in models] == [("tiny", True), ("cautious", True), ("broken", True)]
    assert [(version.version, version.state) for version in models[0].versions] == [(2, "AVAILABLE"), (1, "AVAILABLE")]
    assert list(models[0].card.class_names) == ["rot", "blau"]
    assert dict(models[0].labels) == {"stable": 1, "canary": 2}


INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "fields", "status", "code"),
    [
        ("Classify", {"images": [b"no picture"]}, INVALID, "NOT_AN_IMAGE"),
        ("Classify", {"images": [b""]}, INVALID, "EMPTY_BODY"),
        ("Classify", {"images": []}, INVALID, "NO_INSTANCES"),
        ("Classify", {"images": [b"x"] * 5}, INVALID, "TOO_MANY_PICTURES"),
        ("Classify", {"images": [bytes(200_001)]}, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE"),
        ("Classify", {"top_k": -1}, INVALID, "INVALID_ARGUMENT"),
        ("Classify", {"model": {"name": "nobody"}}, NOT_FOUND, "UNKNOWN_MODEL"),
        ("Classify", {"model": {}}, NOT_FOUND, "UNKNOWN_MODEL"),
        ("Classify", {"model": {"name": "tiny", "version": 99}}, NOT_FOUND, "UNKNOWN_VERSION"),
        ("Classify", {"model": {"name": "tiny", "version": -1}}, NOT_FOUND, "UNKNOWN_VERSION"),
        ("Classify", {"model": {"name": "tiny", "label": "none"}}, INVALID, "UNKNOWN_LABEL"),
        ("Classify", {"model": {"name": "broken"}}, grpc.StatusCode.INTERNAL, "MODEL_SERVER_ERROR"),
        ("GradCam", {"targets": {"classes": ["dog"]}}, INVALID, "UNKNOWN_CLASS"),
        ("GradCam", {"layer": "conv9"}, INVALID, "UNKNOWN_LAYER"),
        ("GradCam", {"overlay": {"alpha": 2}}, INVALID, "INVALID_ARGUMENT"),
        ("GradCam", {"overlay": {"alpha": math.nan}}, INVALID, "INVALID_ARGUMENT"),
        ("GradCam", {"overlay": {"colormap": "nope"}}, INVALID, "UNKNOWN_COLORMAP"),
        ("GradCam", {"methods": ["cam"]}, INVALID, "INVALID_ARGUMENT"),
        ("GradCam", {"targets": {"top_k": -1}}, INVALID, "INVALID_ARGUMENT"),
        ("GradCam", {"targets": {"classes": ["red"], "top_k": 2}}, INVALID, "INVALID_ARGUMENT"),
        ("Attributions", {"targets": {"position": 0}}, INVALID, "INVALID_ARGUMENT"),
        ("Activations", {"layers": ["conv9"]}, INVALID, "UNKNOWN_LAYER"),
        ("Activations", {"layers": ["pool"], "channels": [-1]}, INVALID, "INVALID_ARGUMENT"),
        ("FilterPatterns", {"layer": "pool"}, INVALID, "UNKNOWN_LAYER"),
        ("FilterPatterns", {"filters": [2]}, INVALID, "INVALID_ARGUMENT"),
    ],
)
def test_errors_carry_their_code_and_the_request_id(stub, corner, caplog, method, fields, status, code):
    caplog.set_level(logging.INFO)
    defaults = {"model": TINY} if method == "FilterPatterns" else {"model": TINY, "images": [corner]}
    request = getattr(pb, f"{method}Request")(**{**defaults, **fields})
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(request, metadata=[("x-request-id", "abc")])
    assert caught.value.code() is status
    assert dict(caught.value.trailing_metadata()) == {"fovea-error-code": code, "x-request-id": "abc"}
    assert "Traceback" not in caught.value.details()
    assert "\n" not in caught.value.details()
    fields = [record.fields for record in caplog.records if record.name == "serving.access"][-1]
    assert (fields["request_id"], fields["route"], fields["code"]) == ("abc", method, code)


def test_answers_carry_a_request_id(stub, corner):
    _, call = stub.Classify.with_call(pb.ClassifyRequest(model=TINY, images=[corner]))
    assert len(dict(call.trailing_metadata())["x-request-id"]) == 32


def test_the_callers_deadline_holds(open_door, make_vision, silent_server, corner):
    settings = Settings(models=["tiny"], model_server_target=silent_server, deadline_s=60)
    stub = vision_pb2_grpc.VisionStub(open_door(make_vision(settings), settings, Event())[1])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Classify(pb.ClassifyRequest(model=TINY, images=[corner]), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_an_overloaded_door_refuses_before_it_reads_a_message(open_door, make_vision, silent_server):
    settings = Settings(models=["tiny"], model_server_target=silent_server, max_in_flight=1, max_queued=0)
    vision = make_vision(settings)
    channel = open_door(vision, settings, Event())[1]
    call = channel.unary_unary(f"/{rpc.SERVICE}/Classify", None, None)
    codes = []
    for slot in (vision.admission.slot(Deadline(5)), nullcontext()):
        with slot, pytest.raises(grpc.RpcError) as caught:
            call(b"no message", timeout=5)
        codes.append(dict(caught.value.trailing_metadata())["fovea-error-code"])
    assert codes == ["OVERLOADED", "INVALID_ARGUMENT"]


def test_our_own_deadline_holds(open_door, make_vision, silent_server, corner):
    settings = Settings(models=["tiny"], model_server_target=silent_server, deadline_s=0.3)
    stub = vision_pb2_grpc.VisionStub(open_door(make_vision(settings), settings, Event())[1])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Classify(pb.ClassifyRequest(model=TINY, images=[corner]), timeout=60)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert dict(caught.value.trailing_metadata())["fovea-error-code"] == "DEADLINE_EXCEEDED"


def _health(channel, service):
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service)).status


def test_health(channel):
    serving = health_pb2.HealthCheckResponse.SERVING
    assert _health(channel, "") == _health(channel, rpc.SERVICE) == serving


def test_health_while_the_model_server_is_away(open_door, make_vision):
    settings = Settings(models=["tiny"], model_server_target=f"127.0.0.1:{free_port()}")
    channel = open_door(make_vision(settings), settings, Event())[1]
    kinds = health_pb2.HealthCheckResponse
    assert (_health(channel, ""), _health(channel, rpc.SERVICE)) == (kinds.SERVING, kinds.NOT_SERVING)


def test_health_while_stopping(open_door, vision, settings):
    stopping = Event()
    door, channel = open_door(vision, settings, stopping)
    stopping.set()
    door.not_ready()
    not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
    assert _health(channel, "") == _health(channel, rpc.SERVICE) == not_serving


def test_reflection_describes_the_service(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) >= {"fovea.v1.Vision", "grpc.health.v1.Health"}
    file = database.FindFileContainingSymbol("fovea.v1.Vision")
    assert [method.name for method in file.service[0].method] == [
        "ListModels",
        "Classify",
        "GradCam",
        "Attributions",
        "Activations",
        "FilterPatterns",
    ]


def test_what_is_no_message_is_an_invalid_argument(channel):
    call = channel.unary_unary(f"/{rpc.SERVICE}/Classify")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff" * 20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the request is not a message of this method's type"
    assert dict(caught.value.trailing_metadata())["fovea-error-code"] == "INVALID_ARGUMENT"
