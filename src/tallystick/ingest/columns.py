"""Texts of times and quantities read a column at a time; whatever is not in the plainest form is left to others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

DIGITS_MAX = 18
"""So many decimal digits always fit into an int64."""
NUMBER_WIDTH = DIGITS_MAX + 2
TIME_WIDTH = 32

_TENS = 10 ** np.arange(DIGITS_MAX + 1, dtype=np.int64)

_DIGIT_PLACES = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])
_MARK_PLACES = np.array([4, 7, 10, 13, 16])
_MARKS = np.frombuffer(b"--T::", np.uint8).reshape(-1, 1)
_DAYS_BEFORE = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334], np.int64)
_DAYS_IN = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
_EPOCH_DAYS = 719_162  # from 0001-01-01 to 1970-01-01


@dataclass(frozen=True, slots=True)
class Texts:
    """Short texts as rows of bytes, cut at a width, and how long each was."""

    rows: NDArray[np.uint8]
    lengths: Ints

    @staticmethod
    def of(texts: Sequence[bytes] | Sequence[str], width: int) -> Texts:
        """Pack texts; letters past ASCII become question marks."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        try:
            packed = np.array(texts, dtype=f"S{width}")
        except UnicodeEncodeError:
            packed = np.array([str(text).encode("ascii", "replace") for text in texts], dtype=f"S{width}")
        return Texts(packed.view(np.uint8).reshape(len(texts), width), lengths)

    @staticmethod
    def empty(count: int, width: int) -> Texts:
        """Return texts without letters."""
        return Texts(np.zeros((count, width), np.uint8), np.zeros(count, np.int64))

    @staticmethod
    def join(parts: Sequence[Texts]) -> Texts:
        """Put texts of one width one after the other."""
        return Texts(np.concatenate([part.rows for part in parts]), np.concatenate([part.lengths for part in parts]))

    @property
    def places(self) -> NDArray[np.uint8]:
        """Return a row of bytes per character place."""
        return np.ascontiguousarray(self.rows.T)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers such as 12 or 3.25 in columns: all their digits, how many stand before and how many behind the point.

    `plain`: at most DIGITS_MAX digits, no exponent, no sign. Where it is false the rest means nothing.
    """

    digits: Ints
    whole: Ints
    fraction: Ints
    plain: Mask

    def at(self, scale: int) -> tuple[Ints, Mask]:
        """Return them as integers at `scale`, and which of them are plain and have no more decimals than that."""
        fits = self.plain & (self.fraction <= scale) & (self.whole + scale <= DIGITS_MAX)
        return self.digits * _TENS[np.clip(scale - self.fraction, 0, DIGITS_MAX)], fits

    def take(self, rows: Ints) -> Numbers:
        """Return the numbers of some rows."""
        return Numbers(self.digits[rows], self.whole[rows], self.fraction[rows], self.plain[rows])


def numbers(texts: Texts) -> Numbers:
    """Read texts of JSON numbers, packed at NUMBER_WIDTH."""
    width, places, lengths = NUMBER_WIDTH, texts.places, texts.lengths
    digit = places - np.uint8(48)
    is_digit, is_point = digit <= 9, places == 46
    points = is_point.sum(axis=0)
    whole = np.where(points > 0, is_point.argmax(axis=0), lengths)
    plain = (is_digit.sum(axis=0) + points == lengths) & (lengths < width) & (lengths > 0)
    plain &= (points <= 1) & (whole > 0) & (whole != lengths - 1) & ((whole == 1) | (places[0] != 48))
    value = np.zeros(len(lengths), np.int64)
    for place in range(int(min(lengths.max(initial=0), width))):
        value = np.where(is_digit[place], value * 10 + digit[place], value)
    return Numbers(value, whole, np.maximum(lengths - whole - 1, 0), plain)


def times(texts: Texts) -> tuple[Ints, Mask]:
    """Read instants such as 2024-05-31T23:59:59.5Z as microseconds; the mask says which rows were that plain.

    They are packed at TIME_WIDTH. Plain is: capital T and Z, seconds up to 59, a real date of the years 2 to 9998.
    Digits past microseconds are cut.
    """
    places, lengths = texts.places, texts.lengths
    longest = int(min(lengths.max(initial=0), TIME_WIDTH))
    last = np.clip(lengths - 1, 0, TIME_WIDTH - 1)
    plain = (lengths >= 20) & (lengths <= TIME_WIDTH) & (lengths != 21) & (places[last, np.arange(len(lengths))] == 90)
    plain &= (places[_MARK_PLACES] == _MARKS).all(axis=0) & ((lengths == 20) | (places[19] == 46))
    digit = places[_DIGIT_PLACES] - np.uint8(48)
    plain &= (digit <= 9).all(axis=0)
    century, year, month, day, hour, minute, second = (digit[::2] * np.uint8(10) + digit[1::2]).astype(np.int64)
    year += century * 100
    micros = np.zeros(len(lengths), np.int64)
    for place in range(20, longest - 1):
        inside = place < lengths - 1
        tenth = places[place] - np.uint8(48)
        plain &= ~inside | (tenth <= 9)
        if place < 26:
            micros = micros * 10 + np.where(inside, tenth, 0)
    micros *= 10 ** max(0, 26 - max(20, longest - 1))
    plain &= (
        (year >= 2) & (year <= 9998) & (month >= 1) & (month <= 12) & (hour <= 23) & (minute <= 59) & (second <= 59)
    )
    month = np.where(plain, month, 1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    plain &= (day >= 1) & (day <= _DAYS_IN[month] + (leap & (month == 2)))
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 + _DAYS_BEFORE[month] + (leap & (month > 2))
    seconds = (days + day - 1 - _EPOCH_DAYS) * 86_400 + hour * 3600 + minute * 60 + second
    return seconds * 1_000_000 + micros, plain
