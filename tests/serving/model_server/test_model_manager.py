import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.model_server.errors import ServingError
from serving.model_server.manager import ModelManager
from tests.model_servers import IMAGES, model_spec, models_config, publish, publish_broken, wait_until


def for_ten_seconds() -> Callable[[], bool]:
    deadline = time.monotonic() + 10
    return lambda: time.monotonic() < deadline


def serve(manager: ModelManager, *base_paths: Path, **fields: Any) -> None:
    models = [{"name": path.name, "base_path": str(path), **fields} for path in base_paths]
    manager.reload(models_config(*models), keep_waiting=for_ten_seconds())


def answering(manager: ModelManager, name: str, **spec: Any) -> int:
    with manager.servable(ModelSpec(**model_spec(name, **spec))) as servable:
        return int(servable.run("version_number", {"images": IMAGES})["number"][0])


def states(manager: ModelManager, name: str) -> dict[int, str]:
    name_of = ModelVersionStatus.State.Name
    return {status.version: name_of(status.state) for status in manager.status(ModelSpec(name=name))}


def refused(manager: ModelManager, name: str, **spec: Any) -> ServingError:
    with pytest.raises(ServingError) as caught:
        answering(manager, name, **spec)
    return caught.value


def test_new_version_replaces_the_old_one(manager: ModelManager, exported: dict[int, Path], tmp_path: Path) -> None:
    publish(exported[1], tmp_path / "m", 1)
    serve(manager, tmp_path / "m")
    assert answering(manager, "m") == 1
    publish(exported[2], tmp_path / "m", 2)
    wait_until(lambda: answering(manager, "m") == 2, 10, "the new version answers")
    wait_until(lambda: states(manager, "m") == {1: "END", 2: "AVAILABLE"}, 10, "the old version ends")
    assert refused(manager, "m", version=1).code == StatusCode.NOT_FOUND


def test_request_in_flight_finishes_before_its_session_closes(
    manager: ModelManager, exported: dict[int, Path], tmp_path: Path
) -> None:
    publish(exported[1], tmp_path / "m", 1)
    serve(manager, tmp_path / "m")
    with manager.servable(ModelSpec(name="m")) as old:
        publish(exported[2], tmp_path / "m", 2)
        wait_until(lambda: answering(manager, "m") == 2, 10, "the new version answers")
        wait_until(lambda: states(manager, "m")[1] == "UNLOADING", 10, "the old version is on its way out")
        assert old.run("version_number", {"images": IMAGES})["number"].tolist() == [1, 1]
    assert states(manager, "m")[1] == "END"
    with pytest.raises(RuntimeError, match="closed"):
        old.run("version_number", {"images": IMAGES})


def test_rolls_back_when_the_newest_folder_is_removed(
    manager: ModelManager, exported: dict[int, Path], tmp_path: Path
) -> None:
    for version in (1, 2):
        publish(exported[version], tmp_path / "m", version)
    serve(manager, tmp_path / "m")
    assert answering(manager, "m") == 2
    shutil.rmtree(tmp_path / "m" / "2")
    wait_until(lambda: answering(manager, "m") == 1, 10, "the older version answers")


