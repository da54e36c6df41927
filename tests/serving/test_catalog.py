"""References resolved while versions come and go on a real model server."""

import shutil

import pytest

from serving.catalog import ModelRef
from serving.deadline import Deadline
from serving.errors import UnknownVersionError
from serving.settings import Settings


@pytest.fixture
def moving(tiny_store, tmp_path):
    """A model server of one model, of which version 1 is loaded, and its folder."""
    from tests.model_servers import ModelServer

    folder = tmp_path / "tiny"
    shutil.copytree(tiny_store / "tiny" / "1", folder / "1")
    flags = ("--model_name=tiny", f"--model_base_path={folder}", "--file_system_poll_wait_seconds=1")
    with ModelServer(tmp_path / "log", *flags) as server:
        yield server, folder


def test_a_version_that_goes_away_is_looked_up_once_more(moving, tiny_store, make_vision, encode, red_corner):
    from tests.model_servers import publish, wait_until

    server, folder = moving
    # So long that only the lookup after NOT_FOUND can find the new version.
    settings = Settings(models=["tiny"], model_server_target=server.grpc_target, version_ttl_s=60, labels=[])
    vision = make_vision(settings)
    picture = encode(red_corner)

    def classify(version=None):
        return vision.classify(ModelRef("tiny", version), [picture], None, Deadline(10))

    first = classify()
    assert (first.model.version, first.rows[0].label) == (1, "red")
    assert classify(version=1).model.version == 1

    publish(tiny_store / "tiny" / "2", folder, 2)
    wait_until(lambda: server.is_available("tiny", 2) and not server.is_available("tiny", 1), 60, "version 2 alone")

    second = classify()
    # The card that names the classes is that of the version that answered.
    assert (second.model.version, second.rows[0].label) == (2, "rot")
    with pytest.raises(UnknownVersionError, match="no version 1 that is loaded"):
        classify(version=1)


def test_a_new_version_is_noticed_after_the_time_to_live(moving, tiny_store, make_vision, encode, red_corner):
    from tests.model_servers import publish, wait_until

    server, folder = moving
    settings = Settings(models=["tiny"], model_server_target=server.grpc_target, version_ttl_s=0, labels=[])
    vision = make_vision(settings)
    publish(tiny_store / "tiny" / "2", folder, 2)
    answers = []

    def saw_both():
        answer = vision.classify(ModelRef("tiny"), [encode(red_corner)], None, Deadline(10))
        answers.append((answer.model.version, answer.rows[0].label))
        return answers[-1][0] == 2

    wait_until(saw_both, 60, "version 2 answers")
    assert set(answers) <= {(1, "red"), (2, "rot")}
