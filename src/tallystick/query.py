"""The only questions dialects ask, answered together from one moment of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tallystick.ledger.base import Ledger
from tallystick.model import Catalog, UsageQuery, UsageTable


@dataclass(frozen=True, slots=True)
class Request:
    """What a dialect may know of a request: it was authenticated, and `accounts` are those its answer may read.

    `accounts` None = all (the operator's key, no account named). `query` keeps order and repetition, decoded once.
    `now` is the instant of the request. `accept` is the Accept header as sent, "" when absent.
    """

    now: int
    catalog: Catalog
    accounts: tuple[str, ...] | None
    query: tuple[tuple[str, str], ...] = ()
    path: Mapping[str, str] = field(default_factory=dict)
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A rendered answer: bytes, ready to send."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


async def run(ledger: Ledger, queries: Sequence[UsageQuery]) -> Sequence[UsageTable]:
    """Answer every query of one report from one read transaction; tables follow the order of `queries`."""
    return await ledger.usage(queries)
