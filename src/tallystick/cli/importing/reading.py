"""What reads the files of an import: a thread of this process, or one of its own where there is much to read."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tallystick.cli.importing.batches import Batch, batches_of
from tallystick.cli.importing.mapping import Plan
from tallystick.cli.importing.opened import STDIN, opened
from tallystick.cli.options import Failure
from tallystick.ingest.accept import beside

APART_BYTES = 8 << 20
"""So many bytes of files, or a pipe, are worth the start of a process."""
PIPE_BYTES = 1 << 20
READER = "tallystick.cli.importing.reader"

Read = Callable[[], Awaitable[Batch]]
"""Reads the next batch of some files, one file after the other; raises Failure where one cannot be read at all."""


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


@contextmanager
def reader(files: Files) -> Iterator[Read]:
    """Begin to read files; it ends with the block."""
    if files.are_short:
        yield partial(beside, partial(next, files.batches()))
        return
    with _process(files) as process:
        yield partial(asyncio.to_thread, partial(_received, process))


@contextmanager
def _process(files: Files) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that reads; it has the modules, the standard input and the open pipes of this one."""
    how = pickle.dumps((files.plan, files.form, files.delimiter)).hex()
    with _uninterrupted():
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", READER, str(os.getpid()), how, *files.names],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            close_fds=False,
            pipesize=PIPE_BYTES,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep interrupts from what is started in the block, for good: whoever is interrupted ends what it started."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _received(process: subprocess.Popen[bytes]) -> Batch:
    assert process.stdout is not None
    try:
        found: Batch | Failure = pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError):
        raise Failure(f"The process that reads the files ended with {process.wait()}: run the import again.") from None
    if isinstance(found, Failure):
        raise found
    return found
