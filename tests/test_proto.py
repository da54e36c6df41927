"""The generated code is what the proto files say."""

import subprocess
import sys
from pathlib import Path

import pytest

PROTO = Path(__file__).parents[1] / "proto"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    sources = [str(path.relative_to(PROTO)) for path in sorted(PROTO.glob("fovea/*/*.proto"))]
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *outputs, *sources], cwd=PROTO, check=True)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "oip/open_inference_pb2.py",
        "oip/open_inference_pb2.pyi",
        "oip/open_inference_pb2_grpc.py",
        "v1/model_card_pb2.py",
        "v1/model_card_pb2.pyi",
        "v1/vision_pb2.py",
        "v1/vision_pb2.pyi",
        "v1/vision_pb2_grpc.py",
    ],
)
def test_generated_code_is_current(fresh, name):
    assert (PROTO / "fovea" / name).read_text() == (fresh / "fovea" / name).read_text(), "run `make proto`"
