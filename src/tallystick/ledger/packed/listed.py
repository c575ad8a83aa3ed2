"""Events as listings show them: what a kept one says, and what it was counted as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tallystick.envelope import Unreadable, read
from tallystick.ledger.packed.segment import Columns, Damaged
from tallystick.ledger.packed.series import SeriesIndex
from tallystick.model import Posting


def envelope_of(sequence: int, raw: bytes) -> Mapping[str, Any]:
    """Read a kept event; raises Damaged when it is none."""
    try:
        return read(raw)
    except Unreadable as error:
        raise Damaged(f"event {sequence} cannot be read: {error}") from error


def postings_of(columns: Columns, event: int, index: SeriesIndex) -> tuple[Posting, ...]:
    """Return the postings of one event among columns, by meter and labels."""
    start, end = np.searchsorted(columns.posting_event, (event, event + 1)).tolist()
    found = []
    for at in range(start, end):
        _, meter, version, labels = index.describe(int(columns.posting_series[at]))
        found.append(Posting(meter, version, labels, int(columns.posting_amount[at])))
    return tuple(sorted(found, key=lambda posting: (posting.meter, posting.labels)))
