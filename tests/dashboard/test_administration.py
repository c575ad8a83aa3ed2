"""The administration pages: each form does what the API does, refusals are said, and a key is shown once."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tallystick.model import Scope
from tests.api.client import Answer, World
from tests.dashboard.conftest import Visit
from tests.dashboard.made import CANARY, KEYS
from tests.dashboard.person import Person, Play, csrf_in
from tests.server import Server

PAGE = "/dashboard/administration"
NOUNS = ("accounts", "keys", "meters", "rates", "limits", "audit")
LIMIT = {
    "id": "monthly",
    "account": "acme",
    "meter": "audio",
    "property": "quantity",
    "amount": "36000.5",
    "period": "month",
    "timezone": "Europe/Prague",
    "policy": "reject",
    "status": "402",
    "unheld": "refuse",
    "anchor": "15",
    "thresholds": "50, 80",
    "where": "language=en\nmodel=",
}


async def send(person: Person, noun: str, do: str, **fields: str) -> Answer:
    """Send a form of a page."""
    page = await person.get(f"{PAGE}/{noun}")
    return await person.post(f"{PAGE}/{noun}", csrf=csrf_in(page), do=do, **fields)


def test_accounts_are_made_changed_and_deleted(played: Play) -> None:
    """What the form says is what the API shows; what the API refuses is said, and typed text stays."""

    async def scenario(world: World, person: Person) -> None:
        await person.sign_in()
        fields = {"account": "acme", "kind": "org", "timezone": "Europe/Prague", "members": "ada, grace"}
        assert (await send(person, "accounts", "put", **fields)).status == 303
        shown = await world.ask("GET", "/v1/accounts/acme")
        assert shown.json == {
            "account": "acme",
            "kind": "org",
            "timezone": "Europe/Prague",
            "members": ["ada", "grace"],
        }
        edited = (await person.get(f"{PAGE}/accounts?edit=acme")).body.decode()
        assert 'value="ada grace"' in edited
        refused = await send(person, "accounts", "put", **{**fields, "timezone": "Mars<b>"})
        assert refused.status == 422
        assert b"timezone must be an IANA zone" in refused.body
        assert b"Mars&lt;b&gt;" in refused.body
        assert (await send(person, "accounts", "delete", account="acme")).status == 303
        assert (await world.ask("GET", "/v1/accounts/acme")).status == 404

    played(scenario)


def test_a_new_key_is_shown_once(played: Play) -> None:
    """On the page that made it, and never again; rotating makes another, revoking ends it."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await person.sign_in()
        made = await send(person, "keys", "make", account="acme", scopes="report", expires="2027-01-01")
        found = re.search(r"tly_acct_[0-9A-Za-z]{38}", made.body.decode())
        assert found is not None
        assert made.headers["cache-control"] == "no-store"
        own = (await world.ask("GET", "/v1/key", key=found[0])).json
        assert (own["account"], own["scopes"], own["expires_at"]) == ("acme", ["report"], "2027-01-01T00:00:00Z")
        assert found[0].encode() not in (await person.get(f"{PAGE}/keys")).body
        rotated = await send(person, "keys", "rotate", id=own["id"])
        successor = re.search(r"tly_acct_[0-9A-Za-z]{38}", rotated.body.decode())
        assert successor is not None
        assert successor[0] != found[0]
        assert (await send(person, "keys", "revoke", id=own["id"])).status == 303
        assert (await world.ask("GET", "/v1/key", key=found[0])).status == 401
        assert (await world.ask("GET", "/v1/key", key=successor[0])).status == 200

    played(scenario)


def test_meters_and_rates_are_what_was_typed(played: Play) -> None:
    """Documents reach the API digit by digit, and come back to be edited."""

    async def scenario(world: World, person: Person) -> None:
        await person.sign_in()
        rates = '{"rates": [{"type": "a", "multiplier": 0.100000}, {"type": "b", "multiplier": "999999.999999"}]}'
        assert (await send(person, "rates", "put", name="prices", document=rates)).status == 303
        shown = (await world.ask("GET", "/v1/rates/prices")).json["rates"]
        assert [each["multiplier"] for each in shown] == ["0.1", "999999.999999"]
        meter = '{"events": ["call.ended"], "quantity": "$.data.seconds", "labels": {"plan": "$.data.plan"}}'
        assert (await send(person, "meters", "put", name="calls", document=meter)).status == 303
        assert (await world.ask("GET", "/v1/meters/calls")).json["events"] == ["call.ended"]
        edited = await person.get(f"{PAGE}/meters?edit=calls")
        assert b"call.ended" in edited.body
        for document in ("{", "[]", '{"events": "x"}'):
            refused = await send(person, "meters", "put", name="calls", document=document)
            assert 400 <= refused.status < 500
            assert b'role="alert"' in refused.body
        assert (await send(person, "meters", "delete", name="calls")).status == 303
        assert (await world.ask("GET", "/v1/meters/calls")).status == 404

    played(scenario)


