"""Signing in and out: what the cookie is, what ends it, and what a page tells whoever is not signed in."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from tallystick import asgi
from tallystick.dashboard import session
from tallystick.dashboard.pages import PAGES
from tallystick.model import Scope
from tests.api.client import HOUR, OPERATOR, World, run
from tests.dashboard.person import Person, Play, csrf_in

CLOSED = [page for page in PAGES if page.open is None]
TARGETS = [re.sub(r"\{.+?\}", "1", page.path) for page in CLOSED if page.method == "GET"]


def test_whoever_is_not_signed_in_is_asked_to_and_comes_back(played: Play) -> None:
    """Every page leads to the form, and the form to the page that was wanted, with all of its address."""

    async def scenario(world: World, person: Person) -> None:
        assert (await person.get("/")).headers["location"] == "/dashboard/usage"
        for target in TARGETS:
            answer = await person.get(f"{target}?meter=audio&filter[model]=a%26b")
            assert answer.status == 303, target
            assert answer.body == b""
            asked = urlsplit(answer.headers["location"])
            assert asked.path == "/dashboard/sign-in"
            (wanted,) = parse_qs(asked.query)["next"]
            assert wanted == f"{target}?meter=audio&filter[model]=a%26b"
        signed = await person.sign_in(target="/dashboard/usage?meter=audio&filter[model]=a%26b")
        assert (signed.status, signed.headers["location"]) == (303, "/dashboard/usage?meter=audio&filter[model]=a%26b")
        assert (await person.get(signed.headers["location"])).status == 200

    played(scenario)


def test_the_cookie_is_not_the_key_and_opens_nothing_else(played: Play) -> None:
    """It is HttpOnly, SameSite=Strict, sent to the pages only, Secure over TLS; the API does not know it."""

    async def scenario(world: World, person: Person) -> None:
        await person.sign_in()
        made = person.set[-1]
        assert made.startswith(f"{session.COOKIE}=")
        assert made.endswith("; Path=/dashboard; HttpOnly; SameSite=Strict")
        value = person.cookies[session.COOKIE]
        assert len(value) == 43
        assert value not in OPERATOR
        assert all(value not in str(each) for each in world.app.page_sessions.items())
        api = await world.ask("GET", "/v1/usage?meter=audio", key=None, headers={"Cookie": f"{session.COOKIE}={value}"})
        assert api.status == 401
        assert (await world.ask("GET", "/v1/usage?meter=audio", key=value)).status == 401
        page = await person.get("/dashboard/usage")
        assert OPERATOR.encode() not in page.body
        behind = await person.get("/dashboard/sign-in", **{"X-Forwarded-Proto": "https"})
        assert behind.headers["set-cookie"].endswith("; Secure")

    played(scenario)


def test_cookies_of_others_do_no_harm(played: Play) -> None:
    """Whatever another service on the same host has set, however it is written, the session is found."""

    async def scenario(world: World, person: Person) -> None:
        await person.sign_in()
        mine = f"{session.COOKIE}={person.cookies[session.COOKIE]}"
        for others in ('a={"b": [1]}', "x", "=", 'q="un;closed', "bad name=é", ""):
            person.cookies = {}
            answer = await person.get("/dashboard/usage", Cookie=f"{others}; {mine}")
            assert answer.status == 200, others

    played(scenario)


def test_what_is_no_key_opens_no_session(played: Play) -> None:
    """A wrong key, none, and a form from elsewhere are told what is wrong, and the key is not repeated."""

    async def scenario(world: World, person: Person) -> None:
        for key, status, said in (
            ("tly_acct_" + "x" * 38, 401, "mistyped"),
            ("secret-guess", 401, "unknown, revoked or expired"),
            ("", 422, "Paste a key"),
            ("ключ", 422, "visible ASCII"),
        ):
            answer = await person.sign_in(key)
            assert answer.status == status
            assert said in answer.body.decode()
            assert not key or key.encode() not in answer.body
        forged = await person.post("/dashboard/sign-in", csrf="guess", key=OPERATOR, next="")
        assert forged.status == 403
        assert world.app.page_sessions == {}

    played(scenario)


def test_one_is_sent_on_to_pages_of_ours_only(played: Play) -> None:
    """No address of elsewhere gets through the form."""

    async def scenario(world: World, person: Person) -> None:
        elsewhere = (
            "//example.org/",
            "https://example.org/",
            "/v1/usage",
            "/dashboard//example.org",
            "\\\\example.org",
        )
        for target in elsewhere:
            assert (await person.sign_in(target=target)).headers["location"] == "/dashboard/usage"

    played(scenario)


def test_a_revoked_key_ends_its_sessions_at_once(played: Play) -> None:
    """The next request of every browser that used it leads to the form, and says why."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        other = Person(world)
        for each in (person, other):
            await each.sign_in(world.keys["acme"])
            assert (await each.get("/dashboard/usage")).status == 200
        await world.ledger.delete_key("key-acme", actor="test")
        for each in (person, other):
            answer = await each.get("/dashboard/usage")
            assert answer.status == 303
            assert "ended=1" in answer.headers["location"]
            assert session.COOKIE not in each.cookies
        assert world.app.page_sessions == {}
        assert b"revoked or has expired" in (await person.get("/dashboard/sign-in?ended=1")).body

    played(scenario)


