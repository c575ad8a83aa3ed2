"""GET /metrics: what the process and its ledger count, with few series whatever is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tallystick import telemetry
from tallystick.api import auth
from tallystick.api.description import describe
from tallystick.api.http import Call
from tallystick.errors import Code, Problem
from tallystick.ledger.vitals import Vitals
from tallystick.model import Caller
from tallystick.query import Reply
from tallystick.telemetry import Reading

OTHER = "other"
SECOND = 1_000_000


TEXT = {"type": "string"}


@describe(
    replies={200: {"text/plain": TEXT, "application/openmetrics-text": TEXT}},
    codes=(Code.KEY_MISSING, Code.KEY_INVALID, Code.SCOPE_MISSING, Code.NOT_FOUND),
)
async def get(call: Call) -> Reply:
    """Show the metrics as OpenMetrics or as Prometheus' text, to whom the setting `metrics` allows it."""
    access = call.app.settings.metrics
    if access == "off":
        raise Problem(Code.NOT_FOUND, "Nothing answers at this path.")
    if "authorization" in call.headers:
        await call.app.ledger.current()
    if access == "operator":
        auth.require_operator(_caller(call))
    # Who an operator's customers are, and how much they do, is nobody's business who reads without a key.
    named = call.app.settings.metrics_accounts_max if _is_operator(call) else 0
    body, media_type = telemetry.exposition(_readings(call, named), call.headers.get("accept", ""))
    return Reply(200, body, media_type)


def _caller(call: Call) -> Caller:
    return auth.authenticate(call.headers, call.app.catalog, call.app.settings.operator_key, call.now)


def _is_operator(call: Call) -> bool:
    try:
        return _caller(call).account is None
    except Problem:
        return False


def _readings(call: Call, named: int) -> Iterator[Reading]:
    vitals = call.app.ledger.vitals()
    yield from call.app.counts.read()
    yield telemetry.REQUESTS_UNDER_WAY, (), call.app.calls
    yield telemetry.BODY_BYTES, (), call.app.body_bytes
    yield from _by_account(vitals, named)
    yield telemetry.LEDGER_SEQUENCE, (), vitals.sequence
    yield telemetry.QUEUED_BYTES, (), vitals.queued_bytes
    yield telemetry.COMMIT_SECONDS, (), vitals.commits.seconds
    yield telemetry.COMMIT_BYTES, (), vitals.commits.bytes
    if vitals.committed is not None:
        yield telemetry.COMMIT_AGE, (), max(call.now - vitals.committed, 0) / SECOND
    yield telemetry.WAL_BYTES, (), vitals.wal_bytes
    if vitals.replica is not None and vitals.replica.lag_s is not None:
        yield telemetry.REPLICA_LAG, (), vitals.replica.lag_s
    yield telemetry.DAMAGED_ENTRIES, (), vitals.damaged_entries


def _by_account(vitals: Vitals, named: int) -> Iterator[Reading]:
    """Yield what there is by account; the accounts that sent events first are named, and stay so."""
    shown = set(list(vitals.accepted)[:named])
    events: Counter[str] = Counter()
    for account, accepted in vitals.accepted.items():
        events[account if account in shown else OTHER] += accepted
    for account, accepted in events.items():
        yield telemetry.ACCOUNT_EVENTS, (account,), accepted
    warnings: Counter[tuple[str, str]] = Counter()
    for (account, meter), months in vitals.label_set_warnings.items():
        warnings[account if account in shown else OTHER, meter] += months
    for labels, months in warnings.items():
        yield telemetry.LABEL_SET_WARNINGS, labels, months
