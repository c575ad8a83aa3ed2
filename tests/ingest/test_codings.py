"""Compressed bodies: what is taken, where decoding stops, and every way in which the data can be wrong."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import Code, Problem
from tallystick.ingest.codings import PIECE_BYTES, coding_of, pieces

WINDOW = 8 * 1024 * 1024


def zstd(content: bytes, level: int = 3, *, checked: bool = False, sized: bool = True) -> bytes:
    """Compress into one zstd frame, with or without a checksum and the size of the content."""
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=checked, write_content_size=sized)
    return compressor.compress(content)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd}
BOTH = pytest.mark.parametrize("coding", ["gzip", "zstd"])


def decoded(sent: bytes, coding: str, window: int = WINDOW) -> bytes:
    """Decode to the end."""
    return b"".join(pieces(sent, coding, window_bytes_max=window))


def refused(sent: bytes, coding: str, window: int = WINDOW) -> str:
    """Decode what must be refused and return what the problem says."""
    with pytest.raises(Problem) as caught:
        decoded(sent, coding, window)
    assert caught.value.code is Code.BODY_UNDECODABLE
    assert caught.value.detail == caught.value.flaws[0].detail
    return caught.value.detail


# The header


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        (" Identity ", None),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("zstd", "zstd"),
        (" ,zstd\t, ", "zstd"),
    ],
)
def test_a_coding_is_known_by_its_names(header: str | None, coding: str | None) -> None:
    """In any case, with the old name of gzip, and with the empty elements that a list in a header may have."""
    assert coding_of(header) == coding


@pytest.mark.parametrize(
    "header", ["br", "deflate", "compress", "gzip, gzip", "gzip,zstd", "identity, gzip", "g zip", "*"]
)
def test_another_coding_is_refused_and_what_is_taken_is_named(header: str) -> None:
    """In the sentence, for people, and in Accept-Encoding, for programs."""
    with pytest.raises(Problem) as caught:
        coding_of(header)
    assert caught.value.code is Code.MEDIA_TYPE_UNKNOWN
    assert caught.value.headers == {"Accept-Encoding": "gzip, zstd"}
    assert "gzip or zstd" in caught.value.detail


# What is right


@BOTH
@given(st.lists(st.binary(max_size=50) | st.integers(0, 300_000).map(bytes), min_size=1, max_size=4))
def test_parts_compressed_one_by_one_come_out_as_one(coding: str, parts: list[bytes]) -> None:
    """Members of gzip and frames of zstd may follow each other, empty ones too."""
    assert decoded(b"".join(map(COMPRESS[coding], parts)), coding) == b"".join(parts)


@BOTH
def test_a_large_body_comes_in_bounded_pieces(coding: str) -> None:
    """However well it is compressed, one step of the work makes little of it."""
    content = random.Random(1).randbytes(1000) * 5000
    sizes = [len(piece) for piece in pieces(COMPRESS[coding](content), coding, window_bytes_max=WINDOW)]
    assert sum(sizes) == len(content)
    assert max(sizes) < 2 * PIECE_BYTES


@BOTH
def test_many_tiny_parts_come_in_bounded_pieces(coding: str) -> None:
    """Sixty thousand parts in one body are no more work than as many bytes in one part are."""
    found = list(pieces(COMPRESS[coding](b"ab") * 60_000, coding, window_bytes_max=WINDOW))
    assert b"".join(found) == b"ab" * 60_000
    assert max(map(len, found)) < 2 * PIECE_BYTES


@BOTH
def test_who_stops_asking_spends_nothing(coding: str) -> None:
    """The first pieces of a body that would fill a hundred megabytes are there at once."""
    bomb = COMPRESS[coding](bytes(100_000_000))
    found = pieces(bomb, coding, window_bytes_max=WINDOW)
    first = [next(found) for _ in range(4)]
    assert sum(map(len, first)) < 8 * PIECE_BYTES


def test_every_level_and_form_of_zstd_is_read() -> None:
    """With and without checksum and size, with blocks that repeat one byte, raw ones, and frames to be skipped."""
    content = random.Random(2).randbytes(400_000) + bytes(400_000) + b"abc" * 100_000
    for level in (-5, 1, 3, 19):
        for told in (True, False):
            sent = zstd(content, level, checked=told, sized=told)
            assert decoded(sent, "zstd") == content
    skipped = b"\x5f\x2a\x4d\x18\x03\x00\x00\x00abc"
    assert decoded(skipped + zstd(b"a") + skipped + skipped + zstd(b"b") + skipped, "zstd") == b"ab"


def test_what_a_stream_was_flushed_into_is_read() -> None:
    """Clients that compress as they go end blocks wherever they like."""
    gzipping, zstding = zlib.compressobj(wbits=31), zstandard.ZstdCompressor().compressobj()
    parts = [f'{{"id":"{n}"}}\n'.encode() for n in range(300)]
    gzipped = b"".join(gzipping.compress(part) + gzipping.flush(zlib.Z_FULL_FLUSH) for part in parts) + gzipping.flush()
    flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    zstded = b"".join(zstding.compress(part) + zstding.flush(flush) for part in parts) + zstding.flush()
    assert decoded(gzipped, "gzip") == decoded(zstded, "zstd") == b"".join(parts)


# What is wrong


@BOTH
def test_data_cut_short_anywhere_is_refused(coding: str) -> None:
    """Not one byte may be missing at the end, be it of a checksum that says nothing new; nor in a later part."""
    content = random.Random(3).randbytes(200) + bytes(2000)
    wholes = [gzip.compress(content)] if coding == "gzip" else [zstd(content), zstd(content, checked=True)]
    for whole in wholes:
        assert decoded(whole + whole, coding) == content * 2
        for length in range(1, len(whole)):
            refused(whole[:length], coding)
            refused(whole + whole[:length], coding)


@BOTH
@pytest.mark.parametrize(
    "garbage", [b"\0", b"x", b"\x1f\x8b", b"{}", b"\n", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\x09"]
)
def test_anything_behind_the_end_is_refused(coding: str, garbage: bytes) -> None:
    """It may be an event that would be lost."""
    refused(COMPRESS[coding](b"[]") + garbage, coding)


@BOTH
@pytest.mark.parametrize("sent", [b"", b"[]", b'{"id":"1"}', b"\x1f\x8b\x08\x00", zlib.compress(b"[]")])
def test_what_is_not_of_the_coding_is_refused(coding: str, sent: bytes) -> None:
    """Nothing at all is neither gzip nor zstd."""
    assert coding in refused(sent, coding)


@BOTH
def test_each_coding_refuses_the_other(coding: str) -> None:
    """It is not guessed what was meant."""
    other = {"gzip": "zstd", "zstd": "gzip"}[coding]
    refused(COMPRESS[other](b"[]"), coding)


@BOTH
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(coding: str, data: st.DataObject) -> None:
    """A checksum over the content tells damage from data; what it does not cover is a date or a file's name."""
    content = b'[{"id":"1","source":"w"}]' * 40
    whole = gzip.compress(content) if coding == "gzip" else zstd(content, checked=True)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        assert decoded(bytes(changed), coding) == content
    except Problem as problem:
        assert problem.code is Code.BODY_UNDECODABLE


