"""Fetching an archive of the layout of the public one, broken pictures included."""

import hashlib
import io
import sys
import zipfile
from subprocess import run

import numpy as np
import pytest
from PIL import Image

from tests.file_server import FileServer
from training.data.fetch import ARCHIVES, fetch
from training.data.pictures import read_picture_set
from training.data.subset import make_subset
from training.errors import FoveaError

PER_CLASS = 12


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def members():
    files = {"PetImages/": b"", "PetImages/Cat/": b"", "PetImages/Dog/": b""}
    for number in range(PER_CLASS):
        files[f"PetImages/Cat/{number}.jpg"] = jpeg(number)
        files[f"PetImages/Dog/{number}.jpg"] = jpeg(100 + number)
    # The public archive has empty, truncated and wrongly named ones, and files that are no pictures.
    files["PetImages/Cat/666.jpg"] = b""
    files["PetImages/Dog/11702.jpg"] = jpeg(7)[:300]
    files["PetImages/Dog/11410.jpg"] = b"<html>"
    files["PetImages/Cat/Thumbs.db"] = b"\xd0\xcf\x11\xe0"
    files["MSR-LA - 3467.docx"] = b"licence"
    files["readme[1].txt"] = b"readme"
    return files


def zipped(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


ARCHIVE = zipped(members())
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def server():
    with FileServer(ARCHIVE) as running:
        yield running


def get(target, **more):
    return fetch("cats-vs-dogs", target, pause=0.001, **more)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_class_folders_of_the_readable_pictures(server, tmp_path):
    target = tmp_path / "pets"
    fetched = get(target, url=server.url, sha256=SHA256)
    assert names(target) == ["cat", "dog", "set.json"]
    assert names(target / "cat") == sorted(f"{number}.jpg" for number in range(PER_CLASS))
    assert (target / "dog" / "3.jpg").read_bytes() == jpeg(103)
    assert fetched.pictures == {"cat": PER_CLASS, "dog": PER_CLASS}
    assert set(fetched.left_out) == {
        "PetImages/Cat/666.jpg",
        "PetImages/Dog/11702.jpg",
        "PetImages/Dog/11410.jpg",
    }
    assert fetched.sha256 == SHA256
    assert names(tmp_path) == ["pets"], "the archive and its validator are gone"


def test_training_and_subset_take_the_folder(server, tmp_path):
    get(tmp_path / "pets", url=server.url)
    assert read_picture_set(tmp_path / "pets").class_names == ("cat", "dog")
    make_subset(tmp_path / "pets", tmp_path / "small", {"train": 6, "validation": 3, "test": 3})
    assert read_picture_set(tmp_path / "small").images_per_class("test") == {"cat": 3, "dog": 3}


def test_a_finished_target_is_left_alone(server, tmp_path):
    first = get(tmp_path / "pets", url=server.url)
    server.requests.clear()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "pets").rglob("*")}
    assert get(tmp_path / "pets", url=server.url) == first
    assert server.requests == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pets").rglob("*")} == before


def test_broken_download_goes_on_in_a_later_call(server, tmp_path):
    half = len(ARCHIVE) // 2
    server.break_after = [half] + [0] * 10
    with pytest.raises(FoveaError, match=f"{half} bytes are kept"):
        get(tmp_path / "pets", url=server.url, sha256=SHA256)
    assert names(tmp_path) == ["pets.zip.part", "pets.zip.part.validator"]
    server.break_after = []
    server.requests.clear()
    get(tmp_path / "pets", url=server.url, sha256=SHA256)
    assert server.asked_ranges == [f"bytes={half}-"]
    assert server.sent == len(ARCHIVE)


def test_stopped_while_unpacking_needs_no_second_download(server, tmp_path):
    def stop(what, done, total):
        if what == "unpack" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(tmp_path / "pets", url=server.url, progress=stop)
    assert not (tmp_path / "pets").exists()
    get(tmp_path / "pets", url=server.url)
    assert server.sent == len(ARCHIVE)
    assert names(tmp_path) == ["pets"]


def test_archive_on_this_machine(tmp_path):
    file = tmp_path / "downloaded.zip"
    file.write_bytes(ARCHIVE)
    fetched = get(tmp_path / "pets", file=file)
    assert (fetched.source, fetched.pictures["dog"]) == (str(file), PER_CLASS)
    assert file.read_bytes() == ARCHIVE


def test_the_archives_own_address_is_verified(server, tmp_path, monkeypatch):
    known = ARCHIVES["cats-vs-dogs"]
    fake = type(known)(server.url, len(ARCHIVE), SHA256, known.member)
    monkeypatch.setattr("training.data.fetch.ARCHIVES", {"cats-vs-dogs": fake})
    assert get(tmp_path / "pets").sha256 == SHA256
    content = bytearray(ARCHIVE)
    content[100] ^= 1
    server.content = bytes(content)
    with pytest.raises(FoveaError, match="damaged or another file"):
        get(tmp_path / "again")
    server.content = ARCHIVE + b"more"
    with pytest.raises(FoveaError, match=f"not the archive of {len(ARCHIVE)}"):
        get(tmp_path / "again")
    assert names(tmp_path) == ["pets"]


