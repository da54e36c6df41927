"""The Open Inference Protocol over a real gRPC channel."""

import math
import struct
from threading import Event

import grpc
import numpy as np
import pytest
from fovea.oip import open_inference_pb2 as pb
from fovea.oip import open_inference_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving.settings import Settings
from tests.model_servers import free_port, wait_until

P_RED = 1 / (1 + math.exp(-10 / 48))


@pytest.fixture(scope="module")
def stub(channel):
    return open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)


def _tensor(name, datatype, shape, **contents):
    values = pb.InferTensorContents(**contents) if contents else None
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, contents=values)


def _request(tensor, *outputs, name="tiny", version="1", **more):
    asked = [pb.ModelInferRequest.InferRequestedOutputTensor(name=output) for output in outputs]
    return pb.ModelInferRequest(model_name=name, model_version=version, inputs=[tensor], outputs=asked, **more)


def test_reflection_names_the_service(channel):
    assert "inference.GRPCInferenceService" in ProtoReflectionDescriptorDatabase(channel).get_services()


def test_server_and_model(stub):
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    wait_until(lambda: stub.ServerReady(pb.ServerReadyRequest()).ready, 20, "ready")
    wait_until(lambda: stub.ModelReady(pb.ModelReadyRequest(name="tiny", version="stable")).ready, 20, "ready")
    server = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (server.name, list(server.extensions)) == ("fovea", ["binary_tensor_data"])
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="tiny"))
    assert (model.name, list(model.versions), model.platform) == ("tiny", ["2", "1"], "tensorflow_savedmodel")
    assert [(item.name, item.datatype, list(item.shape)) for item in (*model.inputs, *model.outputs)] == [
        ("images", "UINT8", [-1, 24, 32, 3]),
        ("image_bytes", "BYTES", [-1]),
        ("probabilities", "FP32", [-1, 2]),
        ("label", "BYTES", [-1]),
        ("score", "FP32", [-1]),
    ]


def test_nothing_is_ready_without_a_model_server_or_at_the_end(open_door, make_vision, vision, settings):
    absent = Settings(models=["tiny"], model_server_target=f"127.0.0.1:{free_port()}")
    stopping = Event()
    stopping.set()
    for channel in (open_door(make_vision(absent), absent, Event())[1], open_door(vision, settings, stopping)[1]):
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(pb.ServerLiveRequest()).live
        assert not stub.ServerReady(pb.ServerReadyRequest()).ready
        assert not stub.ModelReady(pb.ModelReadyRequest(name="tiny")).ready


def test_contents_are_answered_by_contents(stub, corner, red_corner):
    pixels = _tensor("images", "UINT8", [1, 24, 32, 3], uint_contents=red_corner.ravel().tolist())
    for tensor in (_tensor("image_bytes", "BYTES", [1], bytes_contents=[corner]), pixels):
        answer = stub.ModelInfer(_request(tensor, "probabilities", "label", "score", id="42"))
        assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "42")
        assert not answer.raw_output_contents
        probabilities, label, score = answer.outputs
        assert list(probabilities.shape) == [1, 2]
        assert list(probabilities.contents.fp32_contents) == pytest.approx([P_RED, 1 - P_RED], abs=1e-6)
        assert (label.datatype, list(label.contents.bytes_contents)) == ("BYTES", [b"red"])
        assert list(score.contents.fp32_contents) == pytest.approx([P_RED], abs=1e-6)


def test_raw_contents_are_answered_by_raw_contents(stub, corner, red_corner):
    counted = struct.pack("<I", len(corner)) + corner
    for tensor, raw in (
        (_tensor("image_bytes", "BYTES", [1]), counted),
        (_tensor("images", "UINT8", [1, 24, 32, 3]), red_corner.tobytes()),
    ):
        answer = stub.ModelInfer(_request(tensor, "label", "probabilities", raw_input_contents=[raw]))
        assert not any(output.HasField("contents") for output in answer.outputs)
        assert answer.raw_output_contents[0] == struct.pack("<I", 3) + b"red"
        assert np.frombuffer(answer.raw_output_contents[1], "<f4")[0] == pytest.approx(P_RED, abs=1e-6)


def test_without_outputs_probabilities_are_answered(stub, corner):
    answer = stub.ModelInfer(_request(_tensor("image_bytes", "BYTES", [1], bytes_contents=[corner])))
    assert [output.name for output in answer.outputs] == ["probabilities"]


_NOT_A_PICTURE = _tensor("image_bytes", "BYTES", [1], bytes_contents=[b"hi"])
_THREE = [1, 2, 3]
_PIXEL = [1, 1, 1, 3]


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (_request(_NOT_A_PICTURE, name="absent"), "NOT_FOUND", "UNKNOWN_MODEL"),
        (_request(_NOT_A_PICTURE, version="9"), "NOT_FOUND", "UNKNOWN_VERSION"),
        (_request(_NOT_A_PICTURE), "INVALID_ARGUMENT", "NOT_AN_IMAGE"),
        (_request(_NOT_A_PICTURE, "x"), "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        (_request(_tensor("image_bytes", "BYTES", [1])), "INVALID_ARGUMENT", "BAD_TENSOR"),
        (_request(_tensor("image_bytes", "BYTES", [-1])), "INVALID_ARGUMENT", "BAD_TENSOR"),
        (_request(_tensor("images", "FP32", _PIXEL, fp32_contents=_THREE)), "INVALID_ARGUMENT", "BAD_TENSOR"),
        (_request(_tensor("images", "UINT8", _PIXEL, uint_contents=[1, 2, 256])), "INVALID_ARGUMENT", "BAD_TENSOR"),
        (_request(_tensor("images", "UINT8", [1, 2**40, 2**40, 3])), "INVALID_ARGUMENT", "TOO_MANY_PIXELS"),
        (
            _request(_tensor("images", "UINT8", _PIXEL, uint_contents=_THREE), raw_input_contents=[b"abc"]),
            "INVALID_ARGUMENT",
            "BAD_TENSOR",
        ),
        (
            _request(_tensor("images", "UINT8", _PIXEL), raw_input_contents=[bytes(300_000)]),
            "RESOURCE_EXHAUSTED",
            "TOO_LARGE",
        ),
    ],
)
def test_what_is_wrong_with_a_request(stub, request_, status, code):
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_)
    trailers = dict(caught.value.trailing_metadata())
    assert (caught.value.code().name, trailers["fovea-error-code"]) == (status, code), caught.value.details()
    assert trailers["x-request-id"]


@pytest.mark.parametrize(
    ("timeout", "status"),
    [({"int64_param": 300_000}, "DEADLINE_EXCEEDED"), ({"string_param": "1"}, "INVALID_ARGUMENT")],
)
def test_a_timeout_in_microseconds(open_door, make_vision, silent_server, corner, timeout, status):
    settings = Settings(models=["tiny"], model_server_target=silent_server, deadline_s=60)
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(open_door(make_vision(settings), settings, Event())[1])
    request = _request(_tensor("image_bytes", "BYTES", [1], bytes_contents=[corner]))
    request.parameters["timeout"].CopyFrom(pb.InferParameter(**timeout))
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, timeout=30)
    assert caught.value.code().name == status


def test_the_callers_deadline_holds(open_door, make_vision, silent_server, corner):
    settings = Settings(models=["tiny"], model_server_target=silent_server)
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(open_door(make_vision(settings), settings, Event())[1])
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(_request(_tensor("image_bytes", "BYTES", [1], bytes_contents=[corner])), timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
