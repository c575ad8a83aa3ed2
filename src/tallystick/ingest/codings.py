"""Compressed bodies: which content codings are taken, and their decoding in pieces, so that a cap costs no memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NoReturn

import zstandard

from tallystick.errors import Code, Flaw, Problem

CODINGS = ("gzip", "zstd")
NAMES = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd", "identity": None}  # x-gzip: RFC 9110, 8.4.1.3

PIECE_BYTES = 256 * 1024
SLICE_BYTES = 16 * 1024
"""How much of a gzip body is looked at for one piece: however many members it has, one piece is little work."""

FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
FRAME_HEADER_BYTES_MAX = 18
DECODER_WINDOW_BYTES_MIN = 1024
SKIPPED_MAGIC_MIN = 0x184D2A50
BLOCK_OF_ONE_BYTE_REPEATED = 1
CHECKSUM_BYTES = 4


def coding_of(content_encoding: str | None) -> str | None:
    """Return the coding, of CODINGS, that a Content-Encoding header names; None where the body is sent as it is.

    Raises Problem MEDIA_TYPE_UNKNOWN, with the Accept-Encoding of RFC 9110 12.5.3, for a coding that is not taken and
    for several on top of each other.
    """
    named = [part.strip(" \t").lower() for part in (content_encoding or "").split(",")]
    names = [name for name in named if name] or ["identity"]
    if len(names) > 1:
        _refuse_coding("Several codings on top of each other are not undone.")
    if names[0] not in NAMES:
        _refuse_coding("This Content-Encoding is not understood.")
    return NAMES[names[0]]


def _refuse_coding(what: str) -> NoReturn:
    detail = f"{what} Send the body once with Content-Encoding {' or '.join(CODINGS)}, or as it is without the header."
    raise Problem(Code.MEDIA_TYPE_UNKNOWN, detail, headers={"Accept-Encoding": ", ".join(CODINGS)})


def pieces(sent: bytes, coding: str, *, window_bytes_max: int) -> Iterator[bytes]:
    """Decode a whole body of this coding, in pieces of less than twice PIECE_BYTES, some of which may be empty.

    Each is worked out when it is asked for: whoever stops asking spends no more time and no more memory.
    `window_bytes_max` bounds how far back zstd data may point. Raises Problem BODY_UNDECODABLE for a body that is not
    of this coding all through, damaged or cut short; then what came before is worth nothing.
    """
    return _gunzipped(sent) if coding == "gzip" else _unzstd(sent, window_bytes_max)


def _undecodable(detail: str) -> Problem:
    return Problem(Code.BODY_UNDECODABLE, detail, (Flaw("", detail),))


# gzip


def _gunzipped(sent: bytes) -> Iterator[bytes]:
    """Decode one gzip member after the other."""
    view, member = memoryview(sent), zlib.decompressobj(wbits=31)
    for start in range(0, len(view), SLICE_BYTES):
        rest: bytes | memoryview = view[start : start + SLICE_BYTES]
        found = bytearray()
        while rest:
            if member.eof:
                member = zlib.decompressobj(wbits=31)
            try:
                found += member.decompress(rest, PIECE_BYTES)
            except zlib.error:
                raise _undecodable(_not_all("gzip")) from None
            rest = member.unused_data or member.unconsumed_tail
            if len(found) >= PIECE_BYTES:
                yield bytes(found)
                found.clear()
        yield bytes(found)
    if not member.eof:
        raise _undecodable(_cut_short("gzip"))


def _not_all(coding: str) -> str:
    return f"The body is not {coding} all through, or damaged. Compress it again, and send nothing before or behind it."


def _cut_short(coding: str) -> str:
    return f"The body is cut short: its {coding} data has no end. Send it again, whole."


# Zstandard


def _unzstd(sent: bytes, window_bytes_max: int) -> Iterator[bytes]:
    """Decode one zstd frame after the other."""
    # The decoder takes data that ends too early for complete, so its frames are followed to their ends before.
    _follow(sent, window_bytes_max)
    decoder = zstandard.ZstdDecompressor(max_window_size=max(window_bytes_max, DECODER_WINDOW_BYTES_MIN))
    with decoder.stream_reader(sent, read_across_frames=True) as reader:
        while True:
            try:
                piece = reader.read(PIECE_BYTES)
            except zstandard.ZstdError:
                raise _undecodable(_not_all("zstd")) from None
            if not piece:
                return
            yield piece


def _follow(sent: bytes, window_bytes_max: int) -> None:
    """Make sure that a body is zstd frames (RFC 8878, 3.1), each to its end, and nothing else."""
    place = 0
    while place < len(sent) or place == 0:
        magic = sent[place : place + 4]
        if magic == FRAME_MAGIC:
            place = _frame_end(sent, place, window_bytes_max)
        elif int.from_bytes(magic, "little") & ~0xF == SKIPPED_MAGIC_MIN:
            place += 8 + _number(sent, place + 4, 4)
        else:
            raise _undecodable(_not_all("zstd"))
    if place > len(sent):
        raise _undecodable(_cut_short("zstd"))


def _frame_end(sent: bytes, place: int, window_bytes_max: int) -> int:
    """Return where a frame ends, going from block header to block header without decoding any."""
    header = sent[place : place + FRAME_HEADER_BYTES_MAX]
    try:
        frame = zstandard.get_frame_parameters(header)
        place += zstandard.frame_header_size(header)
    except zstandard.ZstdError:
        is_whole = len(header) == FRAME_HEADER_BYTES_MAX
        raise _undecodable(_not_all("zstd") if is_whole else _cut_short("zstd")) from None
    if frame.window_size > window_bytes_max:
        detail = f"Compress with a window of at most {window_bytes_max} bytes: this zstd data has {frame.window_size}."
        raise _undecodable(detail)
    if frame.dict_id:
        raise _undecodable("Compress without a dictionary: this zstd data needs one.")
    is_last = False
    while not is_last:
        block = _number(sent, place, 3)
        is_last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        place += 3 + (1 if kind == BLOCK_OF_ONE_BYTE_REPEATED else size)
    return place + CHECKSUM_BYTES * frame.has_checksum


def _number(sent: bytes, place: int, size: int) -> int:
    found = sent[place : place + size]
    if len(found) < size:
        raise _undecodable(_cut_short("zstd"))
    return int.from_bytes(found, "little")
