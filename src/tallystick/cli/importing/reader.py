"""`python -m tallystick.cli.importing.reader`: what reads files for an import in a process of its own."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Sequence

from tallystick.cli import runtime
from tallystick.cli.importing.files import Files
from tallystick.cli.options import Failure

LOOK_EVERY_S = 1.0


def main(parent: int, how: str, names: Sequence[str]) -> None:
    """Read files, and write their batches to stdout; `how` is all but the names of what to read."""
    threading.Thread(target=_end_with, args=[parent], daemon=True).start()
    runtime.settle()
    plan, form, delimiter = pickle.loads(bytes.fromhex(how))
    try:
        for batch in Files(names, plan, form, delimiter).batches():
            _write(batch)
    except Failure as failure:
        _write(failure)
    except BrokenPipeError:
        os._exit(1)


def _write(found: object) -> None:
    pickle.dump(found, sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
    sys.stdout.buffer.flush()


def _end_with(parent: int) -> None:
    """End this process when its parent has, even where a pipe keeps it waiting for more to read."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
