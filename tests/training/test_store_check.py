"""What `fovea store check` finds, each in a store that was broken in one way."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from tests import model_servers, tiny_models
from training.cli import app
from training.store import Store
from training.store_check import check_store


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store with versions 1 (stable) and 2 (canary) of `tiny`, each with a warm-up record."""
    store = Store(tmp_path_factory.mktemp("sound") / "store")
    for _ in range(2):
        with store.staging("tiny") as folder:
            tiny_models.export(model := tf.io.gfile.join(folder, "model"), tiny_models.card("tiny"))
            write_warmup(model)
            store.publish(model, "tiny")
    store.set_label("tiny", "canary", 2)
    return store


def write_warmup(model, signature="serving_default", **inputs):
    shutil.rmtree(Path(model) / "assets.extra", ignore_errors=True)
    inputs = inputs or {"images": np.zeros((1, tiny_models.HEIGHT, tiny_models.WIDTH, 3), np.uint8)}
    request = model_servers.predict_request(model_servers.model_spec("tiny", signature_name=signature), inputs)
    model_servers.write_warmup(Path(model), request)


@pytest.fixture
def store(sound, tmp_path):
    """A copy of the sound store that a test may break; its base path is mended."""
    shutil.copytree(sound.root, tmp_path / "store")
    change(tmp_path / "store", sound.root, str(tmp_path / "store"))
    return tmp_path / "store"


def change(store, before, after):
    config = store / "models.config"
    assert before in config.read_text()
    config.write_text(config.read_text().replace(before, after))


def test_a_sound_store_has_no_findings(store):
    assert check_store(str(store)) == []


def break_platform(store):
    change(store, 'model_platform: "tensorflow"', 'model_platform: "onnx"')


def break_model(store):
    shutil.rmtree(store / "tiny")


def break_version(store):
    shutil.rmtree(store / "tiny" / "1")


def break_label(store):
    change(store, 'key: "canary"\n      value: 2', 'key: "canary"\n      value: 9')


def break_listing(store):
    change(store, "        versions: 2\n", "")


def break_graph(store):
    (store / "tiny" / "2" / "saved_model.pb").unlink()


def break_graph_bytes(store):
    graph = store / "tiny" / "2" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:1000])


def break_variables(store):
    shutil.rmtree(store / "tiny" / "2" / "variables")


def break_config(store):
    (store / "models.config").write_text("model_config_list { config { name: ")


def remove_config(store):
    (store / "models.config").unlink()


def repeat_model(store):
    change(store, "model_config_list {\n", 'model_config_list {\n  config { name: "tiny" }\n')
    change(
        store,
        'config { name: "tiny" }',
        f'config {{ name: "tiny" base_path: "{store}/tiny" model_platform: "tensorflow" }}',
    )


def break_base_path(store):
    change(store, f"{store}/tiny", "/models/tiny")


def break_base_path_relative(store):
    change(store, f"{store}/tiny", "tiny")


def warm_up_unknown_signature(store):
    write_warmup(store / "tiny" / "2", "classify")


def warm_up_wrong_shape(store):
    write_warmup(store / "tiny" / "2", images=np.zeros((1, 8, 8, 3), np.uint8))


def warm_up_wrong_dtype(store):
    write_warmup(store / "tiny" / "2", images=np.zeros((1, tiny_models.HEIGHT, tiny_models.WIDTH, 3), np.float32))


def warm_up_wrong_input(store):
    write_warmup(store / "tiny" / "2", pictures=np.zeros((1, 8, 8, 3), np.uint8))


def warm_up_damaged(store):
    records = store / "tiny" / "2" / "assets.extra" / "tf_serving_warmup_requests"
    records.write_bytes(records.read_bytes()[:-9])


