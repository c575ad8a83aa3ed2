"""A browser as the server sees it, without one: it keeps cookies and sends forms back, over either ledger."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from tests.api.client import OPERATOR, Answer, World

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Person:
    """A browser as the server sees it: it keeps cookies, and sends forms back."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cookies: dict[str, str] = {}
        self.set: list[str] = []

    async def get(self, target: str, **headers: str) -> Answer:
        """Ask for a page."""
        return await self._ask("GET", target, b"", headers)

    async def post(self, target: str, **fields: str) -> Answer:
        """Send a form."""
        return await self._ask("POST", target, urlencode(fields).encode(), FORM)

    async def sign_in(self, key: str = OPERATOR, target: str = "") -> Answer:
        """Sign in, the way the form does."""
        page = await self.get("/dashboard/sign-in")
        return await self.post("/dashboard/sign-in", csrf=csrf_in(page), key=key, next=target)

    async def _ask(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Answer:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**headers, **({"Cookie": cookie} if cookie else {})}
        answer = await self.world.ask(method, target, body, key=None, headers=sent)
        if made := answer.headers.get("set-cookie"):
            self.set.append(made)
            name, _, value = made.split(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in made:
                del self.cookies[name]
        return answer


def csrf_in(answer: Answer) -> str:
    """Return what a form on the page brings back."""
    found = re.search(r'name="csrf" value="([^"]+)"', answer.body.decode())
    assert found is not None
    return found[1]


Scenario = Callable[[World, Person], Awaitable[None]]
Play = Callable[[Scenario], None]
