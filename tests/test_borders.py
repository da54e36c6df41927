"""Which package may import which."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
RUNTIME = ("tensorflow", "keras")
# Brings in TensorFlow's runtime when imported the plain way; serving/wire.py keeps it out.
MESSAGES = "tensorflow_serving"


def _imports(file: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = file.relative_to(REPOSITORY).parts[: -node.level] if node.level else ()
            base = ".".join((*package, *([node.module] if node.module else [])))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _violations(files: list[Path], forbidden) -> list[str]:
    assert files
    return [
        f"{file.relative_to(REPOSITORY)} imports {name}"
        for file in files
        for name in _imports(file)
        if forbidden(name.split("."))
    ]


def _files(package: str, without: tuple[str, ...] = ()) -> list[Path]:
    skipped = [REPOSITORY / path for path in without]
    return [
        file for file in (REPOSITORY / package).rglob("*.py") if not any(file.is_relative_to(path) for path in skipped)
    ]


def test_training_imports_of_serving_only_the_contract_and_the_answers_without_a_server():
    def forbidden(name):
        return name[0] == "serving" and name[1] not in ("contract", "offline")

    assert _violations(_files("training"), forbidden) == []


def test_serving_never_imports_training():
    assert _violations(_files("serving"), lambda name: name[0] == "training") == []


def test_the_gateway_never_imports_tensorflow():
    files = _files("serving", without=("serving/model_server", "serving/wire.py"))
    assert _violations(files, lambda name: name[0] in (*RUNTIME, MESSAGES)) == []


def test_the_gateway_never_imports_what_needs_tensorflow():
    files = _files("serving", without=("serving/model_server", "serving/offline.py"))
    assert _violations(files, lambda name: name[:2] in (["serving", "model_server"], ["serving", "offline"])) == []


def test_wire_imports_messages_only():
    def forbidden(name):
        return name[0] in RUNTIME and not any(part.endswith("_pb2") for part in name)

    assert _violations([REPOSITORY / "serving" / "wire.py"], forbidden) == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import tensorflow as tf", "tensorflow"),
        ("def f():\n    from tensorflow import io", "tensorflow.io"),
        ("from ..training import export", "training.export"),
    ],
)
def test_imports_are_found_in_all_their_forms(tmp_path, monkeypatch, line, name):
    monkeypatch.setattr(f"{__name__}.REPOSITORY", tmp_path)
    file = tmp_path / "serving" / "module.py"
    file.parent.mkdir()
    file.write_text(line)
    assert list(_imports(file)) == [name]
