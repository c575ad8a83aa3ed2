"""Files as streams of bytes: plain, gzip or zstd, or standard input, and how much of them has been read."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import zstandard

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BUFFER_BYTES = 1 << 18
FED_BYTES = 1 << 14
STDIN = "-"

UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError)
"""What reading raises where a file is cut short, damaged or gone."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file by the name that was given, with its content decompressed; `size` is unknown for a pipe."""

    name: str
    content: io.BufferedReader
    size: int | None
    _file: IO[bytes]

    def share(self) -> float | None:
        """Return how much of the file has been read, from 0 to 1; None if nobody knows."""
        return self._file.tell() / self.size if self.size else None


@contextmanager
def opened(name: str) -> Iterator[Opened]:
    """Open a file; what it is compressed with is told from its first bytes. Raises OSError."""
    file = sys.stdin.buffer if name == STDIN else open(name, "rb", buffering=BUFFER_BYTES)  # noqa: SIM115 - closed below, but never standard input
    try:
        is_file = os.path.isfile(name) if name != STDIN else False
        size = os.fstat(file.fileno()).st_size if is_file else None
        yield Opened(name, _decompressed(file), size, file)
    finally:
        if name != STDIN:
            file.close()


def _decompressed(file: IO[bytes]) -> io.BufferedReader:
    assert isinstance(file, io.BufferedReader)
    start = file.peek(4)[:4]
    if start.startswith(GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=file), BUFFER_BYTES)
    if start == ZSTD:
        return io.BufferedReader(_Unzstd(file), BUFFER_BYTES)
    return file


class _Unzstd(io.RawIOBase):
    """Decompresses frame after frame; unlike the library's own stream it tells a file that is cut short."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._sent = b""
        self._out = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # typed as any buffer; BufferedReader gives this one
        while not self._out:
            self._sent = self._sent or self._file.read(FED_BYTES)
            if not self._sent:
                if self._frame is not None:
                    raise EOFError("the zstd file is cut short")
                return 0
            self._feed()
        size = min(len(buffer), len(self._out))
        buffer[:size] = self._out[:size]
        self._out = self._out[size:]
        return size

    def _feed(self) -> None:
        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._out = memoryview(self._frame.decompress(self._sent))
        self._sent = self._frame.unused_data
        if self._frame.eof:
            self._frame = None