def test_broken_version_is_reported_kept_away_and_not_retried(
    manager: ModelManager, exported: dict[int, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(exported[1], tmp_path / "m", 1)
    serve(manager, tmp_path / "m")
    publish_broken(tmp_path / "m", 2)
    wait_until(lambda: states(manager, "m").get(2) == "END", 10, "the broken version ends")
    time.sleep(0.3)
    assert sum("failed to load m version 2" in record.message for record in caplog.records) == 1
    (status,) = manager.status(ModelSpec(**model_spec("m", 2)))
    assert status.status.error_code != 0
    assert status.status.error_message
    assert answering(manager, "m") == 1

    shutil.rmtree(tmp_path / "m" / "2")
    time.sleep(0.3)
    publish(exported[2], tmp_path / "m", 2)
    wait_until(lambda: answering(manager, "m") == 2, 10, "the mended version answers")


def test_emptied_base_path_unloads_the_model_and_a_vanished_one_changes_nothing(
    manager: ModelManager, exported: dict[int, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        publish(exported[1], tmp_path / name, 1)
    serve(manager, tmp_path / "a", tmp_path / "b")
    (tmp_path / "b").rename(tmp_path / "hidden")
    publish(exported[2], tmp_path / "a", 2)
    wait_until(lambda: "Could not find base path" in caplog.text, 10, "the poll fails")
    time.sleep(0.3)
    assert (answering(manager, "a"), answering(manager, "b")) == (1, 1)
    assert caplog.text.count("Could not find base path") == 1

    (tmp_path / "b").mkdir()
    wait_until(lambda: answering(manager, "a") == 2, 10, "updates go on")
    wait_until(lambda: states(manager, "b") == {1: "END"}, 10, "the emptied model is unloaded")
    assert refused(manager, "b").message == "Servable not found for request: Latest(b)"


def test_reload_waits_for_new_models(manager: ModelManager, exported: dict[int, Path], tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with ThreadPoolExecutor(1) as pool:
        reloading = pool.submit(serve, manager, tmp_path / "m")
        time.sleep(0.2)
        assert not reloading.done()
        publish(exported[1], tmp_path / "m", 1)
        reloading.result(timeout=10)
    assert answering(manager, "m") == 1


def test_reload_gives_up_when_its_caller_does(manager: ModelManager, exported: dict[int, Path], tmp_path: Path) -> None:
    config = models_config({"name": "m", "base_path": str(tmp_path / "missing")})
    with pytest.raises(ServingError) as caught:
        manager.reload(config, keep_waiting=lambda: False)
    assert caught.value.code == StatusCode.CANCELLED
    # A later reload is not held up by it.
    publish(exported[1], tmp_path / "m", 1)
    publish(exported[2], tmp_path / "n", 2)
    serve(manager, tmp_path / "m", tmp_path / "n")
    assert answering(manager, "n") == 2
    wait_until(lambda: states(manager, "m") == {1: "AVAILABLE"}, 10, "the mended model")


def test_reload_reports_a_new_model_that_fails(manager: ModelManager, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    publish_broken(tmp_path / "m", 3)
    with pytest.raises(ServingError, match="name: m version: 3} due to error: ") as caught:
        serve(manager, tmp_path / "m")
    assert caught.value.code == StatusCode.UNKNOWN


def test_removed_model_ends_and_may_come_back(manager: ModelManager, exported: dict[int, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        publish(exported[1], tmp_path / name, 1)
    serve(manager, tmp_path / "a", tmp_path / "b")
    serve(manager, tmp_path / "a")
    wait_until(lambda: states(manager, "b") == {1: "END"}, 10, "the removed model ends")
    assert answering(manager, "a") == 1
    assert refused(manager, "b").code == StatusCode.NOT_FOUND
    serve(manager, tmp_path / "a", tmp_path / "b")
    assert answering(manager, "b") == 1


class TestLabels:
    @pytest.fixture
    def base_path(self, exported: dict[int, Path], tmp_path: Path) -> Path:
        for version in (1, 2):
            publish(exported[version], tmp_path / "m", version)
        return tmp_path / "m"

    def serve(self, manager: ModelManager, base_path: Path, versions: list[int], **labels: int) -> None:
        policy = {"specific": {"versions": versions}}
        serve(manager, base_path, model_version_policy=policy, version_labels=labels)

    def test_names_an_available_version_only(self, manager: ModelManager, base_path: Path) -> None:
        with pytest.raises(ServingError, match="not currently available") as caught:
            self.serve(manager, base_path, [1], stable=1)
        assert caught.value.code == StatusCode.FAILED_PRECONDITION
        self.serve(manager, base_path, [1])
        self.serve(manager, base_path, [1], stable=1)
        assert answering(manager, "m", label="stable") == 1
        assert refused(manager, "m", label="canary").code == StatusCode.INVALID_ARGUMENT

    def test_aborted_move_changes_nothing(self, manager: ModelManager, base_path: Path) -> None:
        self.serve(manager, base_path, [1])
        self.serve(manager, base_path, [1], stable=1)
        with pytest.raises(ServingError):
            self.serve(manager, base_path, [1, 2], stable=2)
        time.sleep(0.3)
        assert states(manager, "m") == {1: "AVAILABLE"}
        assert answering(manager, "m", label="stable") == 1

    def test_goes_with_the_configuration_that_drops_it(self, manager: ModelManager, base_path: Path) -> None:
        self.serve(manager, base_path, [1])
        self.serve(manager, base_path, [1], stable=1)
        self.serve(manager, base_path, [1])
        assert refused(manager, "m", label="stable").code == StatusCode.INVALID_ARGUMENT

    def test_allowance_covers_new_labels_and_not_moves(self, base_path: Path) -> None:
        manager = ModelManager(poll_wait_s=0.05, allow_labels_for_unavailable=True)
        try:
            self.serve(manager, base_path, [1], stable=1, canary=9)
            assert answering(manager, "m", label="stable") == 1
            assert refused(manager, "m", label="canary").message == "Servable not found for request: Specific(m, 9)"
            with pytest.raises(ServingError, match="not currently available"):
                self.serve(manager, base_path, [1], stable=2)
        finally:
            manager.close()


@pytest.mark.parametrize(
    ("models", "text"),
    [
        ([{"name": "m", "base_path": "/m"}, {"name": "m", "base_path": "/n"}], "multiple times"),
        ([{"name": "m", "base_path": "m"}], "absolute"),
        ([{"name": "", "base_path": "/m"}], "needs a name"),
    ],
)
def test_refuses_a_wrong_config(manager: ModelManager, models: list[dict[str, str]], text: str) -> None:
    with pytest.raises(ServingError, match=text) as caught:
        manager.reload(models_config(*models))
    assert caught.value.code == StatusCode.INVALID_ARGUMENT


def test_refuses_another_platform(manager: ModelManager) -> None:
    config = models_config({"name": "m", "base_path": "/m"})
    config.model_config_list.config[0].model_platform = "torch"
    with pytest.raises(ServingError, match="torch"):
        manager.reload(config)


def test_loads_with_many_requests_going_on(manager: ModelManager, exported: dict[int, Path], tmp_path: Path) -> None:
    publish(exported[1], tmp_path / "m", 1)
    serve(manager, tmp_path / "m")
    seen = np.zeros(4, int)

    def ask(worker: int) -> None:
        while answering(manager, "m") == 1:
            seen[worker] += 1

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, worker) for worker in range(4)]
        wait_until(lambda: seen.min() > 3, 10, "each worker asks")
        publish(exported[2], tmp_path / "m", 2)
        for future in asking:
            future.result(timeout=20)
