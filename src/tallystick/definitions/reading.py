"""A document taken apart member by member: what is wrong is noted with its JSON pointer, and told all at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tallystick.envelope import EXACT, UNSAFE, pointer_to, text_of
from tallystick.errors import Code, Flaw, Problem

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
NAME_RULE = "1 to 64 of a-z, 0-9 and _, beginning with a letter"
TEXT_LENGTH_MAX = 256
EXPONENT_MAX = 40
NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)


@dataclass(slots=True)
class Reading:
    """The flaws of one document, in the order in which they were found."""

    flaws: list[tuple[Code, Flaw]] = field(default_factory=list)

    def refuse(self, code: Code, pointer: str, detail: str) -> None:
        """Note one flaw."""
        self.flaws.append((code, Flaw(pointer, detail)))

    def done(self) -> None:
        """Raise Problem with every flaw that was noted; the first gives its code and sentence."""
        if self.flaws:
            code, first = self.flaws[0]
            raise Problem(code, first.detail, tuple(flaw for _, flaw in self.flaws))

    def members(self, value: Any, pointer: str, allowed: Collection[str], required: Collection[str]) -> dict[str, Any]:
        """Return the members of an object, less those that are null; note what is unknown or missing.

        A document that is no object has no other flaws.
        """
        if not isinstance(value, Mapping):
            self.refuse(Code.FIELD_TYPE, pointer, f"{_named(pointer)} must be an object.")
            if not pointer:
                self.done()
            return {}
        members = {name: member for name, member in value.items() if member is not None}
        for name in members:
            if name not in allowed:
                known = ", ".join(allowed)
                self.refuse(
                    Code.FIELD_VALUE, pointer + pointer_to(name), f"There is no such member; there are {known}."
                )
        for name in required:
            if name not in members:
                self.refuse(Code.FIELD_MISSING, f"{pointer}/{name}", f"{name} is required.")
        return members

    def text(self, value: Any, pointer: str, length_max: int = TEXT_LENGTH_MAX, *, may_be_empty: bool = False) -> str:
        """Return a clean text of bounded length; "" after a flaw."""
        if not isinstance(value, str):
            self.refuse(Code.FIELD_TYPE, pointer, f"{_named(pointer)} must be a string.")
        elif not (0 if may_be_empty else 1) <= len(value) <= length_max:
            self.refuse(Code.FIELD_LENGTH, pointer, f"{_named(pointer)} must have 1 to {length_max} characters.")
        elif UNSAFE.search(value):
            detail = f"Remove control characters, bidi overrides and halves of surrogate pairs from {_named(pointer)}."
            self.refuse(Code.TEXT_INVALID, pointer, detail)
        else:
            return value
        return ""

    def choice(self, value: Any, pointer: str, allowed: Collection[str]) -> str:
        """Return one of the words that are allowed; the first of them after a flaw."""
        if isinstance(value, str) and value in allowed:
            return value
        code = Code.FIELD_VALUE if isinstance(value, str) else Code.FIELD_TYPE
        self.refuse(code, pointer, f"{_named(pointer)} must be one of {', '.join(allowed)}.")
        return next(iter(allowed))

    def name(self, value: Any, pointer: str) -> str:
        """Return the name of a meter or rate table."""
        if isinstance(value, str) and NAME.fullmatch(value):
            return value
        code = Code.FIELD_VALUE if isinstance(value, str) else Code.FIELD_TYPE
        self.refuse(code, pointer, f"{_named(pointer)} must be {NAME_RULE}.")
        return ""

    def number(self, value: Any, pointer: str, decimals_max: int, largest: int) -> Decimal | None:
        """Return a number from 0 on, given as a number or as decimal text; None after a flaw."""
        number = _exact(value)
        if number is None:
            detail = f'{_named(pointer)} must be a decimal number, as text ("0.5") or as a number, and not negative.'
            self.refuse(Code.FIELD_TYPE, pointer, detail)
        elif number > largest:
            self.refuse(Code.FIELD_VALUE, pointer, f"{_named(pointer)} may be at most {largest}.")
        elif number != number.quantize(Decimal(1).scaleb(-decimals_max), context=EXACT):
            digits = f"at most {decimals_max} decimals" if decimals_max else "no decimals"
            self.refuse(Code.FIELD_VALUE, pointer, f"{_named(pointer)} may have {digits}.")
        else:
            return number
        return None


def decimal_text(number: Decimal) -> str:
    """Write a number in its shortest plain form."""
    return text_of(number) or "0"


def _exact(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, str):
        return Decimal(value) if NUMBER.fullmatch(value) else None
    number = Decimal(value)
    if not number.is_finite() or number < 0:
        return None
    # What is so far off needs no digits to be refused, and might have a great many.
    if number and abs(number.adjusted()) > EXPONENT_MAX:
        return Decimal(1).scaleb(EXPONENT_MAX if number > 1 else -EXPONENT_MAX)
    return abs(number)


def _named(pointer: str) -> str:
    return pointer[1:].replace("/", ".").replace("~1", "/").replace("~0", "~") or "The document"
