"""A sixth vendor is one module, one name in a list, one folder of golden files and one page of docs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tallystick import dialects
from tallystick.api import openapi, reports
from tallystick.api.routing import Routing
from tallystick.asgi import ROUTES
from tallystick.dialects import DIALECTS, NAMES
from tests.api.client import World, audio, run
from tests.dialects import toy
from tests.golden.story import stories, tell

ROOT = Path(__file__).resolve().parent.parent.parent
SIX = (*DIALECTS, toy.DIALECT)
ALL_ROUTES = (*ROUTES, *reports.routes_of((toy.DIALECT,)))
STORY = {
    "now": "2026-11-01T12:00:00Z",
    "accounts": {"acme": "org"},
    "key": "acme",
    "events": [{"times": 3, "seconds": "10", "event": {**audio("", "acme"), "id": None}}],
    "asked": [{"path": "/toy/spoken", "reply": {"spoken": {"en": "10"}}}],
}


@pytest.fixture
def six(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application with six dialects; nothing but the list of them is other than usual."""
    routing = Routing(ALL_ROUTES, SIX)
    monkeypatch.setattr("tests.api.client.ROUTING", routing)


@pytest.mark.usefixtures("six")
def test_a_module_and_its_name_make_a_report(tmp_path: Path) -> None:
    """Its golden folder is told like the others': routed, authenticated, and written as the module says."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "page.json").write_text(json.dumps(STORY))
    (story,) = stories(tmp_path)

    async def scenario(world: World) -> None:
        await tell(world, story)

    run(scenario)


@pytest.mark.usefixtures("six")
def test_its_errors_have_its_shape_and_the_others_theirs() -> None:
    """Keys, scopes, accounts, methods and paths are seen to without a word of the module's."""

    async def scenario(world: World) -> None:
        await world.account("acme")
        for method, path, key, status in (
            ("GET", "/toy/spoken", None, 401),
            ("GET", "/toy/spoken", "nobody's", 401),
            ("GET", "/toy/spoken?account=globex", "acme", 403),
            ("GET", "/toy/spoken", "operator", 400),
            ("POST", "/toy/spoken", "acme", 405),
            ("GET", "/toy/none", "acme", 404),
            ("GET", "/toy", "acme", 404),
        ):
            answer = await world.ask(method, path, key=key)
            assert (answer.status, list(answer.json)) == (status, ["oops"]), path
            assert ("www-authenticate" in answer.headers) == (status == 401)
        assert (await world.ask("HEAD", "/toy/spoken", key="acme")).status == 200
        assert list((await world.ask("GET", "/usage", key=None)).json) == ["error"]
        assert (await world.ask("GET", "/toys")).json["code"] == "not_found"

    run(scenario)


def test_it_is_described() -> None:
    """/openapi.json has its path, its reply and its errors, from the same declaration."""
    operation = openapi.document(ALL_ROUTES)["paths"]["/toy/spoken"]["get"]
    assert operation["summary"] == "Report seconds by language, as nobody does."
    assert [parameter["name"] for parameter in operation["parameters"]] == ["account"]
    assert set(operation["responses"]) == {"200", "400", "401", "403", "500"}


def test_without_its_name_it_is_not_there() -> None:
    """What is not registered answers nothing: the tests above would notice."""

    async def scenario(world: World) -> None:
        answer = await world.ask("GET", "/toy/spoken", key="operator")
        assert (answer.status, answer.json["code"]) == (404, "not_found")

    run(scenario)


def test_every_dialect_is_one_module_one_folder_and_one_page() -> None:
    """The list, the modules, the golden folders and the pages name the same vendors; `native` is nobody's."""
    folder = Path(dialects.__file__).parent
    modules = {path.stem for path in folder.iterdir() if not path.name.startswith("_")}
    pages = {path.stem.removeprefix("dialect-") for path in (ROOT / "docs" / "reference").glob("dialect-*.md")}
    golden = {path.parent.name for path in (ROOT / "tests" / "golden").glob("*/*.json")}
    assert modules - {"native"} == pages == golden == set(NAMES)
    assert tuple(dialect.name for dialect in DIALECTS) == NAMES
