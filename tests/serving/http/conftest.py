"""Pictures that the tests of the HTTP door send."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def blue(encode):
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[..., 2] = 255
    return encode(pixels)
