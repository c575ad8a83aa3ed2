"""Small JSON bodies of the administrative calls: read into a type, every flaw with its pointer."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from tallystick import envelope
from tallystick.api import http
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
            detail = f"The body must be one JSON object in UTF-8: {error.detail}"
            raise Problem(Code.BODY_UNDECODABLE, detail) from None


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


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _flawed(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(Code.BODY_UNDECODABLE, "The body must be one JSON object in UTF-8.") from None


def _flawed(message: str) -> Problem:
    """Turn the decoder's sentence, which names types and members but never quotes values, into a problem."""
    where = _AT.search(message)
    pointer = _pointer(where[1]) if where else ""
    missing = re.search(r"missing required field `(.*?)`", message)
    detail = message[: where.start()] if where else message
    if missing:
        return refuse(Code.FIELD_MISSING, f"{pointer}/{missing[1]}", f"{missing[1]} is required.")
    code = Code.FIELD_TYPE if detail.startswith("Expected") else Code.FIELD_VALUE
    return refuse(code, pointer, f"{detail}.")


def _pointer(path: str) -> str:
    return "".join("/" + (name or index) for name, index in _STEP.findall(path))
