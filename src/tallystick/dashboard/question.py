"""What the usage page was asked, all of it in its address: read from it, written back to it, sent on to the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tallystick import windows
from tallystick.dashboard import period
from tallystick.dashboard.period import DEFAULT, PRESETS, Days, DaysInvalid
from tallystick.dashboard.session import Reader
from tallystick.dashboard.visit import Pairs, Visit, url
from tallystick.windows import Window

METER = "audio"
"""Shown where none is named and it is there."""
NOTHING = "-"
"""Stands for no grouping: no label is called so."""
SORTS = ("from", "label", "count", "quantity")
ADDED = ("sum", "count")
"""Aggregations of which the parts add up to the whole."""
FILTER, PICK, TYPED, SEVERAL = "filter[", "pick[", "typed[", "several["
PICKED, WITHOUT = "=", "!"
"""How a choice of the form begins: with a value, or without the label."""

Filters = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Question:
    """One view of usage. `by` None = the page chooses, "" = nothing. `window` None = what shows the days best."""

    meter: Mapping[str, Any]
    account: str
    by: str | None
    days: Days
    preset: str | None
    window: Window | None
    zone: str
    filters: Filters
    sort: str
    page: int
    is_running: bool
    own_zone: bool

    @property
    def name(self) -> str:
        """The meter's name."""
        return str(self.meter["meter"])

    @property
    def labels(self) -> Sequence[str]:
        """What may be grouped by and filtered on; a meter counts by space first of all, for a customer."""
        return sorted(self.meter["labels"], key=lambda label: label != "space")

    @property
    def buckets(self) -> Window:
        """The window that is shown."""
        return self.window or self.days.window()

    @property
    def adds_up(self) -> bool:
        """Whether the groups add up to the whole."""
        return self.meter["aggregation"] in ADDED

    def pairs(self, **changes: Any) -> list[tuple[str, str]]:
        """Return the parameters of the page's address, with these changes; what is the default is left out."""
        asked = replace(self, **changes)
        named = [
            ("meter", asked.name),
            ("account", asked.account),
            ("by", NOTHING if asked.by == "" else asked.by or ""),
            *(
                [("period", asked.preset)]
                if asked.preset
                else [("from", asked.days.first.isoformat()), ("through", asked.days.last.isoformat())]
            ),
            ("window", asked.window or ""),
            ("tz", asked.zone if asked.own_zone else ""),
            ("show", "running" if asked.is_running else ""),
            ("sort", asked.sort if asked.sort != SORTS[0] else ""),
            ("page", str(asked.page) if asked.page > 1 else ""),
        ]
        pairs = [(name, str(value)) for name, value in named if value]
        return [*pairs, *((f"{FILTER}{label}]", value) for label, value in asked.filters)]

    def url(self, path: str = "/usage", **changes: Any) -> str:
        """Return the page's address, with these changes."""
        return url(path, self.pairs(**{"page": 1, **changes}))

    def without(self, label: str, value: str) -> str:
        """Return the address of the page without this filter."""
        return self.url(filters=[each for each in self.filters if each != (label, value)])

    def api(
        self, days: Days | None = None, *, window: str | None = None, by: str | None = None
    ) -> list[tuple[str, str]]:
        """Return the parameters of GET /v1/usage for this question, or for others days, window or grouping."""
        shown = days or self.days
        return self.between(shown.start, shown.end, window=window or self.buckets, by=self.by if by is None else by)

    def between(self, start: int, end: int, *, window: str, by: str | None) -> list[tuple[str, str]]:
        """Return the parameters of GET /v1/usage between two instants."""
        pairs = [
            ("meter", self.name),
            ("account", self.account),
            ("from", windows.format_instant(start)),
            ("to", windows.format_instant(end)),
            ("window", str(window)),
            ("tz", self.zone),
            ("group_by", by or ""),
        ]
        chosen = [(f"{FILTER}{label}]", value) for label, value in self.filters]
        return [pair for pair in pairs if pair[1]] + chosen


