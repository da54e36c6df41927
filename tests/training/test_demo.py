"""What the demo checks before it works for minutes."""

import socket
from pathlib import Path

import pytest

from training import demo
from training.data.pictures import Findings, Picture, PictureSet
from training.errors import FoveaError


def test_a_port_in_use_is_named_with_its_option():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FoveaError, match=f"port {port} is in use; choose another one with --model-server-port"):
            demo.Ports(http=0, grpc=0, model_server=port).check()


def test_too_little_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    demo.check_disk(tmp_path / "not" / "yet" / "there")
    monkeypatch.setattr(demo, "NEEDED_BYTES", 10**18)
    with pytest.raises(FoveaError, match=r"GB of free space; the demo needs"):
        demo.check_disk(tmp_path / "not" / "yet" / "there")


def test_every_folder_has_a_workspace_of_its_own():
    root = Path("demo")
    assert demo.workspace(root, None) == root / "drawn"
    assert demo.workspace(root, Path("a/pets")) != demo.workspace(root, Path("b/pets"))
    assert demo.workspace(root, Path("a/pets")).name.startswith("pets-")


@pytest.mark.parametrize(("count", "epochs"), [(400, 40), (2_000, 8), (100_000, 5), (10, 100)])
def test_larger_sets_take_fewer_epochs(count, epochs):
    pictures = PictureSet(Path("set"), ("cat", "dog"), {"train": [Picture(Path("p"), 0, "")] * count}, Findings())
    options = demo.options("scratch", pictures)
    assert (options.height, options.width, options.epochs) == (96, 96, epochs)
