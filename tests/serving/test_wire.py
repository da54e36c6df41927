"""The import of TensorFlow Serving's messages, each in a process of its own."""

import importlib.util
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def _run(code: str, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_messages_come_without_a_trace_of_tensorflow():
    out = _run(
        "import sys; from serving import wire; print(wire.PredictRequest.DESCRIPTOR.full_name);"
        "print([name for name in sys.modules if name.split('.')[0] == 'tensorflow'])"
    )
    assert out.split("\n")[:2] == ["tensorflow.serving.PredictRequest", "[]"]


def test_a_tensorflow_that_is_loaded_already_is_left_alone():
    out = _run(
        "import sys, types, importlib.util as u; p = types.ModuleType('tensorflow');"
        "p.__path__ = list(u.find_spec('tensorflow').submodule_search_locations); sys.modules['tensorflow'] = p;"
        "from serving import wire; print(sys.modules['tensorflow'] is p, 'tensorflow.core' in sys.modules)"
    )
    assert out.split() == ["True", "True"]


def test_the_message_files_alone_are_enough(tmp_path):
    def location(name: str) -> Path:
        return Path(next(iter(importlib.util.find_spec(name).submodule_search_locations)))

    tensorflow = location("tensorflow")
    for part in ("core", "compiler/xla/tsl/protobuf", "tsl/protobuf"):
        for file in (tensorflow / part).rglob("*_pb2.py"):
            target = tmp_path / "tensorflow" / file.relative_to(tensorflow)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file)
    for name in ("google", "grpc", "tensorflow_serving"):
        (tmp_path / name).symlink_to(location(name))
    extensions = Path(importlib.util.find_spec("typing_extensions").origin)
    (tmp_path / extensions.name).symlink_to(extensions)
    path = [str(tmp_path), str(REPOSITORY)]
    out = _run(f"import sys; sys.path += {path}; from serving import wire; print(wire.ModelSpec(name='m').name)", "-IS")
    assert out.strip() == "m"