def of(visit: Visit, reader: Reader, meters: Sequence[Mapping[str, Any]]) -> tuple[Question, list[tuple[str, str]]]:
    """Read the page's address; what cannot be used is left as it would be without, and said: fields and sentences."""
    flaws: list[tuple[str, str]] = []
    meter = _meter(visit, meters, flaws)
    account = visit.value("account")
    if reader.accounts is not None and [each["account"] for each in reader.accounts] == [account]:
        account = ""  # the only one there is to read
    zone, own_zone = _zone(visit, reader, account, flaws)
    preset, days = _days(visit, zone, flaws)
    labels = ["account", *meter["labels"]]
    by = visit.value("by")
    window = visit.value("window")
    sort, page = visit.value("sort"), visit.value("page")
    question = Question(
        meter=meter,
        account=account,
        by="" if by == NOTHING else by if by in labels else None,
        days=days,
        preset=preset,
        window=Window(window) if window in set(Window) else None,
        zone=zone,
        filters=_filters(visit.query, meter["labels"]),
        sort=sort if sort.removeprefix("-") in SORTS else SORTS[0],
        page=int(page) if page.isascii() and page.isdecimal() and 0 < len(page) < 7 and int(page) else 1,
        is_running=visit.value("show") == "running",
        own_zone=own_zone,
    )
    return _drawable(question, flaws), flaws


def is_form(visit: Visit) -> bool:
    """Say whether this came from the page's form, whose fields become the page's own address first."""
    return any(name == "form" for name, _ in visit.query)


def _meter(visit: Visit, meters: Sequence[Mapping[str, Any]], flaws: list[tuple[str, str]]) -> Mapping[str, Any]:
    by_name = {meter["meter"]: meter for meter in meters}
    name = visit.value("meter")
    if name and name not in by_name:
        flaws.append(("meter", "There is no meter of this name."))
    return by_name.get(name) or by_name.get(METER) or meters[0]


def _zone(visit: Visit, reader: Reader, account: str, flaws: list[tuple[str, str]]) -> tuple[str, bool]:
    """Return the zone, and whether it was asked for: without, it is that of the account."""
    known = {each["account"]: each["timezone"] for each in reader.accounts or ()}
    own = known.get(account or reader.account or "", "UTC")
    asked = visit.value("tz").strip()
    if asked and not windows.is_zone(asked):
        flaws.append(("tz", "Name a time zone as the IANA database does, such as Europe/Prague."))
        return own, False
    return asked or own, bool(asked) and asked != own


def _days(visit: Visit, zone: str, flaws: list[tuple[str, str]]) -> tuple[str | None, Days]:
    """Return the preset, if that is what is shown, and the days."""
    preset = visit.value("period")
    preset = preset if preset in PRESETS else DEFAULT
    standing = period.of_preset(preset, visit.now, zone)
    first, through = visit.value("from"), visit.value("through")
    if not first and not through:
        return preset, standing
    try:
        days = period.of_fields(first or through, through or first, zone)
    except DaysInvalid as invalid:
        flaws.append((invalid.name, str(invalid)))
        return preset, standing
    # The form sends both: the days that it showed say that nobody changed them.
    return (preset, standing) if days == standing and visit.value("period") else (None, days)


def _filters(query: Pairs, labels: Sequence[str]) -> Filters:
    """Return the filters of an address, or of the form: a choice per label, which stands for all that were."""
    chosen: list[tuple[str, str]] = []
    kept = {name[len(PICK) : -1] for name, value in query if name.startswith(PICK) and value == "several"}
    for name, value in query:
        start = next((start for start in (FILTER, PICK, TYPED, SEVERAL) if name.startswith(start)), None)
        label = name[len(start) : -1] if start and name.endswith("]") else ""
        if label not in labels:
            continue
        if start == PICK:
            if value.startswith((PICKED, WITHOUT)):
                chosen.append((label, value[1:] if value.startswith(PICKED) else ""))
        elif start == FILTER or (start == TYPED and value) or (start == SEVERAL and label in kept):
            chosen.append((label, value))
    return list(dict.fromkeys(chosen))


def _drawable(question: Question, flaws: list[tuple[str, str]]) -> Question:
    """Choose a longer bucket where there would be too many."""
    if question.window in (None, Window.TOTAL):
        return question
    shown = question.days
    try:
        windows.edges(shown.start, shown.end, question.buckets, question.zone, edges_max=period.BUCKETS_MAX)
    except windows.EdgesExceeded:
        flaws.append(("window", f"That would be more than {period.BUCKETS_MAX} bars; a longer one is shown."))
        return replace(question, window=None)
    return question


def choice(label: str, question: Question) -> str:
    """Return the value of the form's field for a label: what is chosen now, "" where nothing or several are."""
    values = [value for name, value in question.filters if name == label]
    if len(values) != 1:
        return ""
    return f"{PICKED}{values[0]}" if values[0] else WITHOUT
