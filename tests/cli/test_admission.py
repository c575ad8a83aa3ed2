"""`limits`, `grants` and `holds`: the same from a server and from its folder, in every format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import forked
from tests.server import OPERATOR, serving

EVENT = {
    "id": "1",
    "source": "s",
    "type": "audio.processed",
    "account": "acme",
    "data": {"duration": 60, "operation": "translate"},
}
HOLD = {"id": "job/1", "account": "acme", "meter": "audio", "quantity": "5", "ttl": "PT24H"}


@pytest.fixture(scope="module", params=["folder", "server"])
def where(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The flags that say where an event and a hold are."""
    data = tmp_path_factory.mktemp("admission") / "ledger"
    with serving(data) as server:
        assert server.ask("POST", "/v1/events", EVENT).status == 200
        assert server.ask("POST", "/v1/holds", HOLD).status == 201
        if request.param == "server":
            yield ["--server", server.url, "--key", OPERATOR]
            return
    yield ["--data", str(data)]


def run(where: list[str], *arguments: str, code: int = 0) -> str:
    """Run a command; stdout has its data only."""
    done = forked.run("tallystick", *arguments, *where)
    assert done.returncode == code, done.stderr
    return done.stdout


def put(where: list[str], id: str, *more: str) -> Any:
    made = run(where, "limits", "put", id, "--account", "acme", "--meter", "audio", *more, "--format", "json")
    return json.loads(made)


def test_limits_and_grants_are_defined_listed_and_deleted(where: list[str]) -> None:
    """With every member of a definition, and how they stand."""
    full = put(
        where,
        "translation",
        *("--amount", "90.5", "--period", "week", "--anchor", "3", "--timezone", "Europe/Prague"),
        *("--where", "operation=translate", "--policy", "postpone", "--status", "402", "--unheld", "refuse"),
        *("--threshold", "50", "--threshold", "80", "--property", "quantity"),
    )
    assert (full["used"], full["where"], full["thresholds"]) == ("60", {"operation": "translate"}, [50, 80])
    assert (full["policy"], full["status"], full["unheld"], full["anchor"]) == ("postpone", 402, "refuse", 3)
    assert put(where, "granted")["capacity"] == "0"
    given = run(where, "grants", "give", "granted", "more", "--amount", "70", "--from", "2020-01-01T00:00:00Z")
    assert "extension" in given
    listed = run(where, "limits", "list", "--account", "acme", "--format", "csv").splitlines()
    assert [line.split(",")[0] for line in listed] == ["id", "granted", "translation"]
    shown = json.loads(run(where, "limits", "show", "granted", "--format", "ndjson"))
    assert (shown["capacity"], shown["held"], shown["remaining"]) == ("70", "5", "5")
    assert "more" in run(where, "grants", "list", "granted")
    run(where, "grants", "take", "granted", "more")
    assert json.loads(run(where, "limits", "show", "granted", "--format", "json"))["capacity"] == "0"
    assert json.loads(run(where, "limits", "thresholds", "granted", "--format", "json")) == []
    for id in ("granted", "translation"):
        run(where, "limits", "delete", id)
    run(where, "limits", "show", "granted", code=2)
    run(where, "limits", "put", "x", "--account", "acme", "--meter", "audio", "--where", "operation", code=2)


def test_holds_are_listed_shown_and_released(where: list[str]) -> None:
    """An id with a slash in it is one id."""
    assert "job/1" in run(where, "holds", "list", "--account", "acme", "--state", "open")
    assert json.loads(run(where, "holds", "show", "job/1", "--format", "json"))["state"] == "open"
    freed = run(where, "holds", "release", "job/1", "--account", "acme", "--format", "json")
    assert json.loads(freed)["state"] == "released"
    assert json.loads(run(where, "holds", "list", "--account", "acme", "--state", "open", "--format", "json")) == []
    run(where, "holds", "show", "nothing", code=2)
