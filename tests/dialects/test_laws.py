"""What holds between reports, whatever was sent: parts add up, order plays no part, and all tell one story."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick import windows
from tallystick.windows import DAY, SECOND
from tests.api.client import NOON, World, run

Event = dict[str, Any]

LABELS = (
    "technology",
    "vendor",
    "operation",
    "type",
    "language",
    "operating_point",
    "model",
    "tags",
    "billing",
    "space",
)
FIRST, LAST = NOON - 40 * DAY, NOON - DAY // 2
"""The days that the events are of: the last is yesterday, so that every dialect counts it."""

instants = st.integers(FIRST, LAST - 1) | st.sampled_from(
    [FIRST, LAST - 1, *(NOON - DAY // 2 - n * DAY - k for n in (1, 2, 31) for k in (0, 1))]
)
words = st.sampled_from(["", "a", "b", "č/%,="])


def described(type: str, data: st.SearchStrategy[Any], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    """Make events of one type, without their ids."""
    fixed = {"type": st.just(type), "time": instants.map(windows.format_instant), "data": data}
    return st.fixed_dictionaries(fixed, optional=dict(more))


def labels(*names: str) -> dict[str, st.SearchStrategy[str]]:
    """Give labels any of the words."""
    return dict.fromkeys(names, words)


seconds = st.decimals(0, 10**5, places=6).map(lambda amount: format(amount, "f"))
anyones_audio = described(
    "audio.processed",
    st.fixed_dictionaries(
        {"duration": seconds},
        optional={
            **labels("technology", "vendor", "operation", "type", "language", "operating_point", "model", "billing"),
            "tags": st.sampled_from(["", "G", "GR", "*D"]),
            "mode": st.sampled_from(["", "batch", "realtime"]),
            "status": st.sampled_from(["success", "failed"]),
        },
    ),
    space=st.sampled_from(["shop", "lab"]),
)
everyones_audio = described(
    "audio.processed",
    st.fixed_dictionaries(
        {"duration": seconds, **dict.fromkeys(("technology", "type", "model"), st.sampled_from(["a", "b"]))},
        optional={**labels("vendor", "language", "billing"), "tags": st.sampled_from(["G", "GR"])},
    ),
)
vision = described(
    "vision.request",
    st.fixed_dictionaries(
        {"type": st.sampled_from(["explore", "lens", "similar", "track"]), "dataset": st.sampled_from(["shop", "lab"])}
    ),
)


def resource(kind: str, **data: Any) -> st.SearchStrategy[Event]:
    """Make upserts in a space; each is of a resource of its own, which gets its id with the event."""
    spaces = st.sampled_from(["shop", "lab"])
    return st.tuples(described("resource.upserted", st.just({"kind": kind, **data})), spaces).map(
        lambda pair: {**pair[0], "space": pair[1]}
    )


performed = {"state": "performed", "duration": "1.5"}
resources = st.one_of(
    resource("image", url="https://example.org/1.jpg"),
    resource("audio", duration="7.5"),
    resource("verification", type="identity", **performed),
    resource("verification", type="message", **performed),
    resource("voiceprint", state="computed", duration="2"),
)
deletions = described(
    "resource.deleted",
    st.fixed_dictionaries({"kind": st.sampled_from(["space", "dataset"]), "id": st.sampled_from(["shop", "lab"])}),
)


def stream(*parts: st.SearchStrategy[Event], most: int = 12) -> st.SearchStrategy[list[Event]]:
    """Make a stream of events, each with an id of its own."""
    return st.lists(st.one_of(*parts), max_size=most).map(
        lambda events: [numbered(*each) for each in enumerate(events)]
    )


def numbered(number: int, event: Event) -> Event:
    """Give an event its id, and an upsert that of its resource."""
    data = event["data"]
    if event["type"] == "resource.upserted":
        data = {**data, "id": f"r{number}"}
    return {"id": f"{number}", "source": "laws", "account": "acme", **event, "data": data}


def told(scenario: Callable[[World], Any], folder: Path | None = None) -> None:
    """Play a scenario with acme in it."""

    async def play(world: World) -> None:
        await world.account("acme")
        await scenario(world)

    run(play, folder=folder)


async def keep(world: World, events: Sequence[Event]) -> None:
    """Send events that are all new."""
    assert (await world.ingest(*events)).json["accepted"] == len(events)


async def ask(world: World, path: str) -> Any:
    """Ask as the account itself, exactly."""
    scheme = "token" if path.startswith("/orgs/acme/usage") else "Bearer"
    answer = await world.ask("GET", path, key="acme", scheme=scheme)
    assert answer.status == 200, (path, answer.body)
    return json.loads(answer.body, parse_float=Decimal)


LIVE = ("/spaces/acme/lab/stats", "/orgs/acme/spaces", "/v1/accounts/acme/resources")
LASTING = (
    *(f"/{report}" for report in ("usage", "usagetags", "usagebilling", "usagefull", "usageraw", "usagelicense")),
    "/v2/usage",
    "/api/billing/consumptions",
    *(
        f"/v1/usage?meter={meter}&group_by=space&window=day&from=2026-09-01T00:00:00Z&to=2026-11-02T00:00:00Z"
        for meter in ("audio", "vision_requests", "vision_credits", "images", "verifications", "voiceprints")
    ),
)
VISII = ("/orgs/acme/usage", "/orgs/acme/usage?month=10", "/orgs/acme/usage?month=9")
RECORDS = tuple(f"/orgs/acme/records/{kind}?page-size=50" for kind in ("verification", "voiceprint"))


async def everything(world: World, paths: Sequence[str]) -> dict[str, Any]:
    """Read reports, without what tells only when and as of which entry they were made."""
    found = {}
    for path in paths:
        answer = await world.ask(
            "GET", path, key="acme", scheme="token" if path.startswith("/orgs/acme/usage") else "Bearer"
        )
        document = answer.json
        if isinstance(document, dict):
            document.pop("as_of", None)
        # A space that never was has the same 404 in both worlds, with an id of the request.
        found[path] = document if answer.status == 200 else answer.status
    return found


@settings(max_examples=40)
@given(
    stream(anyones_audio),
    st.lists(st.sampled_from(LABELS), unique=True, max_size=4),
    st.dictionaries(st.sampled_from(LABELS), words, max_size=2),
    st.sampled_from(["total", "day", "month"]),
)
def test_a_total_is_the_sum_of_its_parts(
    events: list[Event], group_by: list[str], wanted: Mapping[str, str], window: str
) -> None:
    """In any grouping, under any filter and cut into any windows, rows add up to the same total."""

    async def scenario(world: World) -> None:
        await keep(world, events)
        common = "".join(f"&filter[{label}]={quote(value, safe='')}" for label, value in wanted.items())
        bounds = f"&from={windows.format_instant(FIRST)}&to={windows.format_instant(LAST)}"
        whole = (await ask(world, f"/v1/usage?meter=audio{common}"))["total"]
        grouped = f"&group_by={','.join(group_by)}" if group_by else ""
        report = await ask(world, f"/v1/usage?meter=audio{common}{bounds}{grouped}&window={window}")
        assert report["total"] == whole
        assert sum(row["count"] for row in report["rows"]) == whole["count"]
        assert sum(Decimal(row["quantity"]) for row in report["rows"]) == Decimal(whole["quantity"])
        assert {label for row in report["rows"] for label in row["labels"]} <= set(group_by)

    told(scenario)


@settings(max_examples=40)
@given(stream(anyones_audio), st.sampled_from(["", "/a", "/G", "/b", "/č%2F%25,=", "/none"]))
def test_the_nested_report_folds_to_the_flat_ones(events: list[Event], filter: str) -> None:
    """What /usagefull has below each billing, model and tag string is what /usagemodel and the others have."""

    async def scenario(world: World) -> None:
        await keep(world, events)
        full = await ask(world, f"/usagefull{filter}")
        leaves = {
            (billing, model, tags): cell
            for billing, models in full.items()
            if billing not in ("total", "key")
            for model, cells in models.items()
            if model not in ("total", "key")
            for tags, cell in cells.items()
            if tags not in ("total", "key")
        }
        for place, report in enumerate(("usagebilling", "usagemodel", "usagetags")):
            folded: dict[str, list[Any]] = {"total": [Decimal(), 0]}
            for leaf, cell in leaves.items():
                for name in (leaf[place], "total"):
                    before = folded.setdefault(name, [Decimal(), 0])
                    folded[name] = [before[0] + cell[0], before[1] + cell[1]]
            assert await ask(world, f"/{report}{filter}") == folded
        raw = await ask(world, f"/usageraw{filter}")
        assert Counter(map(str, raw.values())) == Counter(map(str, leaves.values()))
        assert full["total"] == [sum((cell[n] for cell in leaves.values()), Decimal()) for n in (0, 1)]

    told(scenario)


@settings(max_examples=30)
@given(stream(anyones_audio), st.lists(instants, min_size=3, max_size=3).map(sorted), st.sampled_from(["", "type"]))
def test_a_window_that_is_split_adds_up(events: list[Event], cuts: list[int], group_by: str) -> None:
    """At any instant, and at any midnight in the reports that know days only."""

    async def scenario(world: World) -> None:
        await keep(world, events)

        async def between(start: int, end: int) -> Counter[tuple[str, str]]:
            """Return counts and microseconds by label."""
            found: Counter[tuple[str, str]] = Counter()
            if start < end:
                bounds = f"from={windows.format_instant(start)}&to={windows.format_instant(end)}"
                grouped = f"&group_by={group_by}" if group_by else ""
                for row in (await ask(world, f"/v1/usage?meter=audio&{bounds}{grouped}"))["rows"]:
                    found[str(row["labels"]), "count"] += row["count"]
                    found[str(row["labels"]), "amount"] += int(Decimal(row["quantity"]) * 10**6)
            return found

        start, cut, end = cuts
        assert await between(start, cut) + await between(cut, end) == +(await between(start, end))

        async def streams(since: int, until: int) -> tuple[int, int]:
            days = f"since={windows.format_day(since)}&until={windows.format_day(until)}"
            usage, jobs = await ask(world, f"/usage?{days}"), await ask(world, f"/v2/usage?{days}")
            return usage["total"][1], sum(line["count"] for line in jobs["summary"] or [])

        first, middle, last = (instant // DAY * DAY for instant in cuts)
        if first < middle:
            parts = [await streams(first, middle - DAY), await streams(middle, last)]
            assert await streams(first, last) == tuple(map(sum, zip(*parts, strict=True)))

    told(scenario)


@settings(max_examples=20)
@given(stream(anyones_audio, vision, resources, deletions, most=14), st.randoms(use_true_random=False), st.booleans())
def test_order_and_replays_change_nothing(events: list[Event], chance: Any, on_disk: bool) -> None:
    """Sent one by one in another order, some of them again and again, every report of every vendor is the same."""
    paths = (*LASTING, *LIVE, *VISII, *RECORDS)
    seen: list[dict[str, Any]] = []

    async def once(world: World) -> None:
        await keep(world, events)
        seen.append(await everything(world, paths))

    async def again(world: World) -> None:
        shuffled = chance.sample(events, len(events))
        for event in shuffled:
            await world.ingest(event, *chance.sample(shuffled, min(2, len(shuffled))))
        retried = (await world.ingest(*events)).json
        assert (retried["accepted"], retried["conflict"], retried["rejected"]) == (0, 0, 0)
        seen.append(await everything(world, paths))

    told(once)
    with tempfile.TemporaryDirectory() as folder:
        told(again, Path(folder) / "data" if on_disk else None)
    assert seen[0] == seen[1]


@settings(max_examples=20)
@given(
    stream(anyones_audio, vision, resources),
    st.lists(st.tuples(st.sampled_from(["space", "dataset"]), st.sampled_from(["shop", "lab"])), max_size=3),
)
def test_deletion_changes_live_views_only(events: list[Event], deleted: list[tuple[str, str]]) -> None:
    """Usage stays to the last digit, and so do records but for references; what is live is gone, and nothing else."""

    async def scenario(world: World) -> None:
        await keep(world, events)
        before = await everything(world, (*LASTING, *RECORDS, *VISII))
        gone = [
            {
                **numbered(1000 + number, {"type": "resource.deleted", "data": {"kind": kind, "id": name}}),
                "time": windows.format_instant(NOON - SECOND),
            }
            for number, (kind, name) in enumerate(deleted)
        ]
        await keep(world, gone)
        after = await everything(world, (*LASTING, *RECORDS, *VISII))
        for path in LASTING:
            assert after[path] == before[path]
        for path in RECORDS:
            assert [without_references(record) for record in after[path]] == [
                without_references(record) for record in before[path]
            ]
        for path in VISII:
            one, other = before[path]["usage"], after[path]["usage"]
            assert one["images"]["processed"] == other["images"]["processed"]
            assert {name: dataset["usage"] for name, dataset in one["datasets"].items() if dataset["usage"]} == {
                name: dataset["usage"] for name, dataset in other["datasets"].items() if dataset["usage"]
            }
        # What was deleted before the month was over is out of `used`; months that were closed before are not touched.
        assert [after[path]["usage"]["credits"]["used"] for path in VISII[1:]] == [
            before[path]["usage"]["credits"]["used"] for path in VISII[1:]
        ]
        names = {name for _, name in deleted}
        left = await ask(world, "/v1/accounts/acme/resources")
        assert {each["space"] for each in left["resources"]}.isdisjoint(names)

    told(scenario)


def without_references(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without what refers to things that may be gone."""
    return {name: value for name, value in record.items() if name not in ("verification", "voiceprint", "space")}


