"""The files of an import as batches, one file after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tallystick.cli.importing.batches import Batch, batches_of
from tallystick.cli.importing.mapping import Plan
from tallystick.cli.importing.opened import STDIN, opened
from tallystick.cli.options import Failure

APART_BYTES = 8 << 20
"""So many bytes of files, or a pipe, are worth the start of a process."""


@dataclass(frozen=True, slots=True)
class Files:
    """What to read, and how events are made of it."""

    names: Sequence[str]
    plan: Plan
    form: str | None
    delimiter: str | None

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of one file after the other."""
        for name in self.names:
            try:
                with opened(name) as file:
                    yield from batches_of(file, self.plan, self.form, self.delimiter)
            except OSError as error:
                raise Failure(f"{name} cannot be read: {error.strerror or error}.") from None
            except Failure as failure:
                raise Failure(f"{name}: {failure.message}") from None

    @property
    def are_short(self) -> bool:
        """Say whether they have few bytes together; of a pipe nobody knows."""
        files = [name for name in self.names if os.path.isfile(name)]
        pipes = [name for name in self.names if name == STDIN or (os.path.exists(name) and name not in files)]
        return not pipes and sum(map(os.path.getsize, files)) < APART_BYTES
