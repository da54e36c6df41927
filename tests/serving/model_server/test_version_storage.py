from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.model_server.errors import ServingError
from serving.model_server.storage import aspired_versions


def aspired(base_path: Path, **policy: Any) -> list[int]:
    config = ModelConfig(name="m", base_path=str(base_path), model_version_policy=policy)
    versions = aspired_versions(config)
    assert all(Path(folder).is_dir() and int(Path(folder).name) == number for number, folder in versions.items())
    return sorted(versions)


@pytest.fixture
def base_path(tmp_path: Path) -> Path:
    for name in ("2", "10", "0007", "staged-11", "12.tmp", "v13", "-14", "1e3", ".15"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ({}, [10]),
        ({"latest": {}}, [10]),
        ({"latest": {"num_versions": 2}}, [7, 10]),
        ({"latest": {"num_versions": 9}}, [2, 7, 10]),
        ({"all": {}}, [2, 7, 10]),
        ({"specific": {"versions": [2, 99]}}, [2]),
        ({"specific": {"versions": [99]}}, []),
    ],
)
def test_policy_chooses_among_children_whose_whole_name_is_an_integer(
    base_path: Path, policy: dict[str, Any], versions: list[int]
) -> None:
    assert aspired(base_path, **policy) == versions


def test_empty_base_path_has_no_versions(tmp_path: Path) -> None:
    assert aspired(tmp_path) == []


def test_missing_base_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="Could not find base path") as caught:
        aspired(tmp_path / "missing")
    assert caught.value.code == StatusCode.NOT_FOUND