@settings(max_examples=30)
@given(stream(everyones_audio, vision, resources, most=16))
def test_one_stream_tells_one_story_in_every_report(events: list[Event]) -> None:
    """Work that all vendors count is the same work in all of their reports, in native ones and in plain Decimal."""

    async def scenario(world: World) -> None:
        await keep(world, events)
        audio = [event["data"] for event in events if event["type"] == "audio.processed"]
        lengths = [Decimal(data["duration"]) for data in audio]
        native = {
            meter: (await ask(world, f"/v1/usage?meter={meter}"))["total"]
            for meter in ("audio", "vision_requests", "vision_credits", "images", "verifications", "voiceprints")
        }
        assert (native["audio"]["count"], Decimal(native["audio"]["quantity"])) == (len(audio), sum(lengths))

        consumed = (await ask(world, "/api/billing/consumptions"))["items"]
        assert sum(item["consumptions"][0]["consumption"] for item in consumed) == sum(lengths)

        usage = await ask(world, "/usage")
        assert usage["total"] == [hours(audio, ("billing", "model", "tags"), "0.0001"), len(audio)]

        jobs = await ask(world, "/v2/usage")
        assert sum(line["count"] for line in jobs["summary"] or []) == len(audio)
        assert sum(line["duration_hrs"] for line in jobs["summary"] or []) == hours(audio, ("type",), "0.01")
        assert sum(line["count"] for line in jobs["details"] or []) == len(audio)

        months = [(await ask(world, path))["usage"] for path in VISII]
        rows = [row for month in months for dataset in month["datasets"].values() for row in dataset["usage"]]
        assert sum(row["requests"] for row in rows) == native["vision_requests"]["count"]
        assert sum(row["credits"] for row in rows) == Decimal(native["vision_credits"]["quantity"])
        assert sum(month["credits"]["used"] for month in months) == Decimal(native["vision_credits"]["quantity"])
        assert {month["images"]["processed"] for month in months} == {native["images"]["count"]}
        assert {month["images"]["total"] for month in months} == {native["images"]["count"]}

        for kind, meter in (("verification", "verifications"), ("voiceprint", "voiceprints")):
            found = await ask(world, f"/orgs/acme/records/{kind}?page-size=50")
            assert len(found) == native[meter]["count"]
        counted = [await statistics(world, space) for space in ("shop", "lab")]
        assert sum(each["performedVerifications"]["count"] for each in counted) == native["verifications"]["count"]
        assert sum(each["computedVoiceprints"]["count"] for each in counted) == native["voiceprints"]["count"]

    told(scenario)


def hours(audio: Sequence[Mapping[str, str]], parts: Sequence[str], to: str) -> Decimal:
    """Sum hours that were rounded half up in each part."""
    sums: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for data in audio:
        sums[tuple(data.get(part, "") for part in parts)] += Decimal(data["duration"])
    return sum(((each / 3600).quantize(Decimal(to), ROUND_HALF_UP) for each in sums.values()), Decimal())


async def statistics(world: World, space: str) -> Mapping[str, Any]:
    """Return what is in a space; one that never was has nothing."""
    answer = await world.ask("GET", f"/spaces/acme/{space}/stats", key="acme")
    nothing = {name: {"count": 0} for name in ("performedVerifications", "computedVoiceprints")}
    found: Mapping[str, Any] = answer.json if answer.status == 200 else nothing
    return found
