"""A process that copies until it is killed: `python -m tests.kill.copy_child FROM TO`, in many small transactions.

It says on stdout how far it is.
"""

from __future__ import annotations

import sys

from tallystick.ledger import copying
from tallystick.ledger.postgres import copy_source
from tallystick.settings import Settings


def tell(what: str, done: int, all: int) -> None:
    """Say how far it is."""
    print(what, done, all, flush=True)


if __name__ == "__main__":
    copying.GROUP_STEPS = 2
    copy_source.ACTIVE_S = 0
    made = copying.copy(sys.argv[1], sys.argv[2], Settings(), tell)
    sys.exit(1 if made.faults else 0)
