"""Small JSON bodies of the administrative calls: read into a type, every flaw with its pointer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from tallystick import envelope
from tallystick.api import http
from tallystick.envelope import pointer_to
from tallystick.errors import Code, Flaw, Problem
from tallystick.query import Reply

DOCUMENT_BYTES_MAX = 256 * 1024

T = TypeVar("T")

_AT = re.compile(r" - at `(?:key in )?\$(.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


async def read(call: http.Call, kind: type[T], *, absent: T | None = None) -> T:
    """Read the body as a JSON document of this type; `absent` is what no body at all stands for."""
    if absent is not None and not http.announces_body(call.headers):
        return absent
    _refuse_media_type(call)
    async with http.body_of(call, DOCUMENT_BYTES_MAX) as body:
        return absent if absent is not None and not body else _decode(body, kind)


async def read_object(call: http.Call) -> dict[str, Any]:
    """Read the body as any JSON object, with numbers as int or Decimal."""
    _refuse_media_type(call)
    async with http.body_of(call, DOCUMENT_BYTES_MAX) as body:
        try:
            return envelope.read(body)
        except envelope.Unreadable as error:
            if error.code is Code.NOT_OBJECT:
                raise refuse(Code.FIELD_TYPE, "", "Send a JSON object.") from None
            detail = error.detail.replace("An event must be JSON", "it is not JSON")
            raise Problem(Code.BODY_UNDECODABLE, f"The body must be one JSON object in UTF-8: {detail}") from None


def _refuse_media_type(call: http.Call) -> None:
    media_type = call.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(
            Code.MEDIA_TYPE_UNKNOWN, "The body must be application/json.", headers={"Accept": "application/json"}
        )


def reply(document: Any, status: int = 200, **headers: str) -> Reply:
    """Write a JSON document."""
    return Reply(status, msgspec.json.encode(document), headers=headers)


def refuse(code: Code, pointer: str, detail: str) -> Problem:
    """Make the problem for one member of a document."""
    return Problem(code, detail, (Flaw(pointer, detail),))


def require_name(member: str, said: str | None, name: str) -> None:
    """Refuse a document that names something else than its path does: what a GET shows may be sent back."""
    if said not in (None, name):
        raise refuse(Code.FIELD_VALUE, f"/{member}", f"{member} must be {name}, as in the path, or left out.")


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _flawed(body, kind, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _undecodable() from None


def _undecodable() -> Problem:
    return Problem(Code.BODY_UNDECODABLE, "The body must be one JSON object in UTF-8.")


def _flawed(body: bytes, kind: Any, message: str) -> Problem:
    """Name every member of a document that is missing, of a wrong form or not known; `message` is of the decoder."""
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return refuse(*_flaw(message, kind, ()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _undecodable()
    # Of repeated names the decoder may have refused one that is not the last.
    found = list(_flaws(members, kind)) or [_flaw(message, kind, ())]
    code, _, detail = found[0]
    return Problem(code, detail, tuple(Flaw(pointer, each) for _, pointer, each in found))


def _flaws(members: Mapping[str, msgspec.Raw], kind: Any) -> Iterator[tuple[Code, str, str]]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, field in fields.items():
        if name not in members:
            if field.required:
                choices = ", ".join(_choices(msgspec.inspect.type_info(field.type), ()))
                detail = f"{name} is required: one of {choices}." if choices else f"{name} is required."
                yield Code.FIELD_MISSING, pointer_to(name), detail
            continue
        try:
            msgspec.json.decode(members[name], type=field.type)
        except msgspec.ValidationError as error:
            yield _flaw(str(error), field.type, (name,))
    for name in members:
        if name not in fields:
            detail = f"There is no such member; there are {', '.join(fields)}."
            yield Code.FIELD_VALUE, pointer_to(name), detail


def _flaw(message: str, kind: Any, path: tuple[str, ...]) -> tuple[Code, str, str]:
    """Read the decoder's sentence, which names types and places but never quotes documents."""
    where = _AT.search(message)
    steps = [name or place for name, place in _STEP.findall(where[1])] if where else []
    # The decoder does not say under which name of a map it was: the map itself has to do.
    pointer = pointer_to(*path, *(step for step in steps if step != "..."))
    detail = message[: where.start()] if where else message
    if detail.startswith("Invalid enum value"):
        member = next((step for step in reversed((*path, *steps)) if step.isidentifier()), "This")
        detail = f"{member} must be one of {', '.join(_choices(msgspec.inspect.type_info(kind), steps))}"
    code = Code.FIELD_TYPE if detail.startswith("Expected") else Code.FIELD_VALUE
    return code, pointer, f"{detail}."


def _choices(found: msgspec.inspect.Type, steps: Sequence[str]) -> Iterator[str]:
    """Yield what may be where these steps lead to from a type."""
    match found:
        case msgspec.inspect.EnumType():
            yield from (str(choice.value) for choice in found.cls)
        case msgspec.inspect.Metadata():
            yield from _choices(found.type, steps)
        case msgspec.inspect.UnionType():
            for each in found.types:
                yield from _choices(each, steps)
        case msgspec.inspect.ListType():
            yield from _choices(found.item_type, steps[1:])
        case msgspec.inspect.DictType():
            yield from _choices(found.value_type, steps[1:])
