"""The only questions dialects ask, answered together from one moment of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tallystick.errors import Code, Flaw, Problem
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

    def value(self, parameter: str) -> str | None:
        """Return what a query parameter says, None when absent; a Problem when it is empty or given twice."""
        return value_of(self.query, parameter)


@dataclass(frozen=True, slots=True)
class Reply:
    """A rendered answer: bytes, ready to send."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


async def run(ledger: Ledger, queries: Sequence[UsageQuery]) -> Sequence[UsageTable]:
    """Answer every query of one report from one read transaction; tables follow the order of `queries`."""
    return await ledger.usage(queries) if queries else ()


def value_of(query: Sequence[tuple[str, str]], parameter: str) -> str | None:
    """Return what a query parameter says, None when absent; a Problem when it is empty or given twice."""
    values = [value for name, value in query if name == parameter]
    if len(values) > 1:
        raise invalid(parameter, f"Give {parameter} only once.")
    if values == [""]:
        raise invalid(parameter, f"Give {parameter} a value, or leave it out.")
    return values[0] if values else None


def invalid(parameter: str, detail: str) -> Problem:
    """Say what is wrong with one query parameter, and what to do."""
    return Problem(Code.PARAMETER_INVALID, detail, (Flaw(parameter, detail),))


def decimal_text(amount: int, scale: int) -> str:
    """Write an amount at a scale as plain decimal text: no exponent, no trailing zeros."""
    digits = str(abs(amount)).rjust(scale + 1, "0")
    point = len(digits) - scale
    fraction = digits[point:].rstrip("0")
    return ("-" if amount < 0 else "") + digits[:point] + ("." + fraction if fraction else "")
