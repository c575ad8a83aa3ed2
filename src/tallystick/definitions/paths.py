"""Paths into an event: plain ones, and JMESPath expressions of which everything is checked that can be beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jmespath
from jmespath.exceptions import ArityError, EmptyExpressionError, JMESPathError, LexerError, ParseError
from jmespath.functions import Functions

from tallystick.metering import names_of

PATH_LENGTH_MAX = 1024
_FUNCTIONS = Functions.FUNCTION_TABLE


def flaw_of(path: str) -> str | None:
    """Say what is wrong with a path; None if it leads somewhere, in some event."""
    if names_of(path) is not None:
        return None
    start = 2 if path.startswith("$.") else 0
    try:
        parsed = jmespath.compile(path[start:]).parsed
    except JMESPathError as error:
        return _parse_flaw(error, start)
    return next(_flaws(parsed), None)


def _parse_flaw(error: JMESPathError, start: int) -> str:
    rule = "a path is plain ($.data.duration) or a JMESPath expression"
    match error:
        case LexerError():
            return f"at character {error.lexer_position + start + 1}: {error.message}; {rule}"
        case ArityError() | EmptyExpressionError():
            return f"{error}; {rule}"
        case ParseError():
            token = f"unexpected {error.token_value!r}" if error.token_value else "it ends too soon"
            return f"at character {error.lex_position + start + 1}: {token}; {rule}"
        case _:
            return f"it is no JMESPath expression; {rule}"


def _flaws(node: Any) -> Iterator[str]:
    """Yield what an expression that can be read can never do."""
    if node["type"] == "literal" and _has_float(node["value"]):
        yield "a literal number with a fraction would not be compared exactly: compare with whole numbers or text"
    if node["type"] == "function_expression":
        yield from _call_flaws(node["value"], len(node["children"]))
    for child in node["children"]:
        if isinstance(child, dict):
            yield from _flaws(child)


def _call_flaws(name: str, given: int) -> Iterator[str]:
    if name not in _FUNCTIONS:
        yield f"there is no function {name}(); there are {', '.join(sorted(_FUNCTIONS))}"
        return
    signature = _FUNCTIONS[name]["signature"]
    is_variadic = bool(signature) and signature[-1].get("variadic", False)
    if given < len(signature) or (given > len(signature) and not is_variadic):
        yield f"{name}() takes {len(signature)} arguments, not {given}"


def _has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return any(map(_has_float, value)) if isinstance(value, list) else isinstance(value, float)
