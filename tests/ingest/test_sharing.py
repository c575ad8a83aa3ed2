"""What one thread learned of shapes the others know, and whoever learns at the same time learns the same."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tallystick.catalog import builtin
from tallystick.ingest.accept import preparer
from tallystick.ingest.plan import LabelSets, Plan, make_form
from tallystick.ingest.prepare import Prepared, Preparer, prepare
from tallystick.ingest.validate import validate
from tallystick.model import Caller, Checked, Posting, Scope
from tallystick.settings import Settings

NOW = 1_800_000_000_000_000
CATALOG = builtin()
OPERATOR = Caller("op", None, frozenset(Scope))
THREADS, PARTS = 4, 60


def raw(number: int, account: str, mode: str, technology: str) -> bytes:
    """Return an event; all but its number makes its shape."""
    data = f'{{"duration":{number},"mode":"{mode}","technology":"{technology}"}}'
    return (
        f'{{"specversion":"1.0","id":"{number}","source":"s","type":"audio.processed","account":"{account}",'
        f'"data":{data}}}'
    ).encode()


def part(rng: random.Random) -> list[bytes]:
    """Return one event or some, of shapes that others use as well."""
    names = [f"{kind}{rng.randrange(5)}" for kind in "abc"]
    return [raw(rng.randrange(10**6), *names) for _ in range(rng.choice((1, 1, 2, 5, 30)))]


def told(prepared: Prepared) -> Any:
    """Return what a part adds, whichever objects say it."""
    batch = prepared.batch
    series = [(each.account, each.meter, each.meter_version, each.labels) for each in batch.label_sets]
    sets = [series[at] for at in batch.posting_set.tolist()]
    return batch.account, batch.id, batch.posting_event.tolist(), sets, batch.posting_amount.tolist(), prepared.refused


@pytest.fixture
def hurry() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("shapes_max", [3, 50_000])
def test_threads_that_learn_together_prepare_the_same(shapes_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while all that was learned is forgotten again and again."""
    monkeypatch.setattr("tallystick.ingest.plan.SHAPES_MAX", shapes_max)
    shared, settings = Preparer(Settings()), Settings()
    parts = [part(random.Random(seed)) for seed in range(PARTS)]

    def work(seed: int) -> Sequence[tuple[int, Any]]:
        order = random.Random(seed).sample(range(PARTS), PARTS)
        return [
            (at, told(shared.prepare(parts[at], plain=False, caller=OPERATOR, catalog=CATALOG, now=NOW)))
            for at in order
        ]

    alone = [told(prepare(raws, caller=OPERATOR, catalog=CATALOG, settings=settings, now=NOW)) for raws in parts]
    with ThreadPoolExecutor(THREADS) as threads:
        for results in threads.map(work, range(THREADS)):
            for at, result in results:
                assert result == alone[at]


def test_a_single_event_is_known_by_what_bulk_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop and the thread of bulk ask the same one."""
    settings, judged = Settings(), list[bytes]()

    def counting(raw: bytes, **keywords: Any) -> Any:
        judged.append(raw)
        return validate(raw, **keywords)

    monkeypatch.setattr("tallystick.ingest.prepare.validate", counting)
    for raws in ([raw(number, "a", "b", "c") for number in range(100)], [raw(100, "a", "b", "c")]):
        preparer(settings).prepare(raws, plain=False, caller=OPERATOR, catalog=CATALOG, now=NOW)
    assert len(judged) == 1


class Hesitant(list[Any]):
    """A list in which another thread has its turn between looking and adding."""

    def __len__(self) -> int:
        count = super().__len__()
        time.sleep(0.01)
        return count


def postings(type: str) -> Sequence[Posting]:
    """Return what an event of a type adds."""
    event = raw(1, "a", "explore", "c").replace(b"audio.processed", type.encode()).replace(b"mode", b"type")
    checked = validate(event, plain=False, caller=OPERATOR, catalog=CATALOG, settings=Settings(), now=NOW)
    assert isinstance(checked, Checked)
    return checked.postings


def test_ways_that_are_learned_at_the_same_time_have_numbers_of_their_own() -> None:
    """A number that stood for two of them would count one event in the other's way."""
    plan = Plan(make_form(CATALOG), CATALOG, LabelSets())
    plan.ways = Hesitant()
    heads = [(type, "1.0", None, "a", None, None) for type in ("audio.processed", "vision.request")]
    with ThreadPoolExecutor(2) as threads:
        shapes = list(threads.map(lambda head: plan.learn(head, (), "a", postings(head[0])), heads))
    assert all(shape.ways for shape in shapes)
    assert not set(shapes[0].ways) & set(shapes[1].ways)
