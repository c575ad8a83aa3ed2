"""Our commands without the half second of imports that each start costs: one process imports all and forks for each.

A test says `run("tallystick", "usage", …)` for `python -m tallystick usage …`. What runs is a process of its own in
every other respect: arguments, environment, folder, standard streams, signals, exit code.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

import tallystick

ROOT = Path(__file__).resolve().parents[1]
NUMBER = struct.Struct("=i")
STREAMS = 3


class Wanted(msgspec.Struct):
    """A command: a module with its arguments, a folder and an environment."""

    module: str
    arguments: Sequence[str]
    folder: str
    environ: Mapping[str, str]


class Forked:
    """A running command, as subprocess.Popen would show it; `stdout` and `stderr` are there if they are pipes."""

    def __init__(self, wanted: Wanted, streams: Sequence[int]) -> None:
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._line.connect(_forker())
        request = msgspec.msgpack.encode(wanted)
        socket.send_fds(self._line, [NUMBER.pack(len(request))], streams)
        self._line.sendall(request)
        self.pid = self._number()

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; TimeoutExpired if it does not come."""
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked command", timeout or 0)
            self.returncode = self._number()
            self._line.close()
        return self.returncode

    def _number(self) -> int:
        """Read what the forker says: first the number of the process, then its exit code."""
        number: int = NUMBER.unpack(self._line.recv(NUMBER.size, socket.MSG_WAITALL))[0]
        return number


def start(module: str, *arguments: str, environ: Mapping[str, str] | None = None) -> Forked:
    """Start a command; its output is read from `stdout` and `stderr`, and its input is empty."""
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    with open(os.devnull) as empty:
        process = Forked(_wanted(module, arguments, environ, None), (empty.fileno(), out_end, err_end))
    os.close(out_end)
    os.close(err_end)
    process.stdout, process.stderr = os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8")
    return process


def run(
    module: str,
    *arguments: str,
    stdin: bytes = b"",
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its exit code and output, in UTF-8."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        process = Forked(_wanted(module, arguments, environ, cwd), [file.fileno() for file in (given, out, err)])
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            raise
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
        return subprocess.CompletedProcess([module, *arguments], code, *said)


def _wanted(module: str, arguments: Sequence[str], environ: Mapping[str, str] | None, cwd: Path | None) -> Wanted:
    return Wanted(module, arguments, str(cwd or Path.cwd()), {**os.environ, **(environ or {})})


@functools.cache
def _forker() -> str:
    """Start the process that forks, once for this one; return the address of its socket. It ends when this one does."""
    # A path of a socket is short.
    folder = tempfile.TemporaryDirectory(prefix="tly", dir="/tmp")
    address = f"{folder.name}/forker"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked", address], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!"

    def end() -> None:
        with process:
            process.communicate()
        folder.cleanup()

    atexit.register(end)
    return address


def serve(address: str) -> str | None:
    """Fork for each that asks, until standard input ends; in the forked process, return what it is to run."""
    for found in pkgutil.walk_packages(tallystick.__path__, "tallystick."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"!")
        while 0 not in select.select([listener.fileno(), 0], [], [])[0]:
            line = listener.accept()[0]
            if os.fork() == 0:
                listener.close()
                return _forked(line)
            line.close()
    return None


def _forked(line: socket.socket) -> str:
    """Read what is wanted and fork once more: the one tells how the other ends, which returns what it is to run."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(line, NUMBER.size, STREAMS)
    request = line.recv(NUMBER.unpack(size)[0], socket.MSG_WAITALL)
    if (pid := os.fork()) != 0:
        for number in (0, 1, *streams):
            os.close(number)
        line.sendall(NUMBER.pack(pid))
        line.sendall(NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        os._exit(0)
    line.close()
    return _become(msgspec.msgpack.decode(request, type=Wanted), streams)


def _become(wanted: Wanted, streams: Sequence[int]) -> str:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    os.chdir(wanted.folder)
    os.environ.clear()
    os.environ.update(wanted.environ)
    sys.argv = [wanted.module, *wanted.arguments]
    return wanted.module


if __name__ == "__main__":
    module = serve(sys.argv[1])
    if module is not None:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
