"""How the interpreter and the C library are set in a process that serves: threads, garbage, memory."""

from __future__ import annotations

import ctypes
import gc

from tallystick.precedence import precedence

GARBAGE_THRESHOLDS = (5_000, 5, 1_000)
MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD, ARENA_MAX = -3, -1, -2, -8
"""The numbers by which mallopt(3) knows its parameters."""
MEMORY = {MMAP_THRESHOLD: 1 << 20, TRIM_THRESHOLD: 16 << 20, TOP_PAD: 1 << 20, ARENA_MAX: 1}
"""Bytes: a column of a usual batch stays with the process, what a merge takes goes back at once.

And one heap for all threads: what each of them keeps of its own for the next batch is a fifth of all memory, while the
interpreter lets one of them at a time ask for any.
"""


def settle() -> None:
    """Set this process up for serving; what was imported so far is never looked at as garbage again."""
    precedence.govern()
    # Almost nothing here is garbage that refers to itself, and looking for it stops every thread.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    # Columns of a batch come and go: given back to the system each time, their pages would be fetched anew each time.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in MEMORY.items():
            mallopt(parameter, value)
