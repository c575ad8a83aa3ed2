"""Events as they were sent. Of a list's, each is made when it is asked for: the body is in memory anyway, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import msgspec


class Views(Sequence[bytes]):
    """Events by their places in a body, which stays in memory as long as they do."""

    __slots__ = ("views",)

    def __init__(self, views: Sequence[msgspec.Raw]) -> None:
        self.views = views

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[bytes]:
        return map(bytes, self.views)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Views: ...
    def __getitem__(self, at: int | slice) -> bytes | Views:
        return Views(self.views[at]) if isinstance(at, slice) else bytes(self.views[at])


def sizes_of(raws: Sequence[bytes]) -> Iterator[int]:
    """Yield the bytes of each event."""
    return map(len, raws.views if type(raws) is Views else raws)