@BOTH
@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(coding: str, sent: bytes) -> None:
    """Also those that begin as the coding does."""
    start = COMPRESS[coding](b"[]")[:6]
    for body in (sent, start + sent):
        try:
            decoded(body, coding)
        except Problem as problem:
            assert problem.code is Code.BODY_UNDECODABLE


def test_a_zstd_window_is_bounded() -> None:
    """What points far back would have to be remembered: the bound is named, and the size that was asked for."""
    content = random.Random(4).randbytes(3000) * 1000
    sent = zstd(content, 22)
    assert decoded(sent, "zstd", window=4_000_000) == content
    detail = refused(sent, "zstd", window=1_000_000)
    assert "1000000" in detail
    assert "3000000" in detail
    assert decoded(zstd(b"a" * 7), "zstd", window=7) == b"a" * 7
    refused(zstd(b"a" * 8), "zstd", window=7)
    assert decoded(sent, "zstd", window=2**31) == content


def test_a_zstd_dictionary_is_refused() -> None:
    """It is not known here."""
    samples: list[bytes | bytearray | memoryview] = [
        b'{"id":"%d","source":"worker-%d","type":"audio.processed"}' % (n, n % 7) for n in range(2000)
    ]
    dictionary = zstandard.train_dictionary(2000, samples)
    sent = zstandard.ZstdCompressor(dict_data=dictionary).compress(bytes(samples[0]))
    assert "dictionary" in refused(sent, "zstd")