class TestRefused:
    def refuse(self, target, *words, **more):
        with pytest.raises(FoveaError) as caught:
            get(target, **more)
        for word in words:
            assert word in str(caught.value)
        assert not target.exists()

    def test_wrong_checksum(self, server, tmp_path):
        self.refuse(tmp_path / "pets", SHA256, "0" * 64, url=server.url, sha256="0" * 64)
        assert names(tmp_path) == [], "a wrong archive is not resumed for ever"

    def test_wrong_checksum_of_a_file_keeps_it(self, tmp_path):
        (tmp_path / "a.zip").write_bytes(ARCHIVE)
        (tmp_path / "pets.zip.part").write_bytes(b"of another download")
        self.refuse(tmp_path / "pets", "SHA-256", file=tmp_path / "a.zip", sha256="0" * 64)
        assert names(tmp_path) == ["a.zip", "pets.zip.part"]

    def test_damage_that_only_the_zip_file_tells(self, server, tmp_path):
        content = bytearray(ARCHIVE)
        content[ARCHIVE.index(jpeg(3)) + 200] ^= 1
        server.content = bytes(content)
        self.refuse(tmp_path / "pets", "damaged", "PetImages/Cat/3.jpg", url=server.url)
        assert names(tmp_path) == []

    def test_page_instead_of_an_archive(self, server, tmp_path):
        server.content = b"<html>please log in</html>"
        self.refuse(tmp_path / "pets", "not a zip file", url=server.url)

    def test_archive_of_something_else(self, tmp_path):
        (tmp_path / "a.zip").write_bytes(zipped({"flowers/rose/1.jpg": jpeg(1)}))
        self.refuse(tmp_path / "pets", "no readable pictures", "PetImages", file=tmp_path / "a.zip")

    def test_no_such_page(self, server, tmp_path):
        server.statuses = [404]
        self.refuse(tmp_path / "pets", "404", "--url", "--archive", url=server.url)
        assert names(tmp_path) == []

    def test_no_such_file(self, tmp_path):
        self.refuse(tmp_path / "pets", "no file", "--archive", file=tmp_path / "nowhere.zip")

    def test_target_with_something_in_it(self, server, tmp_path):
        (tmp_path / "set.json").write_text('{"seed": 0}')
        with pytest.raises(FoveaError, match="not an empty folder"):
            get(tmp_path, url=server.url)
        assert server.requests == []


def test_names_in_the_archive_lead_nowhere_else(tmp_path):
    files = members() | {
        "../PetImages/Cat/900.jpg": jpeg(900),
        "PetImages/Cat/../../../901.jpg": jpeg(901),
        "/PetImages/Dog/902.jpg": jpeg(902),
        "PetImages/Dog/..\\903.jpg": jpeg(903),
    }
    (tmp_path / "a.zip").write_bytes(zipped(files))
    fetched = get(tmp_path / "deep" / "pets", file=tmp_path / "a.zip")
    assert fetched.pictures == {"cat": PER_CLASS, "dog": PER_CLASS}
    assert not list(tmp_path.rglob("*90?.jpg"))


class TestCommand:
    def fovea(self, *arguments):
        command = [sys.executable, "-c", "from training.cli import main; main()", "data", "fetch", "cats-vs-dogs"]
        return run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)

    def test_twice(self, server, tmp_path):
        done = self.fovea(tmp_path / "pets", "--url", server.url, "--sha256", SHA256)
        assert done.returncode == 0, done.stderr
        assert "broken pictures left out: 3" in done.stderr
        assert f"{PER_CLASS} cat, {PER_CLASS} dog" in done.stderr.replace("\n", " ")
        again = self.fovea(tmp_path / "pets", "--url", server.url)
        assert again.returncode == 0
        assert "is there already" in again.stderr
        assert len(server.requests) == 1

    def test_archive_that_nobody_vouches_for(self, tmp_path):
        (tmp_path / "a.zip").write_bytes(ARCHIVE)
        done = self.fovea(tmp_path / "pets", "--archive", tmp_path / "a.zip")
        assert done.returncode == 0
        assert SHA256 in done.stderr

    def test_refusals_are_one_sentence(self, server, tmp_path):
        server.statuses = [404]
        for arguments in (["--url", server.url], ["--archive", tmp_path / "no"], ["--url", "x", "--archive", "y"]):
            done = self.fovea(tmp_path / "pets", *arguments)
            assert done.returncode == 1
            assert done.stderr.strip().splitlines()[-1].startswith("fovea: ")
            assert "Traceback" not in done.stderr