def test_a_session_ends_with_its_time_and_by_signing_out(played: Play) -> None:
    """After `dashboard_session_s` one is asked again; after signing out, the old cookie opens nothing."""

    async def scenario(world: World, person: Person) -> None:
        await person.sign_in()
        world.now += 12 * HOUR - 1
        page = await person.get("/dashboard/usage")
        assert page.status == 200
        kept = dict(person.cookies)
        assert (await person.post("/dashboard/sign-out", csrf="guess")).headers["location"] == "/dashboard/usage"
        assert (await person.get("/dashboard/usage")).status == 200
        await person.post("/dashboard/sign-out", csrf=csrf_in(page))
        person.cookies = kept
        assert (await person.get("/dashboard/usage")).status == 303
        await person.sign_in()
        world.now += 12 * HOUR
        assert (await person.get("/dashboard/usage")).status == 303

    played(scenario)


def test_a_key_has_so_many_sessions_and_no_more(played: Play) -> None:
    """The oldest of the same key gives way; those of other keys stay."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await person.sign_in(world.keys["acme"])
        people = [Person(world) for _ in range(session.SESSIONS_PER_KEY_MAX + 1)]
        for each in people:
            await each.sign_in()
        shown = [(await each.get("/dashboard/usage")).status for each in (person, *people)]
        assert shown == [200, 303] + [200] * session.SESSIONS_PER_KEY_MAX

    played(scenario)


def test_every_page_keeps_to_itself(played: Play) -> None:
    """Pages, assets, redirections and errors have the policy; what is private is stored nowhere."""

    async def scenario(world: World, person: Person) -> None:
        await person.sign_in()
        others = ("/", "/dashboard/sign-in", "/dashboard/static/chart.js", "/dashboard/usage?tz=Mars", "/dashboard/%ff")
        for target in (*TARGETS, *others):
            answer = await person.get(target)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'self'; ")
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            if answer.status == 200 and "static" not in target:
                assert answer.headers["cache-control"] == "no-store"
        refused = await person.get("/dashboard/sign-out")
        assert refused.status == 405
        assert refused.headers["content-type"].startswith("text/html")
        assert (await person.get("/dashboard/nowhere")).status == 404
        assert (await person.get("/dashboard/static/../visit.py")).status == 404
        assert (await person.get("/dashboard/static/vendor/vendor.toml")).status == 404

    played(scenario)


def test_a_key_without_the_scope_is_told_so(played: Play) -> None:
    """A page of what the key may not read says which scope it needs, and links to no such page."""

    async def scenario(world: World, person: Person) -> None:
        await world.account("acme")
        await world.key("hands", "acme", Scope.INGEST)
        await person.sign_in(world.keys["hands"])
        answer = await person.get("/dashboard/usage")
        assert answer.status == 403
        assert b"scope report" in answer.body
        assert b'<nav aria-label="Pages"' in answer.body
        assert b'href="/dashboard/usage" aria-current' not in answer.body

    played(scenario)


def test_the_dashboard_can_be_switched_off() -> None:
    """With `dashboard` off nothing answers at its paths, and the API is as it was."""

    async def scenario(world: World) -> None:
        seen: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b""}

        async def send(message: object) -> None:
            assert isinstance(message, dict)
            seen.append(message)

        for path in (b"/", b"/dashboard/usage", b"/livez"):
            scope: dict[str, object] = {
                "type": "http",
                "method": "GET",
                "raw_path": path,
                "query_string": b"",
                "headers": [],
            }
            await asgi.create(world.app)(scope, receive, send)
        assert [message["status"] for message in seen if "status" in message] == [404, 404, 200]

    run(scenario, dashboard=False)
