"""The vendor views: the five reports as each vendor's API would answer, beside the request that asks for it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec

from tallystick.dashboard import period, rendering
from tallystick.dashboard.client import Api, part
from tallystick.dashboard.period import Days, DaysInvalid
from tallystick.dashboard.session import Reader, accounts_of
from tallystick.dashboard.visit import Pairs, Sent, Visit, url

SHOWN_BYTES_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose report of which days."""

    account: str
    space: str
    days: Days
    is_own: bool

    @property
    def whose(self) -> Pairs:
        """The parameter that names the account, where the key does not."""
        return [] if self.is_own else [("account", self.account)]

    @property
    def since(self) -> Pairs:
        """Both days, as two vendors take them."""
        return [("since", self.days.first.isoformat()), ("until", self.days.last.isoformat())]


@dataclass(frozen=True, slots=True)
class View:
    """One vendor's report: where it is, and what of the form it takes."""

    name: str
    about: str
    request: Callable[[Asked], tuple[str, Pairs]]
    takes: frozenset[str]
    scheme: str = "Bearer"


VIEWS = {
    "speechmatics": View(
        "Speechmatics",
        "Jobs and hours by mode, type, language and operating point, in UTC days.",
        lambda asked: ("/v2/usage", [*asked.since, *asked.whose]),
        frozenset({"days"}),
    ),
    "vblaze": View(
        "vblaze",
        "Hours and streams by billing, in it by model, in it by tags.",
        lambda asked: ("/usagefull", [*asked.since, *asked.whose]),
        frozenset({"days"}),
    ),
    "phonexia": View(
        "phonexia",
        "What may still be processed now, by technology.",
        lambda asked: ("/api/billing/capacities", asked.whose),
        frozenset(),
    ),
    "visii": View(
        "visii",
        "Credits of the month and images of the year in which the first day is, by dataset.",
        lambda asked: (
            f"/orgs/{part(asked.account)}/usage",
            [("year", str(asked.days.first.year)), ("month", str(asked.days.first.month))],
        ),
        frozenset({"days"}),
        scheme="token",
    ),
    "hiya": View(
        "hiya",
        "What is in a space now: audios, voiceprints, verifications.",
        lambda asked: (f"/spaces/{part(asked.account)}/{part(asked.space)}/stats", []),
        frozenset({"space"}),
    ),
}


async def show(visit: Visit, api: Api, reader: Reader) -> Sent | None:
    """Show one of the reports; the others are a link away."""
    name = visit.value("vendor") or next(iter(VIEWS))
    view = VIEWS.get(name)
    if view is None:
        return None
    accounts = await accounts_of(reader, api)
    account = visit.value("account").strip() or reader.account or next(iter(accounts), "")
    asked, flaws = _asked(visit, account, is_own=account == reader.account)
    missing = "account" if not account else "space" if "space" in view.takes and not asked.space else ""
    path, query = view.request(asked)
    answer = None if missing else await api.raw(path, query, scheme=view.scheme)
    return rendering.page(
        "vendors.html",
        visit,
        reader,
        status=422 if flaws else 200,
        title=f"{view.name}’s view",
        view=view,
        tabs=[(key, each.name, url("/vendors", _pairs(key, asked, visit))) for key, each in VIEWS.items()],
        vendor=name,
        asked=asked,
        accounts=accounts,
        flaws=flaws,
        missing=missing,
        curl=_curl(visit, path, query, view.scheme),
        status_said=answer and answer.status,
        text=answer and _text(answer.body),
    )


def _asked(visit: Visit, account: str, *, is_own: bool) -> tuple[Asked, dict[str, str]]:
    standing = period.of_preset(period.DEFAULT, visit.now, "UTC")
    first, last = visit.value("from"), visit.value("through")
    flaws: dict[str, str] = {}
    days = standing
    if first or last:
        try:
            days = period.of_fields(first or last, last or first, "UTC")
        except DaysInvalid as invalid:
            flaws[invalid.name] = str(invalid)
    return Asked(account, visit.value("space").strip(), days, is_own), flaws


def _pairs(name: str, asked: Asked, visit: Visit) -> Pairs:
    days = [("from", asked.days.first.isoformat()), ("through", asked.days.last.isoformat())]
    pairs = [("vendor", name), ("account", visit.value("account")), ("space", asked.space)]
    return [*(pair for pair in pairs if pair[1]), *(days if visit.value("from") or visit.value("through") else [])]


def _text(body: bytes) -> str:
    """Write the answer with line breaks, and nothing else of it changed; a long one is cut."""
    try:
        text = msgspec.json.format(body, indent=2).decode()
    except msgspec.DecodeError:
        text = body.decode(errors="replace")
    return text if len(text) <= SHOWN_BYTES_MAX else f"{text[:SHOWN_BYTES_MAX]}\n… and more: ask for it with curl"


def _curl(visit: Visit, path: str, query: Pairs, scheme: str) -> str:
    target = f"{visit.origin}{path}" + (f"?{urlencode(query)}" if query else "")
    return f'curl -s -H "Authorization: {scheme} $KEY" \\\n  {shlex.quote(target)}'
