"""Records as batches of events, with what is needed to say afterwards which line became what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tallystick.cli.importing.drafts import Drafter, with_id
from tallystick.cli.importing.json_drafts import json_drafter
from tallystick.cli.importing.mapping import Plan
from tallystick.cli.importing.opened import UNREADABLE, Opened
from tallystick.cli.importing.ordinals import Ordinals
from tallystick.cli.importing.records import (
    CSV,
    DELIMITERS,
    JSON,
    NDJSON,
    TSV,
    Broken,
    Record,
    Records,
    RowBlock,
    Rows,
    elements_of,
    form_of,
    lines_of,
)
from tallystick.cli.importing.row_drafts import row_drafter
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
    """Events to send, the records they came from, and those of which none could be made; `read` is of the file."""

    events: list[bytes] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    size: int = 0
    read: int = 0
    broken: str | None = None
    _unnamed: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, block: RowBlock, draft: Drafter) -> None:
        """Append records as events; those without an id get it when the batch is complete."""
        fit, columns, flawed = block
        for record in flawed:
            self._refuse(record, Code.NOT_OBJECT if record.is_row else Code.NOT_JSON, "", record.flaw or "")
        drafts = draft(fit, columns)
        if Unfit in set(map(type, drafts)):
            for record, drafted in zip(fit, drafts, strict=True):
                if isinstance(drafted, Unfit):
                    self._refuse(record, drafted.code, drafted.pointer, drafted.detail)
            fit = [record for record, drafted in zip(fit, drafts, strict=True) if isinstance(drafted, tuple)]
        kept = [drafted for drafted in drafts if isinstance(drafted, tuple)]
        self.records += fit
        self._unnamed += [(at, digest) for at, (_, digest) in enumerate(kept, len(self.events)) if digest is not None]
        events = [event for event, _ in kept]
        self.events += events
        self.size += sum(map(len, events))

    def _refuse(self, record: Record, code: str, pointer: str, detail: str) -> None:
        self.refused.append(Refusal(record.line, record.raw, "rejected", code, pointer, detail))
        self.size += len(record.raw)

    @property
    def is_full(self) -> bool:
        return len(self.events) + len(self.refused) >= BATCH_EVENTS or self.size >= BATCH_BYTES

    def complete(self, ordinals: Ordinals) -> None:
        """Give ids to the events without one."""
        if not self._unnamed:
            return
        keys = np.frombuffer(b"".join(digest[:8] for _, digest in self._unnamed), np.uint64)
        for (at, digest), ordinal in zip(self._unnamed, ordinals.number(keys).tolist(), strict=True):
            self.events[at] = with_id(self.events[at], digest, ordinal)
        self._unnamed.clear()


def batches_of(file: Opened, plan: Plan, form: str | None, delimiter: str | None) -> Iterator[Batch]:
    """Yield the batches of one file; the last one says it where the rest of the file could not be read.

    Raises Failure where the mapping does not fit the file, before the first batch.
    """
    ordinals, batch = Ordinals(), Batch()
    try:
        chunks, draft = _reader(file, plan, form or form_of(file.name, file.content), delimiter)
    except UNREADABLE as error:
        yield Batch(broken=str(error) or type(error).__name__)
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
            batch.read = file.read()
            yield batch
            batch = Batch()
        if chunk is None:
            return


def _reader(file: Opened, plan: Plan, form: str, delimiter: str | None) -> tuple[Iterator[RowBlock], Drafter]:
    if form in (CSV, TSV):
        rows = Rows(file.content, delimiter or DELIMITERS[form])
        return iter(rows), row_drafter(rows.columns, plan)
    assert form in (NDJSON, JSON)
    return _parted((lines_of if form == NDJSON else elements_of)(file.content)), json_drafter(plan)


def _parted(chunks: Iterator[Records]) -> Iterator[RowBlock]:
    """Tell records that can be looked at from those that cannot; they have no columns."""
    for records in chunks:
        flawed = [record for record in records if record.flaw is not None]
        yield RowBlock([record for record in records if record.flaw is None] if flawed else records, (), flawed)
