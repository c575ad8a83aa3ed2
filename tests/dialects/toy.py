"""A sixth vendor, whole: seconds of audio by language, in a shape of its own. Only tests know it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TypedDict

import msgspec
import numpy as np

from tallystick import windows
from tallystick.dialect import Dialect, Report
from tallystick.errors import Code, Problem
from tallystick.model import UsageQuery
from tallystick.query import Answers, Questions, Reply, Request, decimal_text


class Spoken(TypedDict):
    """Seconds by language."""

    spoken: dict[str, str]


class Refusal(TypedDict):
    """What went wrong."""

    oops: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask."""

    questions: Questions


STATUS = {
    Code.PARAMETER_INVALID: HTTPStatus.BAD_REQUEST,
    Code.KEY_MISSING: HTTPStatus.UNAUTHORIZED,
    Code.KEY_INVALID: HTTPStatus.UNAUTHORIZED,
    Code.SCOPE_MISSING: HTTPStatus.FORBIDDEN,
    Code.ACCOUNT_FORBIDDEN: HTTPStatus.FORBIDDEN,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
}


def parse(request: Request) -> Plan:
    """Ask for all time by language."""
    ever = np.array([windows.INSTANT_MIN, windows.INSTANT_MAX], np.int64)
    return Plan(Questions((UsageQuery("audio", request.accounts, ever, ("language",)),)))


def render(request: Request, plan: Plan, answers: Answers) -> Reply:
    """Write the vendor's reply."""
    scale = request.scale_of("audio")
    rows = answers.usage[0].rows
    document: Spoken = {"spoken": {row.labels[0] or "?": decimal_text(row.total.sum, scale) for row in rows}}
    return Reply(200, msgspec.json.encode(document))


def problem(problem: Problem) -> Reply:
    """Write a problem in the vendor's shape."""
    document: Refusal = {"oops": problem.detail}
    return Reply(STATUS.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR).value, msgspec.json.encode(document))


DIALECT = Dialect(
    "toy",
    paths=("/toy",),
    problem=problem,
    statuses=STATUS,
    refusal=Refusal,
    reports=(Report("/toy/spoken", "Report seconds by language, as nobody does.", parse, render, Spoken),),
)
