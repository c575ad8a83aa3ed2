"""How statements say that they are about one account, so that Citus has the one node do them which keeps it.

What locks or changes rows of several accounts at once Citus would refuse. Where commits are split by account no
statement does; elsewhere a batch over many accounts takes as few statements as one over a single one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tallystick.rollup import Ints


def among(accounts: Sequence[int] | Ints) -> tuple[str, object]:
    """Return what an account has to be to be one of these, and the parameter of that."""
    single = _single(accounts)
    return ("= ANY(%s)", [*map(int, accounts)]) if single is None else ("= %s", single)


def only(column: str, accounts: Sequence[int] | Ints) -> tuple[str, tuple[int, ...]]:
    """Return a further condition, with its parameters: that a column is the one account which all of these are.

    None is needed where there are several: they are named by what the statement joins.
    """
    single = _single(accounts)
    return ("", ()) if single is None else (f" AND {column} = %s", (single,))


def _single(accounts: Sequence[int] | Ints) -> int | None:
    numbers = np.asarray(accounts, np.int64)
    return int(numbers[0]) if len(numbers) and bool((numbers == numbers[0]).all()) else None
