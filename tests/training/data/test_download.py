"""Downloads from a real server on loopback that fails in every way."""

import fcntl
import socket

import numpy as np
import pytest

from tests.file_server import FileServer
from training.data.download import TRIES, download
from training.errors import FoveaError

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def server():
    with FileServer(CONTENT) as running:
        yield running


@pytest.fixture
def part(tmp_path):
    return tmp_path / "new" / "archive.zip.part"


def get(server, part, **more):
    download(server.url, part, pause=0.001, **more)
    return part.read_bytes()


def test_whole_file(server, part):
    calls = []
    assert get(server, part, size=len(CONTENT), progress=lambda *call: calls.append(call)) == CONTENT
    assert server.asked_ranges == [None]
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_broken_connections_are_resumed_without_sending_anything_twice(server, part):
    server.break_after = [100_000, 50_000]
    assert get(server, part) == CONTENT
    assert server.asked_ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert [request.get("if-range") for request in server.requests] == [None, '"1"', '"1"']
    assert server.sent == len(CONTENT)


def test_a_later_call_goes_on(server, part):
    server.break_after = [100_000] + [0] * TRIES
    with pytest.raises(FoveaError, match="100000 bytes are kept, and the same command goes on"):
        get(server, part)
    assert len(server.requests) == TRIES, "the first answer brought bytes; it counts as the first failed try"
    server.requests.clear()
    server.break_after = []
    assert get(server, part) == CONTENT
    assert server.asked_ranges == ["bytes=100000-"]


def test_more_breaks_than_tries_while_bytes_arrive(server, part):
    server.break_after = [10_000] * (2 * TRIES)
    assert get(server, part) == CONTENT
    assert server.sent == len(CONTENT)


def test_server_that_ignores_ranges(server, part):
    server.ranges = False
    server.break_after = [100_000]
    assert get(server, part) == CONTENT
    assert server.asked_ranges == [None, "bytes=100000-"]


def test_complete_file_answered_416(server, part):
    get(server, part)
    server.requests.clear()
    assert get(server, part) == CONTENT
    assert server.asked_ranges == [f"bytes={len(CONTENT)}-"]
    assert server.sent == len(CONTENT)


def test_complete_file_of_known_size_is_not_asked_for(server, part):
    get(server, part)
    server.requests.clear()
    assert get(server, part, size=len(CONTENT)) == CONTENT
    assert server.requests == []


@pytest.mark.parametrize("conditions", [True, False], ids=["If-Range heeded", "If-Range ignored"])
@pytest.mark.parametrize("there", [100_000, 300_000])
def test_file_that_changed_on_the_server_is_never_joined(server, part, conditions, there):
    server.conditions = conditions
    server.break_after = [there] + [0] * TRIES
    if there < len(CONTENT):
        with pytest.raises(FoveaError):
            get(server, part)
    else:
        get(server, part)
    server.break_after = []
    server.content, server.etag = CONTENT[::-1][:250_000], '"2"'
    assert get(server, part) == server.content


def test_server_without_validators(server, part):
    server.etag = ""
    server.break_after = [100_000]
    assert get(server, part) == CONTENT
    assert server.asked_ranges == [None, "bytes=100000-"]
    assert "if-range" not in server.requests[1]


def test_busy_server_is_asked_again(server, part):
    server.statuses = [503, 429]
    assert get(server, part) == CONTENT
    assert len(server.requests) == 3


class TestRefused:
    def refuse(self, url, part, *words, **more):
        with pytest.raises(FoveaError) as caught:
            download(url, part, pause=0.001, **more)
        for word in words:
            assert word in str(caught.value)

    @pytest.mark.parametrize("status", [403, 404])
    def test_answer_that_will_not_change(self, server, part, status):
        server.statuses = [status]
        self.refuse(server.url, part, str(status), "--url", "--archive")
        assert len(server.requests) == 1
        assert not part.exists()

    def test_server_that_stays_busy(self, server, part):
        server.statuses = [503] * 20
        self.refuse(server.url, part, "status 503", "does not come to an end")
        assert len(server.requests) == TRIES

    def test_file_of_another_size(self, server, part):
        self.refuse(server.url, part, "300000 bytes", "not the archive of 299999", size=299_999)
        assert not part.exists()

    def test_nobody_listens(self, part):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/archive.zip"
        self.refuse(url, part, "cannot reach 127.0.0.1", url, "--archive", "--url")
        assert not part.exists()

    @pytest.mark.parametrize("url", ["ftp://example.org/a.zip", "archive.zip", "http://", "http://[::1"])
    def test_no_address(self, part, url):
        self.refuse(url, part, "address")

    def test_two_processes_at_once(self, server, part):
        part.parent.mkdir()
        with part.open("ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            self.refuse(server.url, part, "another process is writing")
