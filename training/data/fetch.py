"""Public picture archives: download, verify, unpack, leave the broken pictures out."""

import hashlib
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType

from serving.contract import images
from training.data.download import PAUSE, discard, download
from training.data.staging import check_new, new_folder
from training.errors import FoveaError

RECORD = "set.json"
"""The file in a fetched set that says where it is from; written last."""

LARGEST_FILE = 32 * 2**20
LARGEST_PICTURE = 100_000_000
"""Bytes and pixels above which a file counts as broken: the archives at hand hold snapshots."""

_MIB = 2**20

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Archive:
    """A zip file of labelled pictures."""

    url: str
    size: int
    """In bytes."""
    sha256: str
    member: re.Pattern[str]
    """Matches the whole names of the pictures; its groups `label` and `name` are what is made of a name."""


ARCHIVES: Mapping[str, Archive] = MappingProxyType(
    {
        "cats-vs-dogs": Archive(
            "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
            824_887_076,
            "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
            re.compile(r"PetImages/(?P<label>Cat|Dog)/(?P<name>[0-9]+\.jpg)"),
        )
    }
)


@dataclass(frozen=True)
class Fetched:
    """A fetched picture set."""

    source: str
    """Address or file of the archive."""
    sha256: str
    """Of the archive."""
    pictures: Mapping[str, int]
    """Number of pictures by class."""
    left_out: Mapping[str, str]
    """Names in the archive of the broken pictures, and why they cannot be decoded."""


class DamagedArchiveError(FoveaError):
    """The archive is not what it should be."""


def fetch(
    name: str,
    target: Path,
    url: str | None = None,
    sha256: str | None = None,
    file: Path | None = None,
    progress: Progress | None = None,
    pause: float = PAUSE,
) -> Fetched:
    """Make class folders of a public archive: all of them, or nothing.

    The archive is downloaded to `<target>.zip.part`, which a broken download leaves for the next call and a finished
    one removes. The archive at its own address is verified by its size and SHA-256; one from elsewhere by `sha256`
    if given, and by the checksums inside the zip file in any case. Nothing is done for a target that an
    earlier call has finished.

    Args:
        name: a key of `ARCHIVES`.
        target: a new or empty folder; gets `<class>/<name>` in lower case and `set.json`.
        url: address of a mirror.
        sha256: what the archive must have, in hexadecimal.
        file: an archive on this machine, instead of a download.
        progress: called with (what is done, done, in all).
        pause: see `download.PAUSE`.

    Raises:
        FoveaError: the target is not empty, the download failed (see `download`), the checksum is
            another one, or the archive is damaged or holds no such pictures.
    """
    target = target.absolute()
    if finished := read_record(target):
        return finished
    check_new(target)
    archive = ARCHIVES[name]
    report = progress or (lambda what, done, total: None)
    source = str(file) if file else url or archive.url
    own = file is None and url is None
    expected = archive.sha256 if own and sha256 is None else sha256
    part = target.with_name(f"{target.name}.zip.part")
    if file is None:
        download(
            source,
            part,
            archive.size if own else None,
            lambda done, total: report("download, MiB", done // _MIB, (total or archive.size) // _MIB),
            pause,
        )
    elif not file.is_file():
        raise FoveaError(f"there is no file {file}; --archive takes the zip file of {name}, as {archive.url} has it")
    try:
        fetched = _unpack(file or part, archive.member, source, expected, target, report)
    except DamagedArchiveError:
        if file is None:
            discard(part)
        raise
    discard(part)
    return fetched


def read_record(target: Path) -> Fetched | None:
    """Return what was fetched into a folder, if an archive was."""
    if not (target / RECORD).is_file():
        return None
    record = json.loads((target / RECORD).read_text(encoding="utf-8"))
    return Fetched(**record) if record.keys() == {field.name for field in fields(Fetched)} else None


def _unpack(
    zipped: Path, member: re.Pattern[str], source: str, sha256: str | None, target: Path, progress: Progress
) -> Fetched:
    digest = _sha256(zipped, progress)
    if sha256 is not None and digest != sha256.lower():
        raise DamagedArchiveError(
            f"{source} has the SHA-256 {digest}, not {sha256.lower()}: it is damaged or another file"
        )
    with new_folder(target) as folder:
        pictures, left_out = _extract(zipped, member, source, folder, progress)
        fetched = Fetched(source, digest, pictures, left_out)
        (folder / RECORD).write_text(json.dumps(asdict(fetched), indent=2) + "\n", encoding="utf-8")
    return fetched


def _extract(
    zipped: Path, member: re.Pattern[str], source: str, folder: Path, progress: Progress
) -> tuple[dict[str, int], dict[str, str]]:
    """Write the pictures that can be decoded; return how many of each class, and why the others cannot.

    No path is taken from the archive: a written one is made of two groups of `member`.
    """
    counts: Counter[str] = Counter()
    left_out = {}
    try:
        with zipfile.ZipFile(zipped) as opened, ThreadPoolExecutor() as pool:
            entries = [
                (info, match["label"].lower(), match["name"])
                for info in opened.infolist()
                if (match := member.fullmatch(info.filename))
            ]
            for label in {label for _, label, _ in entries}:
                (folder / label).mkdir()
            reasons = pool.map(
                lambda entry: _write_if_readable(opened, entry[0], folder / entry[1] / entry[2]), entries
            )
            for done, ((info, label, _), reason) in enumerate(zip(entries, reasons, strict=True), start=1):
                if reason is None:
                    counts[label] += 1
                else:
                    left_out[info.filename] = reason
                progress("unpack", done, len(entries))
    # What zipfile raises for damaged, unknown and encrypted members.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DamagedArchiveError(f"{source} is not a zip file, or a damaged one: {error}") from error
    if len(counts) < 2:
        raise DamagedArchiveError(f"{source} holds no readable pictures of two classes with names as {member.pattern}")
    return dict(sorted(counts.items())), left_out


def _write_if_readable(opened: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> str | None:
    """Return the reason if the picture cannot be decoded."""
    if info.file_size > LARGEST_FILE:
        return f"it has {info.file_size} bytes"
    data = opened.read(info)
    try:
        images.decode(data, LARGEST_PICTURE)
    except (images.UndecodableImageError, images.TooManyPixelsError) as error:
        return str(error)
    file.write_bytes(data)
    return None


def _sha256(file: Path, progress: Progress) -> str:
    digest, done, total = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as stream:
        while chunk := stream.read(_MIB):
            digest.update(chunk)
            done += len(chunk)
            progress("verify, MiB", done // _MIB, total // _MIB)
    return digest.hexdigest()
