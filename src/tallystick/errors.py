"""The closed list of codes that anything outside can meet, and the one exception that carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Code(StrEnum):
    """Every code of a receipt or a problem; api/errors.py gives each its HTTP status."""

    # Receipts: one event was not taken.
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    FIELD_MISSING = "field_missing"
    FIELD_TYPE = "field_type"
    FIELD_LENGTH = "field_length"
    FIELD_VALUE = "field_value"
    TIME_FORMAT = "time_format"
    TIME_FUTURE = "time_future"
    QUANTITY_MISSING = "quantity_missing"
    QUANTITY_TYPE = "quantity_type"
    QUANTITY_NEGATIVE = "quantity_negative"
    QUANTITY_PRECISION = "quantity_precision"
    QUANTITY_RANGE = "quantity_range"
    RATE_MISSING = "rate_missing"
    LABEL_RESERVED = "label_reserved"
    LABEL_SETS_EXCEEDED = "label_sets_exceeded"
    TEXT_INVALID = "text_invalid"
    ACCOUNT_FORBIDDEN = "account_forbidden"
    ACCOUNT_UNKNOWN = "account_unknown"
    ID_REUSED = "id_reused"
    EVENT_TOO_LARGE = "event_too_large"
    OVER_LIMIT = "over_limit"

    # Problems: a whole request was not answered.
    BODY_UNDECODABLE = "body_undecodable"
    HEADER_INVALID = "header_invalid"
    BATCH_TOO_LARGE = "batch_too_large"
    MEDIA_TYPE_UNKNOWN = "media_type_unknown"
    PARAMETER_INVALID = "parameter_invalid"
    ROWS_EXCEEDED = "rows_exceeded"
    KEY_MISSING = "key_missing"
    KEY_INVALID = "key_invalid"
    SCOPE_MISSING = "scope_missing"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    HTTP_VERSION = "http_version"
    IN_USE = "in_use"
    HOLD_ENDED = "hold_ended"
    UNAVAILABLE = "unavailable"
    READ_ONLY = "read_only"
    UNPROVEN = "unproven"
    DISK_FULL = "disk_full"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing wrong with what was sent: where (a JSON pointer, or a query parameter's name) and what to do."""

    pointer: str
    detail: str


@dataclass(eq=False)
class Problem(Exception):
    """A request that cannot be answered; rendered as RFC 9457 by api/errors.py and by each dialect in its own shape.

    `request_id` is of the request that met it, filled in before it is written. `http_status` is there where the code
    alone does not tell it.
    """

    code: Code
    detail: str
    flaws: tuple[Flaw, ...] = ()
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    http_status: int | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class LedgerError(Exception):
    """A data folder or database that cannot be opened or trusted; the message says what to do."""


class LedgerDamaged(LedgerError):
    """A ledger whose own bytes are not what was written, so badly that it cannot be opened."""
