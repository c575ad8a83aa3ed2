"""Records as batches of events, with what is needed to say afterwards which line became what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tallystick.cli.importing.drafts import Drafter, Drafts, with_id
from tallystick.cli.importing.elements import elements_of
from tallystick.cli.importing.forms import CSV, DELIMITERS, JSON, NDJSON, TSV, form_of
from tallystick.cli.importing.json_drafts import json_drafter
from tallystick.cli.importing.lines import lines_of
from tallystick.cli.importing.mapping import Plan
from tallystick.cli.importing.opened import UNREADABLE, Opened
from tallystick.cli.importing.ordinals import Ordinals
from tallystick.cli.importing.records import Broken, Records
from tallystick.cli.importing.row_drafts import row_drafter
from tallystick.cli.importing.tables import Rows
from tallystick.cli.importing.values import Unfit
from tallystick.errors import Code

BATCH_EVENTS = 20_000
BATCH_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that was not taken: its line, its bytes and why, in the words of a receipt."""

    line: int
    raw: bytes
    status: str
    code: str
    pointer: str
    detail: str


@dataclass(slots=True)
class Batch:
    """Events to send, the lines they came from, and what none could be made of.

    `share` is how much of the file has been read by then, None if nobody knows; `notes` are for whoever imports it. The
    last one of a file `ends` it, and says why where the rest of it could not be read.
    """

    events: list[bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    raws: list[bytes] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    size: int = 0
    share: float | None = None
    notes: list[str] = field(default_factory=list)
    ends: bool = False
    broken: str | None = None
    _digests: dict[int, bytes] = field(default_factory=dict)

    def add(self, records: Records, draft: Drafter) -> None:
        """Append records as events; those without an id get it when the batch is complete."""
        for line, raw, code, detail in records.flawed:
            self._refuse(line, raw, code, "", detail)
        drafts = draft(records)
        if drafts.unfit:
            for at, unfit in drafts.unfit.items():
                self._refuse(records.lines[at], records.raws[at], unfit.code, unfit.pointer, unfit.detail)
            records, drafts = _without(drafts.unfit, records, drafts)
        first = len(self.events)
        self._digests.update((first + at, digest) for at, digest in drafts.digests.items())
        self.events += drafts.events
        self.lines += records.lines
        self.raws += records.raws
        self.size += sum(map(len, drafts.events))

    def _refuse(self, line: int, raw: bytes, code: Code, pointer: str, detail: str) -> None:
        self.refused.append(Refusal(line, raw, "rejected", code, pointer, detail))
        self.size += len(raw)

    @property
    def is_full(self) -> bool:
        return len(self.events) + len(self.refused) >= BATCH_EVENTS or self.size >= BATCH_BYTES

    def complete(self, ordinals: Ordinals) -> None:
        """Give ids to the events without one."""
        if not self._digests:
            return
        keys = np.frombuffer(b"".join(digest[:8] for digest in self._digests.values()), np.uint64)
        for (at, digest), ordinal in zip(self._digests.items(), ordinals.number(keys).tolist(), strict=True):
            self.events[at] = with_id(self.events[at], digest, ordinal)
        self._digests.clear()


def _without(unfit: Mapping[int, Unfit], records: Records, drafts: Drafts) -> tuple[Records, Drafts]:
    """Leave the records out that are unfit."""
    kept = [at for at in range(len(records.lines)) if at not in unfit]
    digests = {place: drafts.digests[at] for place, at in enumerate(kept) if at in drafts.digests}
    return (
        Records([records.lines[at] for at in kept], [records.raws[at] for at in kept]),
        Drafts([drafts.events[at] for at in kept], digests, {}),
    )


def batches_of(file: Opened, plan: Plan, form: str | None, delimiter: str | None) -> Iterator[Batch]:
    """Yield the batches of one file, at least one.

    Raises Failure where the mapping does not fit the file, before the first batch.
    """
    ordinals, batch = Ordinals(), Batch()
    try:
        chunks, draft = _reader(file, plan, form or form_of(file.name, file.content), delimiter, batch.notes)
    except UNREADABLE as error:
        yield Batch(ends=True, broken=str(error) or type(error).__name__)
        return
    while True:
        try:
            chunk = next(chunks, None)
        except (Broken, *UNREADABLE) as error:
            batch.broken = str(error) or type(error).__name__
            chunk = None
        if chunk is not None:
            batch.add(chunk, draft)
        if chunk is None or batch.is_full:
            batch.complete(ordinals)
            batch.share, batch.ends = file.share(), chunk is None
            yield batch
            batch = Batch()
        if chunk is None:
            return


def _reader(
    file: Opened, plan: Plan, form: str, delimiter: str | None, notes: list[str]
) -> tuple[Iterator[Records], Drafter]:
    if form in (CSV, TSV):
        rows = Rows(file.content, delimiter or DELIMITERS[form])
        return iter(rows), row_drafter(rows.columns, plan, notes)
    assert form in (NDJSON, JSON)
    return (lines_of if form == NDJSON else elements_of)(file.content), json_drafter(plan)
