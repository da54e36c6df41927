from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.model_server.manager import ModelManager
from tests.model_servers import export_tiny


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for version in (1, 2):
        export_tiny(folder / str(version), version)
    return {version: folder / str(version) for version in (1, 2)}


@pytest.fixture
def manager() -> Iterator[ModelManager]:
    manager = ModelManager(poll_wait_s=0.05)
    yield manager
    manager.close()