def warm_up_no_request(store):
    with tf.io.TFRecordWriter(str(store / "tiny" / "2" / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(b"\xff\xff")


@pytest.mark.parametrize(
    ("change_store", "words"),
    [
        (break_platform, "tiny: model_platform is 'onnx'"),
        (break_model, "tiny: models.config names this model, but there is no folder"),
        (break_version, "tiny: models.config lists version 1, but there is no folder"),
        (break_label, "tiny: the label canary is on version 9, which is not there"),
        (break_listing, "tiny: the label canary is on version 2, which is not listed"),
        (break_graph, "tiny version 2: "),
        (break_graph_bytes, "tiny version 2: saved_model.pb is no SavedModel, or only a part of one"),
        (break_variables, "tiny version 2: its variables are missing"),
        (break_config, "models.config: it is no ModelServerConfig"),
        (remove_config, "models.config: it is missing"),
        (repeat_model, "tiny: models.config names it twice"),
        (break_base_path, "tiny: base_path '/models/tiny' does not lie in this store"),
        (break_base_path_relative, "tiny: base_path 'tiny' is not absolute"),
        (
            warm_up_unknown_signature,
            "tiny version 2: warm-up record 1 would fail the load: there is no signature classify",
        ),
        (warm_up_wrong_shape, "takes images of shape (None, 24, 32, 3), not (1, 8, 8, 3)"),
        (warm_up_wrong_dtype, "takes images as uint8, not float32"),
        (warm_up_wrong_input, "takes images, not pictures"),
        (warm_up_damaged, "the warm-up file is damaged or cannot be read after 0 records"),
        (warm_up_no_request, "warm-up record 1 is no PredictionLog"),
    ],
)
def test_what_breaks_a_server_is_found_in_one_sentence(store, change_store, words):
    change_store(store)
    sentences = [finding.sentence for finding in check_store(str(store)) if finding.breaks]
    assert any(words in sentence for sentence in sentences), sentences
    assert not any("\n" in sentence for sentence in sentences)
    if change_store is not break_version:
        assert len(sentences) == 1
    else:
        assert len(sentences) == 2  # Its label, too.


def test_a_store_under_another_path_is_checked_as_it_is_mounted(store):
    break_base_path(store)
    assert check_store(str(store), mounted_at="/models") == []
    assert check_store(str(store), mounted_at="/models/") == []


def test_what_breaks_nothing_is_a_note(store):
    (store / ".staging" / "tiny-0").mkdir(parents=True)
    (store / f".models.config.{'0' * 32}").touch()
    (store / "7").mkdir()
    (store / "tiny" / "5").mkdir()
    shutil.copytree(store / "tiny" / "1", store / "tiny" / "3")
    shutil.copytree(store / "tiny", store / "other")
    found = check_store(str(store))
    assert not any(finding.breaks for finding in found)
    text = "\n".join(finding.sentence for finding in found)
    for words in (
        ".staging/tiny-0: an export",
        ": the rest of a file",
        "7: an integer for a name",
        "tiny version 5: ",
        "other: it has versions, but models.config does not name it",
    ):
        assert words in text
    (store / "tiny" / "5").rmdir()
    assert "tiny: version 3 is not listed" in "\n".join(finding.sentence for finding in check_store(str(store)))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (".", "the store cannot be read: Permission denied"),
        ("models.config", "models.config: it cannot be read"),
        ("tiny", "Permission denied"),
        ("tiny/2", "Permission denied"),
        ("tiny/2/saved_model.pb", "Permission denied"),
        ("tiny/2/variables", "its variables are missing or cannot be read: variables: Permission denied"),
        ("tiny/2/assets.extra", "the warm-up file is damaged or cannot be read"),
    ],
)
def test_what_may_not_be_read_is_found(sound, path, words):
    """As another user if these tests run as root, whom nothing is forbidden."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        store = Path(folder) / "store"
        shutil.copytree(sound.root, store)
        change(store, sound.root, str(store))
        mode = (store / path).stat().st_mode
        try:
            os.chmod(store / path, 0)
            if is_root:
                os.seteuid(65534)
            found = check_store(str(store))
        finally:
            if is_root:
                os.seteuid(0)
            os.chmod(store / path, mode)
    assert [finding.breaks for finding in found] == [True]
    assert words in found[0].sentence


def test_the_command_says_it_and_ends_with_1(store, tmp_path):
    run = CliRunner().invoke
    good = run(app, ["store", "check", str(store)])
    assert (good.exit_code, good.output.strip()) == (0, f"{store}: nothing here would break a model server")
    (tmp_path / "batching").write_text("max_batch_size { value: 8 }")
    bad = run(app, ["store", "check", str(store), "--batching", str(tmp_path / "batching"), "--json"])
    assert bad.exit_code == 1
    answer = json.loads(bad.stdout)
    assert not answer["healthy"]
    assert "max_batch_size is 8" in answer["findings"][0]["what"]
    missing = run(app, ["store", "check", str(tmp_path / "nowhere"), "--batching", str(tmp_path / "absent")])
    assert missing.exit_code == 1
    assert "there is no such store" in missing.output
    assert "it cannot be read" in missing.output
