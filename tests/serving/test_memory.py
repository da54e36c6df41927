"""Memory is given back."""

import subprocess
import sys

# Once a first block was freed, glibc would allocate the next of its size where it keeps them, below a small one.
_PROGRAM = """
import re
from pathlib import Path
from PIL import Image
from serving import memory

def resident():
    return 1024 * int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

memory.give_back_large_blocks()
Image.new("RGB", (1000, 2500))
before = resident()
picture = Image.new("RGB", (1000, 2500))
behind = [bytes(2000) for _ in range(100)]
assert resident() > before + 9_000_000
del picture
print(resident() - before)
"""


def test_a_large_picture_leaves_nothing_behind():
    grown = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 2_000_000
