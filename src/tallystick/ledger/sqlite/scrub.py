"""The log read again and again behind the work, a little at a time, so that damage is known before it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import msgspec
import structlog

from tallystick.ledger.packed import segment
from tallystick.ledger.packed.meter_entries import CorrectionHeader
from tallystick.ledger.packed.segment import GENESIS, Damaged, Digests
from tallystick.ledger.sqlite.file import CORRECTED, EVENTS, rows
from tallystick.precedence import precedence

log = structlog.get_logger(__name__)

EVERYONE = 0
"""Stands among account numbers, which begin at 1, for a damaged entry that does not say whose it is."""


_digests = msgspec.msgpack.Decoder(Digests)


def refuse_damaged(damaged: frozenset[int], accounts: Collection[int]) -> None:
    """Raise Damaged where what is known to be damaged has anything of these accounts."""
    if damaged and accounts and (EVERYONE in damaged or not damaged.isdisjoint(accounts)):
        raise Damaged("verify found entries of the log that are not what was written")


@dataclass(slots=True)
class Scrub:
    """Goes round the log; `damaged` are the accounts with usage in `entries`, which are not what was written."""

    damaged: frozenset[int] = frozenset()
    entries: frozenset[int] = frozenset()
    _entry: int = 0
    _link: bytes = GENESIS
    _found: set[int] = field(default_factory=set)
    _found_entries: set[int] = field(default_factory=set)

    def step(self, db: apsw.Connection, bytes_max: int) -> None:
        """Check the next entries, about `bytes_max` of the file, at least one; start over behind the last."""
        read = 0
        for entry, kind, first, count, header, columns, link in self._next(db):
            precedence.give_way()
            read += len(header) + len(columns or b"")
            self._entry, self._link = entry, segment.link(self._link, header)
            if self._link != link:
                # A header that is not what was written does not say whose usage it covers.
                self._link = link
                self._note(entry, "its link does not follow", (EVERYONE,))
            elif kind == EVENTS:
                said = _digests.decode(header)
                size, problem = _check(db, first, count, said, columns)
                read += size
                if problem:
                    self._note(entry, problem, said.accounts)
            elif kind == CORRECTED:
                correction = msgspec.msgpack.decode(header, type=CorrectionHeader)
                if not _is_whole(columns, correction.columns):
                    self._note(entry, "its postings are not what was written", correction.accounts)
            if read >= bytes_max:
                return
        if read:
            return
        self.damaged, self.entries = frozenset(self._found), frozenset(self._found_entries)
        self._entry, self._link, self._found, self._found_entries = 0, GENESIS, set(), set()

    def _next(self, db: apsw.Connection) -> Iterator[tuple[Any, ...]]:
        """Yield the entries behind the last one that was checked, each read when it is asked for."""
        statement = """SELECT entry, kind, first, count, header, columns, link FROM log WHERE entry > ?
            ORDER BY entry LIMIT 64"""
        try:
            yield from rows(db, statement, (self._entry,))
        except apsw.CorruptError as error:
            self._note(self._entry + 1, str(error), (EVERYONE,))
            raise

    def _note(self, entry: int, problem: str, accounts: Sequence[int]) -> None:
        log.error("log_damaged", entry=entry, problem=problem)
        self._found.update(accounts)
        self._found_entries.add(entry)
        self.damaged |= self._found
        self.entries |= self._found_entries


def _is_whole(columns: bytes, digest: bytes) -> bool:
    try:
        return segment.columns_digest(columns) == digest
    except Damaged:
        return False


def _check(db: apsw.Connection, first: int, count: int, said: Digests, columns: bytes) -> tuple[int, str]:
    """Compare a segment with the digests in its header; returns how much was read, and what is wrong."""
    size, digests = 0, dict(said.frames)
    try:
        if not _is_whole(columns, said.columns):
            return size, "its postings are not what was written"
        statement = "SELECT first, body FROM frame WHERE first >= ? AND first < ?"
        for at, body in rows(db, statement, (first, first + count)):
            precedence.give_way()
            size += len(body)
            if segment.frame_digest(body) != digests.pop(at, None):
                return size, f"the frame of event {at} is not what was written"
    except (Damaged, apsw.CorruptError) as error:
        return size, str(error)
    return size, "frames are missing" if digests else ""
