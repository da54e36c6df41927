"""How glibc gives memory back."""

import ctypes

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
LARGE = 1 << 20
"""Blocks of this many bytes are mapped for themselves, and gone when they are freed."""
_KEPT = 4 << 20
_ARENAS = 2


def give_back_large_blocks() -> None:
    """Keep no memory of large pictures once they are done with; to be called before there are threads.

    By itself glibc raises the size of what it maps for itself to that of the largest block that was ever freed, up to
    32 MiB. From then on such blocks lie within its arenas, and whatever small is allocated behind one keeps its place
    from being given back; and there are up to eight arenas for each core of the machine, however few of them a
    container may use. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGE)
        # With the other one set it would stay at 128 KiB, and pages would come and go with each request.
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_ARENA_MAX, _ARENAS)
