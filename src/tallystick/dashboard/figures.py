"""Exact decimals as people read them: grouped digits, units, shares and changes. No float comes near them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation

EXACT = Context(prec=1000, traps=[Inexact, InvalidOperation])
"""Adds and multiplies without ever rounding; it would rather fail."""
ROUNDED = Context(prec=1000, rounding=ROUND_HALF_EVEN)
ZERO = Decimal(0)
TENTH = Decimal("0.1")


def added(amounts: Iterable[Decimal]) -> Decimal:
    """Return an exact sum."""
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def plain(amount: Decimal) -> str:
    """Write an amount as the API does: no exponent, no trailing zeros."""
    text = f"{amount:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def grouped(text: str) -> str:
    """Put commas between the thousands of a decimal text, and change nothing else of it."""
    whole, point, part = text.partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    first = len(digits) % 3 or 3
    groups = [digits[:first], *(digits[at : at + 3] for at in range(first, len(digits), 3))]
    return sign + ",".join(groups) + point + part


def rounded(amount: Decimal, places: int) -> str:
    """Write an amount with at most so many decimals, half to even."""
    return plain(ROUNDED.quantize(amount, Decimal(1).scaleb(-places)))


def ratio(part: Decimal, whole: Decimal) -> Decimal | None:
    """Return a part in percent of the whole, at a thousand digits; None of nothing."""
    return None if not whole else ROUNDED.divide(EXACT.multiply(part, Decimal(100)), whole)


def share(part: Decimal, whole: Decimal) -> str:
    """Write a part in percent of the whole, with one decimal; what rounds to nothing or all and is not, says so."""
    percent = ratio(part, whole)
    if percent is None:
        return "–"
    if ZERO < percent < TENTH:
        return "< 0.1 %"
    if Decimal("99.9") < percent < 100:
        return "> 99.9 %"
    return f"{grouped(_tenths(percent))} %"


def _tenths(percent: Decimal) -> str:
    return f"{ROUNDED.quantize(percent, TENTH):f}"


def change(now: Decimal, before: Decimal) -> str:
    """Write how much more or less it is than before, in percent."""
    if not before:
        return "no change" if not now else "new"
    percent = ROUNDED.divide(EXACT.multiply(EXACT.subtract(now, before), Decimal(100)), abs(before))
    text = grouped(_tenths(abs(percent)))
    if text == "0.0":
        return "no change" if not percent else "almost the same"
    return f"{'−' if percent < 0 else '+'}{text} %"


def unit(text: str) -> str:
    """Write a unit for people: what UCUM has in braces is a word of ours."""
    word = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    return f"{word}s" if word != text and word and not word.endswith("s") else word


def spoken(amount: Decimal, unit_text: str) -> str:
    """Write seconds as hours, minutes and seconds, exactly; "" for what is no time or under a minute."""
    if unit_text != "s" or abs(amount) < 60:
        return ""
    minutes, seconds = divmod(int(abs(amount)), 60)
    seconds_text = plain(EXACT.add(EXACT.subtract(abs(amount), Decimal(int(abs(amount)))), Decimal(seconds)))
    hours, minutes = divmod(minutes, 60)
    parts = [f"{grouped(str(hours))} h" if hours else "", f"{minutes} min" if minutes else ""]
    parts.append(f"{seconds_text} s" if seconds_text != "0" else "")
    return ("−" if amount < 0 else "") + " ".join(part for part in parts if part)
