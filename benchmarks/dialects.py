"""(r) How long every dialect's reply takes in the server, for accounts of many label sets in a ledger of some size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import embedded, traffic
from tallystick import telemetry
from tallystick.app import App
from tallystick.cli.source import Folder, Question
from tallystick.clock import system_clock
from tallystick.model import Limit, Property
from tallystick.settings import Settings
from tallystick.windows import Period

REPEATS = 15
OPERATOR = "the-operator-key-of-this-benchmark-only"
SETS_A_ROUND = 250_000
"""For each so many events of the ledger, every label set has one more."""
CLIENTS = (traffic.Wide("wide-200", 200, 0), traffic.Wide("wide-10000", 10_000, 0))

REPORTS: Mapping[str, tuple[str, ...]] = {
    "hiya": (
        "/spaces/{a}/d0/stats",
        "/orgs/{a}/spaces?page-size=50",
        "/orgs/{a}/records/verification?page-size=50",
    ),
    "phonexia": ("/api/billing/capacities?account={a}", "/api/billing/consumptions?account={a}"),
    "speechmatics": ("/v2/usage?account={a}", "/v2/usage?account={a}&since=2025-05-03&until=2025-05-20"),
    "vblaze": (
        *(f"/{name}?account={{a}}" for name in ("usage", "usagetags", "usagefull", "usageraw", "usagelicense")),
        "/usagefull/m7?account={a}",
    ),
    "visii": ("/orgs/{a}/usage?year=2025&month=5", "/orgs/{a}/usage"),
    "native": (
        "/v1/usage?meter=audio&account={a}&group_by=technology,vendor,operation,type,language,model,billing,tags",
    ),
}
"""What is asked of each dialect."""

Measured = Mapping[tuple[str, str], Sequence[float]]
"""Seconds that each answer took, by account and path."""


def events(count: int) -> Iterator[bytes]:
    """Yield about `count` events: the usual traffic, and every label set of the wide accounts over and over again."""
    rounds = max(1, count // SETS_A_ROUND)
    of_clients = [event for client in CLIENTS for number in range(rounds) for event in work(client, number)]
    yield from of_clients
    yield from traffic.events(traffic.USUAL, max(0, count - len(of_clients)))


def work(client: traffic.Wide, turn: int) -> Iterator[bytes]:
    """Yield an event for each label set of an account, of audio and of vision, and some resources."""
    for number in range(client.label_sets):
        minute = (number * 7 + turn * 1_013) % (31 * 1440)
        time = f"2025-05-{1 + minute // 1440:02}T{minute // 60 % 24:02}:{minute % 60:02}:00Z"
        labels = (
            f'"technology":"t{number % 7}","vendor":"v{number // 7 % 11}","operation":"o{number // 77}",'
            f'"type":"transcription","language":"l{number}","model":"m{number % 97}","billing":"b{number}","tags":"DG"'
        )
        dataset, type = f"d{number // 2}", ("explore", "lens")[number % 2]
        state = f'"id":"{turn}-{number}","url":"u","type":"identity","state":"performed","duration":1.5'
        for name, kind, data in (
            ("audio", "audio.processed", f'"duration":61.5,{labels}'),
            ("vision", "vision.request", f'"type":"{type}"'),
            ("image", "resource.upserted", f'"kind":"image",{state}'),
            ("verification", "resource.upserted", f'"kind":"verification",{state}'),
        ):
            yield (
                f'{{"specversion":"1.0","id":"{name}-{turn}-{number}","source":"/wide","account":"{client.account}","time":"{time}",'
                f'"space":"{dataset}","type":"{kind}","data":{{{data}}}}}'
            ).encode()


async def limited(app: App) -> None:
    """Give every client capacities of each technology in each period, and what visii's report reads."""
    for client in CLIENTS:
        for number in range(7):
            for period in (Period.MONTH, Period.WEEK, Period.DAY):
                where = (("technology", f"t{number}"),)
                id = f"{client.account}-{number}-{period}"
                await app.ledger.put_limit(_limit(id, client, "audio", 6, period, where), actor="benchmark")
        for meter, scale, period in (("vision_credits", 6, Period.MONTH), ("images", 0, Period.YEAR)):
            id = f"{client.account}-{meter}"
            await app.ledger.put_limit(_limit(id, client, meter, scale, period), actor="benchmark")


def _limit(
    id: str, client: traffic.Wide, meter: str, scale: int, period: Period, where: tuple[tuple[str, str], ...] = ()
) -> Limit:
    return Limit(id, client.account, meter, Property.QUANTITY, scale, period, 10**15, where)


async def ask(app: App, path: str) -> float:
    """Return how long the server needs for an answer, which must be one."""
    scheme = "token" if path.startswith("/orgs/") and "/usage" in path else "Bearer"
    started = time.perf_counter()
    answer = await Folder(app, OPERATOR).ask(Question("GET", path, scheme=scheme))
    taken = time.perf_counter() - started
    if answer.status != 200:
        raise RuntimeError(f"{path} is answered with {answer.status}: {answer.body[:200]!r}")
    return taken


async def measuring(folder: Path, bodies: Path, in_flight: int) -> Measured:
    """Fill a ledger, then ask for every report of each client, several times over."""
    telemetry.configure("warning")
    async with embedded.opened(folder) as ledger:
        app = App(Settings(operator_key=OPERATOR), system_clock, ledger)
        await embedded.drain(ledger, traffic.read(bodies), in_flight)
        await limited(app)
        paths = [path for reports in REPORTS.values() for path in reports]
        asked = [(client.account, path) for client in CLIENTS for path in paths]
        return {
            (account, path): [await ask(app, path.replace("{a}", account)) for _ in range(REPEATS)]
            for account, path in asked
        }


def measure(folder: Path, bodies: Path, in_flight: int) -> Measured:
    """Measure on a ledger of its own."""
    return asyncio.run(measuring(folder, bodies, in_flight))