def test_a_limit_is_kept_whole_when_it_is_changed(played: Play) -> None:
    """Every member of a limit has its field, so that sending the form again changes nothing; grants come and go."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await person.sign_in()
        assert (await send(person, "limits", "put", **LIMIT)).status == 303
        first = (await world.ask("GET", "/v1/limits/monthly")).json
        assert first["where"] == {"language": "en", "model": ""}
        assert (first["anchor"], first["thresholds"], first["amount"]) == (15, [50, 80], "36000.5")
        edited = (await person.get(f"{PAGE}/limits?edit=monthly")).body.decode()
        form = edited[edited.index('name="do" value="put"') : edited.index("Give a grant")]
        again = dict(re.findall(r'<input id="\w+" name="(\w+)"[^>]*? value="([^"]*)"', form))
        again |= {"where": re.search(r"<textarea[^>]*>([^<]*)", form)[1]}  # type: ignore[index] # it is in the form
        for select in re.findall(r'<select id="\w+" name="(\w+)">(.*?)</select>', form):
            chosen = re.search(r'<option(?: value="(\w+)")? selected>(\w+)', select[1])
            assert chosen is not None, select[0]
            again[select[0]] = chosen[1] or chosen[2]
        assert (await send(person, "limits", "put", **again)).status == 303
        assert (await world.ask("GET", "/v1/limits/monthly")).json == first
        grant = {
            "id": "monthly",
            "grant": "more",
            "amount": "100",
            "kind": "extension",
            "from": "2026-01-01",
            "until": "",
        }
        assert (await send(person, "limits", "grant", **grant)).status == 303
        assert (await world.ask("GET", "/v1/limits/monthly")).json["capacity"] == "36100.5"
        assert (await send(person, "limits", "ungrant", id="monthly", grant="more")).status == 303
        assert (await world.ask("GET", "/v1/limits/monthly")).json["capacity"] == "36000.5"
        refused = await send(person, "limits", "put", **{**LIMIT, "where": "language"})
        assert b"label=value" in refused.body
        assert (await send(person, "limits", "delete", id="monthly")).status == 303
        assert (await world.ask("GET", "/v1/limits/monthly")).status == 404

    played(scenario)


def test_a_form_that_is_not_of_the_session_changes_nothing(played: Play) -> None:
    """Without the token, or with another session's, every form is refused before the API is asked."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await person.sign_in()
        other = Person(world)
        await other.sign_in()
        foreign = csrf_in(await other.get(f"{PAGE}/accounts"))
        for token in ("", "guess", foreign):
            answer = await person.post(f"{PAGE}/accounts", csrf=token, do="put", account="evil", kind="org")
            assert answer.status == 403
        stranger = Person(world)
        assert (await stranger.post(f"{PAGE}/accounts", csrf=foreign, do="put", account="evil")).status == 303
        assert (await world.ask("GET", "/v1/accounts/evil")).status == 404
        unknown = await send(person, "accounts", "explode")
        assert unknown.status == 404

    played(scenario)


def test_an_account_administers_itself_only(played: Play) -> None:
    """Its keys and members, and no meters, limits or other accounts; nothing of another is on any page."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await world.account("victim", members=(f"{CANARY}-member",))
        await world.key("narrow", "acme", Scope.ADMIN)
        await person.sign_in(world.keys["acme"])
        for noun in NOUNS:
            page = await person.get(f"{PAGE}/{noun}")
            assert page.status == 200, noun
            assert b"victim" not in page.body
            assert CANARY.encode() not in page.body
        refused = [
            await send(person, "accounts", "put", account="victim", kind="org"),
            await send(person, "keys", "make", account="victim", scopes="report"),
            await send(person, "keys", "revoke", id="key-victim"),
            await send(person, "limits", "put", **{**LIMIT, "account": "victim"}),
            await send(person, "meters", "put", name="mine", document='{"events": ["x"]}'),
        ]
        assert [answer.status for answer in refused] == [404, 403, 404, 404, 403]
        assert (await send(person, "accounts", "put", account="acme", kind="org", members="ada")).status == 303

    played(scenario)


def test_keys_are_managed_in_the_browser(visit: Visit, server: Server) -> None:
    """Make one, copy it, revoke it; what is for good takes two clicks."""
    visitor = visit()
    visitor.sign_in()
    page = visitor.open(f"{PAGE}/keys")
    page.locator("#account").fill("acme")
    page.get_by_role("button", name="Make it").click()
    key = page.locator("#new-key").inner_text().strip()
    server.disconnect()
    id = server.ask("GET", "/v1/key", key=key).json["id"]
    page.get_by_role("button", name="Copy").click()
    page = visitor.open(f"{PAGE}/keys")
    row = page.get_by_role("row", name=id)
    row.locator("summary", has_text="Revoke").click()
    row.get_by_role("button", name="Revoke for good").click()
    expect(page.get_by_role("status")).to_contain_text("revoked")
    assert server.ask("GET", "/v1/key", key=key).status == 401
    visitor.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_administration(visit: Visit, server: Server, scheme: str) -> None:
    """WCAG 2.2 AA on every page, for the operator on a desk and for a customer on a phone."""
    for width, key in ((1280, None), (320, KEYS["acme"])):
        visitor = visit(color_scheme=scheme, width=width)
        visitor.sign_in(*([key] if key else []))
        for noun in NOUNS:
            page = visitor.open(f"{PAGE}/{noun}")
            for summary in page.locator("main summary").all()[:3]:
                summary.click()
            assert visitor.flaws() == [], noun
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), noun
        visitor.check()
