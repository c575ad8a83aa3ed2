"""The administration pages: accounts, keys, meters, rates, limits and grants, and who changed what."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tallystick.dashboard import rendering
from tallystick.dashboard.client import UNAUTHORIZED, Api, Refused, part
from tallystick.dashboard.session import Reader
from tallystick.dashboard.visit import Sent, Visit, redirect, url

ROWS = 50
SCOPES = ("ingest", "report", "limits", "admin")
DONE = {
    "put": "It is in force.",
    "delete": "It is gone.",
    "revoke": "The key is revoked: it opens nothing from now on.",
    "grant": "The grant is given.",
    "ungrant": "The grant is taken away.",
}
METER = """{
  "events": ["call.ended"],
  "quantity": "$.data.seconds",
  "unit": "s",
  "labels": {"plan": "$.data.plan"}
}"""
RATES = """{
  "rates": [{"type": "lens", "multiplier": "3", "from": "2026-01-01T00:00:00Z"}]
}"""


class Blank(dict[str, Any]):
    """What a form shows, where whatever is not there is empty."""

    def __missing__(self, key: str) -> str:
        return ""


class Unreadable(Exception):
    """What was typed is no document."""


@dataclass(frozen=True, slots=True)
class Change:
    """A request that a form stands for."""

    method: str
    path: str
    document: Any = None


@dataclass(frozen=True, slots=True)
class Noun:
    """What is administered on one page, and where it is listed."""

    name: str
    listing: str
    rows: str


NOUNS = {
    "accounts": Noun("Accounts", "/v1/accounts", "accounts"),
    "keys": Noun("Keys", "/v1/keys", "keys"),
    "meters": Noun("Meters", "/v1/meters", "meters"),
    "rates": Noun("Rates", "/v1/rates", "tables"),
    "limits": Noun("Limits and grants", "/v1/limits", "limits"),
    "audit": Noun("Audit", "/v1/audit", "audit"),
}


async def first(visit: Visit, api: Api, reader: Reader) -> Sent:
    """Lead to the first of the pages."""
    return redirect(url(f"/administration/{next(iter(NOUNS))}"))


async def show(visit: Visit, api: Api, reader: Reader) -> Sent | None:
    """Show a page of what there is, and the forms that change it."""
    return await _page(visit, api, reader, said=DONE.get(visit.value("done"), ""))


async def change(visit: Visit, api: Api, reader: Reader) -> Sent | None:
    """Do what a form asks for; a refusal is shown above the form, with what was typed still in it."""
    noun = visit.parts["noun"]
    make = CHANGES.get((noun, visit.field("do")))
    if make is None:
        return None
    try:
        wanted = make(visit)
        answer = await api.send(wanted.method, wanted.path, wanted.document)
    except Refused as refused:
        if refused.status == UNAUTHORIZED:
            raise
        return await _page(visit, api, reader, refused=refused)
    except Unreadable as unreadable:
        return await _page(visit, api, reader, refused=Refused(422, {"detail": str(unreadable)}))
    if noun == "keys" and visit.field("do") in ("make", "rotate"):
        return await _page(visit, api, reader, made=answer.document)
    return redirect(url(f"/administration/{noun}", [("done", visit.field("do"))]))


async def _page(
    visit: Visit,
    api: Api,
    reader: Reader,
    *,
    said: str = "",
    refused: Refused | None = None,
    made: Mapping[str, Any] | None = None,
) -> Sent | None:
    name = visit.parts["noun"]
    noun = NOUNS.get(name)
    if noun is None:
        return None
    query = [(key, value) for key in ("cursor", "account") if (value := visit.value(key))]
    page = (await api.get(noun.listing, [*query, ("limit", str(ROWS))])).document
    rows = page[noun.rows]
    following = [("cursor", page["next"]), *(pair for pair in query if pair[0] != "cursor")]
    return rendering.page(
        f"administration-{name}.html",
        visit,
        reader,
        status=refused.status if refused else 200,
        title=noun.name,
        noun=name,
        tabs=[(each.name, url(f"/administration/{key}"), key == name) for key, each in NOUNS.items()],
        rows=rows,
        next=url(f"/administration/{name}", following) if page["next"] else "",
        said=said,
        refused=refused,
        made=made,
        operates=reader.account is None,
        edited=Blank(await _edited(visit, api, name, refused)),
        blank=Blank(),
        here=url(f"/administration/{name}"),
        **await _more(api, reader, name, rows),
    )


async def _edited(visit: Visit, api: Api, name: str, refused: Refused | None) -> dict[str, Any]:
    """Return what the form shows: what was typed, else what is to be edited, else nothing."""
    if refused is not None:
        return {key: value for key, value in visit.form if key != "csrf"} | {"scopes": visit.fields("scopes")}
    if not (wanted := visit.value("edit")):
        return {}
    if name == "accounts":
        found = (await api.get(f"/v1/accounts/{part(wanted)}")).document
        return {**found, "members": " ".join(found.get("members", []))}
    if name in ("meters", "rates"):
        found = (await api.get(f"/v1/{name}/{part(wanted)}")).document
        hidden = {"meter", "name", "table", "version", "replay"}
        shown = {key: value for key, value in found.items() if key not in hidden}
        return {"name": wanted, "document": json.dumps(shown, indent=2, ensure_ascii=False)}
    if name == "limits":
        found = (await api.get(f"/v1/limits/{part(wanted)}")).document
        where = "\n".join(f"{label}={value}" for label, value in found["where"].items())
        thresholds = ", ".join(map(str, found["thresholds"]))
        return {**found, "where": where, "thresholds": thresholds}
    return {}


async def _more(api: Api, reader: Reader, name: str, rows: list[Any]) -> dict[str, Any]:
    """Return what only one of the pages needs."""
    match name:
        case "limits":
            grants = {
                row["id"]: await api.listed(f"/v1/limits/{part(row['id'])}/grants", "grants", rows_max=100)
                for row in rows
            }
            meters = [each["meter"] for each in await api.listed("/v1/usage/meters", "meters")]
            return {"grants": grants, "meters": meters}
        case "keys":
            return {"scopes": SCOPES}
        case "meters" | "rates":
            texts = [json.dumps(row, indent=2, ensure_ascii=False) for row in rows]
            return {"texts": texts, "example": METER if name == "meters" else RATES}
        case "audit":
            return {"texts": [_both(row) for row in rows]}
        case _:
            return {}


def _both(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        side: "" if row[side] is None else json.dumps(row[side], indent=2, ensure_ascii=False)
        for side in ("before", "after")
    }


# What forms stand for


def _account(visit: Visit) -> Change:
    members = visit.field("members").replace(",", " ").split()
    document: dict[str, Any] = {"kind": visit.field("kind"), "timezone": visit.field("timezone").strip() or "UTC"}
    if members:
        document["members"] = members
    return Change("PUT", f"/v1/accounts/{_name(visit, 'account')}", document)


def _key(visit: Visit) -> Change:
    expires = visit.field("expires").strip()
    document = {
        "account": visit.field("account").strip() or None,
        "scopes": visit.fields("scopes"),
        "expires_at": f"{expires}T00:00:00Z" if expires else None,
    }
    return Change("POST", "/v1/keys", document)


def _document(visit: Visit, path: str) -> Change:
    # As it was typed: a number that went through a float would come out as another.
    return Change("PUT", f"{path}/{_name(visit, 'name')}", visit.field("document").encode())


def _limit(visit: Visit) -> Change:
    where = {}
    for line in visit.field("where").splitlines():
        if line.strip():
            label, found, value = line.partition("=")
            if not found:
                raise Unreadable("Write each condition as label=value, one a line.")
            where[label.strip()] = value.strip()
    texts = ("account", "meter", "property", "period", "policy", "unheld")
    document = {name: visit.field(name).strip() for name in texts}
    anchor = visit.field("anchor").strip()
    return Change(
        "PUT",
        f"/v1/limits/{_name(visit, 'id')}",
        {
            **document,
            "timezone": visit.field("timezone").strip() or "UTC",
            "amount": visit.field("amount").strip() or None,
            "status": _whole(visit.field("status"), "status"),
            "anchor": _whole(anchor, "the day on which the period begins") if anchor else None,
            "thresholds": [_whole(text, "a threshold") for text in visit.field("thresholds").replace(",", " ").split()],
            "where": where,
        },
    )


def _whole(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Unreadable(f"Write {what} as a whole number.")
    return int(text)


def _grant(visit: Visit) -> Change:
    until = visit.field("until").strip()
    document = {
        "id": visit.field("grant").strip(),
        "amount": visit.field("amount").strip(),
        "kind": visit.field("kind"),
        "from": f"{visit.field('from').strip()}T00:00:00Z",
        "until": f"{until}T00:00:00Z" if until else None,
    }
    return Change("POST", f"/v1/limits/{_name(visit, 'id')}/grants", document)


def _name(visit: Visit, field: str) -> str:
    """Return a field as a part of a path; an empty one would be another path."""
    name = visit.field(field).strip()
    if not name:
        raise Unreadable(f"Fill in {field}.")
    return part(name)


def _delete(path: str, field: str) -> Callable[[Visit], Change]:
    return lambda visit: Change("DELETE", f"{path}/{_name(visit, field)}")


CHANGES: Mapping[tuple[str, str], Callable[[Visit], Change]] = {
    ("accounts", "put"): _account,
    ("accounts", "delete"): _delete("/v1/accounts", "account"),
    ("keys", "make"): _key,
    ("keys", "rotate"): lambda visit: Change("POST", f"/v1/keys/{_name(visit, 'id')}/rotate", {}),
    ("keys", "revoke"): _delete("/v1/keys", "id"),
    ("meters", "put"): lambda visit: _document(visit, "/v1/meters"),
    ("meters", "delete"): _delete("/v1/meters", "name"),
    ("rates", "put"): lambda visit: _document(visit, "/v1/rates"),
    ("limits", "put"): _limit,
    ("limits", "delete"): _delete("/v1/limits", "id"),
    ("limits", "grant"): _grant,
    ("limits", "ungrant"): lambda visit: Change(
        "DELETE", f"/v1/limits/{_name(visit, 'id')}/grants/{_name(visit, 'grant')}"
    ),
}
"""By page and by what a form's field `do` says."""
