"""Who reads the files of an import: a thread of this process, or where there is much to read a process of its own."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from tallystick.cli.importing.batches import Batch
from tallystick.cli.importing.files import Files
from tallystick.cli.options import Failure

PIPE_BYTES = 1 << 20
READER = "tallystick.cli.importing.reader"

Read = Callable[[], Awaitable[Batch]]
"""Reads the next batch of some files, one file after the other; raises Failure where one cannot be read at all."""


@contextmanager
def reader(files: Files) -> Iterator[Read]:
    """Begin to read files; it ends with the block."""
    if files.are_short:
        from tallystick.ingest.accept import beside

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
