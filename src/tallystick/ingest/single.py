"""One event by itself, read by its shape like many: columns would cost more than the rest of its way."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from tallystick.envelope import SECOND, parse_time
from tallystick.ingest.plain import decode_one, subject_in_shape
from tallystick.ingest.plan import Plan, Shape, Texts
from tallystick.model import Batch, Catalog
from tallystick.settings import Settings

Ints = NDArray[np.int64]


class Single(msgspec.Struct, frozen=True, eq=False):
    """An event as it was read; `head` and `texts` make its shape, and `data` has its quantities."""

    plan: Plan
    raw: bytes
    id: str
    source: str
    time: str | None
    head: Texts
    texts: Texts
    data: Any

    @staticmethod
    def read(plan: Plan, raw: bytes, settings: Settings) -> Single | None:
        """Read an event; nothing where it needs a closer look than its shape."""
        event = decode_one(plan.form, raw) if len(raw) <= settings.event_bytes_max else None
        if event is None or event.data is None:
            return None
        most = settings.text_length_max
        id, source, type, version, time, subject, account, *others, data = astuple(event)
        if not (1 <= len(id) <= most and 1 <= len(source) <= most):
            return None
        head = (type, version, subject and subject_in_shape(subject, account, most), account, *others)
        return Single(plan, raw, id, source, time, head, plan.form.texts_of(data), data)

    @property
    def shape(self) -> Shape | None:
        """What is known of events with these texts."""
        return self.plan.shape(self.head, self.texts)

    def batch(self, catalog: Catalog, now: int, settings: Settings) -> Batch | None:
        """Return the event as a batch, or nothing where its shape is not known or its time or an amount not plain."""
        shape, time = self.shape, self._instant(now, settings)
        amounts = None if shape is None or time is None else self._amounts(shape, time)
        if shape is None or time is None or amounts is None:
            return None
        first, places = _places(len(amounts))
        return Batch(
            catalog.version,
            now,
            [self.raw],
            [shape.account],
            [self.source],
            [self.id],
            np.array((time,), np.int64),
            TIMED if self.time is not None else UNTIMED,
            first,
            places,
            np.array(amounts, np.int64),
            shape.label_sets,
        )

    def _instant(self, now: int, settings: Settings) -> int | None:
        if self.time is None:
            return now
        try:
            time = parse_time(self.time)
        except ValueError:
            return None
        return time if time <= now + settings.time_ahead_s_max * SECOND else None

    def _amounts(self, shape: Shape, time: int) -> list[int] | None:
        amounts: list[int] = []
        for way in map(self.plan.ways.__getitem__, shape.ways):
            number = b"1" if way.member is None else bytes(self.plan.form.quantity_of[way.member](self.data))
            amount = way.amount(number, time)
            if amount is None:
                return None
            amounts.append(amount)
        return amounts


TIMED, UNTIMED = np.ones(1, np.bool_), np.zeros(1, np.bool_)


@cache
def _places(postings: int) -> tuple[Ints, Ints]:
    """Return the places of the event and of the label sets of its postings; whoever gets them changes nothing."""
    return np.zeros(postings, np.int64), np.arange(postings)
