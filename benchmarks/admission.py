"""(j) Reserve and settle, durable: the embedded ledger in process, and Redis with a Lua script, by the same tasks."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from benchmarks import embedded
from tallystick.admission import Asked, hold_of
from tallystick.clock import system_clock
from tallystick.holding import Outcome
from tallystick.ingest import settling
from tallystick.ledger.base import Ledger
from tallystick.model import Account, HoldMode, Limit, Property
from tallystick.windows import Period

REDIS = "redis-server"
CAPACITY = 10**12
TTL_US = 600_000_000
ACCOUNT = "acme"
EVENT = {"source": "benchmark", "type": "audio.processed", "account": ACCOUNT}

Pair = Callable[[str], Awaitable[None]]
"""Reserve and settle once, under an id of its own."""

RESERVE = """
local id, amount, now, ttl = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('HEXISTS', 'hold', id) == 1 then return {2, 0} end
for _, over in ipairs(redis.call('ZRANGEBYSCORE', 'deadline', '-inf', now)) do
  redis.call('DECRBY', 'held', redis.call('HGET', 'hold', over))
  redis.call('HDEL', 'hold', over)
  redis.call('ZREM', 'deadline', over)
end
local taken = tonumber(redis.call('GET', 'used') or 0) + tonumber(redis.call('GET', 'held') or 0)
if taken + amount > tonumber(ARGV[4]) then return {0, tonumber(ARGV[4]) - taken} end
redis.call('HSET', 'hold', id, amount)
redis.call('ZADD', 'deadline', now + ttl, id)
redis.call('INCRBY', 'held', amount)
return {1, tonumber(ARGV[4]) - taken - amount}
"""
SETTLE = """
local id, event, amount, body = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
if redis.call('HSETNX', 'event', event, body) == 0 then return 2 end
local held = redis.call('HGET', 'hold', id)
if held then
  redis.call('DECRBY', 'held', held)
  redis.call('HDEL', 'hold', id)
  redis.call('ZREM', 'deadline', id)
end
redis.call('INCRBY', 'used', amount)
return 1
"""


def body_of(id: str) -> bytes:
    """Write the event that settles a hold."""
    return json.dumps({**EVENT, "id": id, "data": {"duration": 1, "operation": "transcribe"}}).encode()


@asynccontextmanager
async def ours(folder: Path) -> AsyncIterator[Pair]:
    """Open a ledger with a limit, and yield how one pair of calls is made."""
    async with embedded.opened(folder) as ledger:
        await ledger.put_account(Account(ACCOUNT, 0), actor="benchmark")
        limit = Limit("speech", ACCOUNT, "audio", Property.QUANTITY, 6, Period.MONTH, CAPACITY * 10**6)
        await ledger.put_limit(limit, actor="benchmark")

        async def pair(id: str) -> None:
            await once(ledger, id)

        yield pair


async def once(ledger: Ledger, id: str) -> None:
    """Reserve and settle; anything but success would mean nothing."""
    catalog, now = ledger.catalog, system_clock()
    asked = Asked(ACCOUNT, id, "audio", {"operation": "transcribe"}, Decimal(1), 1, TTL_US, HoldMode.NORMAL)
    hold = hold_of(asked, catalog, now, text_length_max=256)
    reserved = await ledger.reserve(hold, catalog_version=catalog.version)
    if reserved.outcome is not Outcome.CREATED:
        raise RuntimeError(f"The hold was not made: {reserved.outcome}")
    settled = await settling.settle(
        body_of(id),
        account=ACCOUNT,
        id=id,
        content_type="application/json",
        headers={},
        caller=embedded.OPERATOR,
        ledger=ledger,
        settings=embedded.SETTINGS,
        now=now,
    )
    if settled.answer.outcome is not Outcome.DONE:
        raise RuntimeError(f"The hold was not settled: {settled.answer.outcome}")


class Redis:
    """As much of Redis' protocol as two scripts need; each task has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: dict[asyncio.Task[object] | None, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def call(self, *words: str | bytes) -> bytes:
        """Send a command and return the first line of its answer, and what belongs to that."""
        task = asyncio.current_task()
        if task not in self._streams:
            self._streams[task] = await asyncio.open_unix_connection(str(self._path))
        reader, writer = self._streams[task]
        sent = [word if isinstance(word, bytes) else word.encode() for word in words]
        writer.write(b"*%d\r\n" % len(sent) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in sent))
        return await self._answer(reader)

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        line = (await reader.readline()).rstrip()
        if line.startswith(b"-"):
            raise RuntimeError(f"Redis says {line.decode()}")
        if line.startswith(b"$"):
            return (await reader.readexactly(int(line[1:]) + 2))[:-2]
        if line.startswith(b"*"):
            return (b" ".join([await self._answer(reader) for _ in range(int(line[1:]))])).strip()
        return line


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[Pair]:
    """Start a Redis that makes every write durable, and yield how one pair of calls is made."""
    folder.mkdir(parents=True)
    # A path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="tly", dir="/tmp") as short:
        path = Path(short) / "redis"
        flags = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        with subprocess.Popen([REDIS, *flags, *durable], stdout=subprocess.DEVNULL) as process:
            try:
                await _up(path)
                client = Redis(path)
                reserve = await client.call("SCRIPT", "LOAD", RESERVE)
                settle = await client.call("SCRIPT", "LOAD", SETTLE)

                async def pair(id: str) -> None:
                    now = str(system_clock() // 1000)
                    made = await client.call("EVALSHA", reserve, "1", id, "1", now, "600000", str(CAPACITY))
                    done = await client.call("EVALSHA", settle, "1", id, id, "1", body_of(id))
                    if not made.startswith(b":1") or done != b":1":
                        raise RuntimeError(f"Redis answered {made!r} and {done!r}")

                yield pair
            finally:
                process.terminate()
                process.wait(timeout=30)


async def _up(path: Path) -> None:
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        await asyncio.sleep(0.05)
    raise RuntimeError("Redis did not start")


async def drive(pair: Pair, tasks: int, seconds: float) -> float:
    """Have tasks make pairs of calls for a while; return how many they made per second."""
    done, ends = 0, time.perf_counter() + seconds

    async def task(number: int) -> None:
        nonlocal done
        turn = 0
        while time.perf_counter() < ends:
            await pair(f"{tasks}-{number}-{turn}")
            turn, done = turn + 1, done + 1

    started = time.perf_counter()
    await asyncio.gather(*(task(number) for number in range(tasks)))
    return done / (time.perf_counter() - started)


def has_redis() -> bool:
    """Say whether there is a Redis to compare with."""
    return shutil.which(REDIS) is not None


def pairs_per_s(which: str, tasks: int, seconds: float) -> float:
    """Return the rate of `ours` or `redis`, each begun anew."""

    async def measured(folder: Path) -> float:
        opened = {"ours": ours, "redis": redis}[which]
        async with opened(folder) as pair:
            await drive(pair, tasks, seconds / 5)
            return await drive(lambda id: pair(f"m-{id}"), tasks, seconds)

    with tempfile.TemporaryDirectory(prefix="tallystick-bench-") as folder:
        return asyncio.run(measured(Path(folder) / "data"))
