"""Pictures that were made to do harm are refused, or done with, within bounded time and memory."""

import io
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.hostile import HOSTILE
from serving.contract import images, structure
from serving.deadline import Deadline
from serving.decoding import Decoder
from serving.errors import DeadlineExceededError, FoveaError, NotAnImageError
from serving.settings import Settings

MIB = 1 << 20
# Of processor time. Decoding 49 million pixels takes most of it; all others are far below.
MOST_SECONDS = 6
BYTES_A_PIXEL = 17


@pytest.fixture
def decoder():
    return Decoder(Settings(models=["any"]))


def peak_bytes():
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


@pytest.mark.parametrize(("make", "code"), HOSTILE.items(), ids=lambda value: getattr(value, "__name__", None))
def test_harm_is_bounded(decoder, make, code):
    data = make()
    # The peak counts anew from here.
    Path("/proc/self/clear_refs").write_text("5")
    memory, seconds = peak_bytes(), time.process_time()
    found = sentence = "OK"
    try:
        decoder.resized(data, 24, 32, None, Deadline(60))
    except FoveaError as error:
        found, sentence = error.code, str(error)
    assert "\n" not in sentence
    assert len(sentence) < 300
    assert found == code
    assert time.process_time() - seconds < (MOST_SECONDS if "large" in make.__name__ else 1)
    most = BYTES_A_PIXEL * Settings(models=["any"]).max_pixels if "large" in make.__name__ else 100 * MIB
    assert peak_bytes() - memory < most


def test_what_is_wrong_with_a_picture_is_told_to_its_sender_and_not_to_the_log(decoder, caplog):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "TIFF")
    # SamplesPerPixel (tag 277), a SHORT, of 3.
    samples = b"\x15\x01\x03\x00\x01\x00\x00\x00"
    assert stream.getvalue().count(samples + b"\x03") == 1
    with pytest.raises(NotAnImageError):
        decoder.resized(stream.getvalue().replace(samples + b"\x03", samples + b"\xff"), 24, 32, None, Deadline(60))
    assert caplog.messages == []


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"icc_profile": bytes(600_000)}, {"exif": b"Exif\0\0" + bytes(60_000)}]
)
def test_what_programs_write_is_taken(options):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    structure.check(stream.getvalue())


def test_transparency_is_laid_over_white(encode):
    pixels = np.random.default_rng(0).integers(0, 256, (600, 30, 4), np.uint8)
    rgba = Image.fromarray(pixels)
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    expected = Image.alpha_composite(white, rgba).convert("RGB")
    np.testing.assert_array_equal(images.decode(encode(pixels)), expected)


def test_large_pictures_are_decoded_one_at_a_time(encode):
    decoder = Decoder(Settings(models=["any"], max_pixels=1000, max_in_flight=10))
    small, large = encode(np.zeros((10, 10, 3), np.uint8)), encode(np.zeros((10, 11, 3), np.uint8))
    done = threading.Event()
    with decoder.whole(large, Deadline(5)):
        decoder.resized(small, 4, 4, None, Deadline(5))
        with pytest.raises(DeadlineExceededError, match="while other large pictures were decoded"):
            decoder.resized(large, 4, 4, None, Deadline(0.05))
        waiting = threading.Thread(target=lambda: (decoder.resized(large, 4, 4, None, Deadline(5)), done.set()))
        waiting.start()
        assert not done.wait(0.05)
    waiting.join(5)
    assert done.is_set()
