"""The model store, on disk and on a file system that only `tf.io.gfile` knows."""

import errno
import os
import uuid

import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from training.errors import FoveaError
from training.store import Store


@pytest.fixture(params=["folder", "ram"])
def store(request, tmp_path):
    return Store(tmp_path / "store" if request.param == "folder" else f"ram://{uuid.uuid4().hex}")


def publish(store, model="cats"):
    with store.staging(model) as folder:
        savedmodel = f"{folder}/savedmodel"
        tf.io.gfile.makedirs(savedmodel)
        with tf.io.gfile.GFile(f"{savedmodel}/saved_model.pb", "w") as file:
            file.write("content")
        return store.publish(savedmodel, model)


def config(store):
    parsed = model_server_config_pb2.ModelServerConfig()
    with tf.io.gfile.GFile(store.config_path) as file:
        text_format.Parse(file.read(), parsed)
    return {entry.name: entry for entry in parsed.model_config_list.config}


def served(store, model="cats"):
    return list(config(store)[model].model_version_policy.specific.versions)


def test_versions_count_up_and_the_first_is_stable(store):
    assert [publish(store), publish(store), publish(store, "dogs")] == [1, 2, 1]
    assert store.models() == ["cats", "dogs"]
    assert store.versions("cats") == [1, 2]
    assert store.labels("cats") == {"stable": 1}
    assert tf.io.gfile.exists(f"{store.root}/cats/2/saved_model.pb")
    assert config(store)["cats"].base_path == f"{store.root}/cats"


def test_served_are_labelled_newest_and_the_way_back(store):
    for _ in range(4):
        publish(store)
    assert served(store) == [1, 4]
    assert not store.list_version("cats", 3)
    assert served(store) == [1, 3, 4]
    assert store.list_version("cats", 3)
    store.set_label("cats", "canary", 3)
    assert served(store) == [1, 3, 4]
    store.promote("cats")
    assert store.labels("cats") == {"stable": 3}
    assert served(store) == [1, 3, 4]
    store.promote("cats", 4)
    assert served(store) == [3, 4]


def test_promote_without_a_canary_takes_the_newest(store):
    publish(store)
    publish(store)
    assert store.promote("cats") == 2
    assert store.labels("cats") == {"stable": 2}


def test_rollback_goes_back_step_by_step(store):
    for _ in range(3):
        publish(store)
    store.list_version("cats", 2)
    store.promote("cats", 2)
    store.promote("cats", 3)
    assert store.rollback("cats") == 2
    assert store.rollback("cats") == 1
    assert store.labels("cats") == {"stable": 1}
    with pytest.raises(FoveaError, match="no earlier stable version"):
        store.rollback("cats")
    store.promote("cats", 3)
    assert store.rollback("cats") == 1


def test_a_label_does_not_move_to_a_version_that_no_server_loads(store):
    for _ in range(3):
        publish(store)
    for move in (lambda: store.promote("cats", 2), lambda: store.set_label("cats", "canary", 2)):
        with pytest.raises(FoveaError, match="not listed"):
            move()
    assert store.labels("cats") == {"stable": 1}


def test_history_tells_every_move(store):
    publish(store)
    publish(store)
    store.promote("cats")
    store.rollback("cats")
    moves = [(move.label, move.before, move.after, move.undoes) for move in store.history()]
    assert moves == [("stable", None, 1, False), ("stable", 1, 2, False), ("stable", 2, 1, True)]


def test_staging_is_no_model_and_is_removed(store):
    with store.staging("cats") as folder:
        assert "/cats/" not in folder
        assert store.models() == []
        tf.io.gfile.makedirs(f"{folder}/savedmodel")
    assert not tf.io.gfile.exists(folder)


def test_a_failed_export_publishes_nothing(store):
    with pytest.raises(RuntimeError), store.staging("cats"):
        raise RuntimeError
    assert store.models() == []
    assert not tf.io.gfile.exists(store.config_path)


def test_unknown_models_and_versions(store):
    publish(store)
    for call in (store.promote, store.rollback):
        with pytest.raises(FoveaError, match="no model 'fish'; it has: cats"):
            call("fish")
    with pytest.raises(FoveaError, match="no version 7; it has 1"):
        store.promote("cats", 7)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "1st", "größe", "a" * 65])
def test_names_that_cannot_be_a_folder_and_a_label(tmp_path, name):
    with pytest.raises(FoveaError, match="is no model name"), Store(tmp_path).staging(name):
        pass


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FoveaError, match="is not writable"), Store(tmp_path / "file").staging("cats"):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EMFILE])
def test_a_file_system_that_does_not_rename_folders_is_refused_at_once(tmp_path, monkeypatch, number):
    """As Mountpoint for S3 and gcsfuse without a limit for it answer."""

    def rename(source, target):
        raise OSError(number, os.strerror(number), source, None, target)

    monkeypatch.setattr("training.store.os.rename", rename)
    with pytest.raises(FoveaError, match="does not rename folders"), Store(tmp_path / "store").staging("cats"):
        pass
    assert list((tmp_path / "store" / ".staging").iterdir()) == []
