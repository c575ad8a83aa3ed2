"""The serving process: a ledger, an HTTP server and the way from start to a good end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from tallystick import telemetry
from tallystick.api import auth
from tallystick.app import App, open_app
from tallystick.asgi import create
from tallystick.cli import defining, options, runtime
from tallystick.errors import LedgerError
from tallystick.model import Key, Scope
from tallystick.settings import Settings

BACKLOG = 1024
CONNECTIONS_MAX = 10_000
READY_S_MAX = 30
STOP_S_MAX = 2


def serve(settings: Settings, config: Path | None = None) -> None:
    """Serve until told to end, then end the process; `config` may define meters and rates."""
    telemetry.configure(settings.log_level)
    runtime.settle()
    with listener(settings) as listening:
        clean = asyncio.run(run(settings, listening, config))
    # A client that never finishes its request may hold a thread of the HTTP server; everything is closed by now.
    sys.stdout.flush()
    os._exit(0 if clean else 1)


def listener(settings: Settings) -> socket.socket:
    """Bind the address for this process alone: a port that already answers is refused, never shared."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        raise options.Failure(f"Cannot listen on {where}: {error.strerror or error}. Choose another --port.") from None
    return bound


class Listening(Server):
    """The HTTP server on a socket that we bound: its own would share the port with whoever holds it already."""

    def __init__(self, target: Any, bound: socket.socket) -> None:
        """Prepare to serve `target` on `bound`."""
        super().__init__(
            target,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=CONNECTIONS_MAX,
            log_enabled=False,
        )
        self.workers_kill_timeout = STOP_S_MAX
        self._bound = bound

    def _init_shared_socket(self) -> None:
        # Its type stub knows nothing of the constructor, which takes a file descriptor that it then owns.
        self._shd: Any = SocketHolder(self._bound.detach(), False, BACKLOG)  # type: ignore[call-arg]  # granian types this as for its other servers


async def run(settings: Settings, bound: socket.socket, config: Path | None = None) -> bool:
    """Serve until told to end; false if the HTTP server ended by itself."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address = address_of(bound)
    try:
        app = await open_app(settings)
    except LedgerError as error:
        raise options.failure_of(error) from None
    try:
        await defining.apply(app, config)
        await make_first_key(app)
        return await _serve(app, bound, address, stop)
    finally:
        await app.close()


async def _serve(app: App, bound: socket.socket, address: tuple[str, int], stop: asyncio.Event) -> bool:
    server = Listening(create(app), bound)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    await wait_ready(*address)
    announce(url_of(*address))
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    clean = not serving.done()
    await _drain(app)
    server.stop()  # type: ignore[no-untyped-call] # it has no types
    with contextlib.suppress(TimeoutError):
        await serving
    return clean


async def _drain(app: App) -> None:
    """Refuse what is new and wait for what was taken; a body that still does not come is waited for no longer."""
    app.draining = True
    telemetry.LOG.info("draining", calls=app.calls)
    if await _idle(app, app.settings.drain_s_max):
        return
    app.waits.end()
    await _idle(app, STOP_S_MAX)


async def _idle(app: App, seconds: int) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while app.calls:
                await app.idle.wait()
    return app.calls == 0


async def make_first_key(app: App) -> None:
    """Make the operator's key where there is none yet and the ledger is not only read, and print it."""
    if app.ledger.vitals().replica is not None:
        return
    if app.settings.operator_key is not None or any(key.account is None for key in app.catalog.keys.values()):
        return
    token = auth.make_token(None)
    # Printed before it is kept: a key that is kept and was never seen would lock everyone out.
    _show_key(token)
    key = Key(auth.make_key_id(), auth.digest_of(token), None, frozenset(Scope), app.clock())
    await app.ledger.put_key(key, actor="process")


def _show_key(token: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"The operator's key, shown this once: {token}", err=True)
    else:
        line = {"event": "operator key made; it is shown this once", "operator_key": token}
        click.echo(msgspec.json.encode(line), err=True)


def address_of(bound: socket.socket) -> tuple[str, int]:
    """Return the address at which a client on this machine reaches the socket."""
    host, port = bound.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def url_of(host: str, port: int) -> str:
    """Write an address as the URL that clients use."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def wait_ready(host: str, port: int) -> None:
    """Return once /readyz answers 200, asked as any client would ask."""
    async with asyncio.timeout(READY_S_MAX):
        while not await _is_ready(host, port):
            await asyncio.sleep(0.02)


async def _is_ready(host: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await reader.readline()).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False
    finally:
        writer.close()


def announce(url: str) -> None:
    """Write the ready line, the only thing that stdout ever gets."""
    if sys.stdout.isatty():
        click.echo(f"tallystick answers at {url} (process {os.getpid()}); ctrl-c ends it")
    else:
        click.echo(msgspec.json.encode({"ready": True, "url": url, "pid": os.getpid()}))
    sys.stdout.flush()
