"""Pages of the reference, followed step by step: what they say to type is typed, what they show comes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.api.client import World, run
from tests.server import OPERATOR, serving
from tests.test_readme import steps

ROOT = Path(__file__).resolve().parent.parent
READING = (ROOT / "docs" / "reference" / "reading.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "reference" / "accounts-and-keys.md").read_text(encoding="utf-8")
NEW_EVERY_TIME = (
    (re.compile(r"key-[0-9A-Za-z]{12}"), "ID"),
    (re.compile(r'"tly_acct_[^"]+"'), '"TOKEN"'),
    (re.compile(r'"2[0-8]\d\d-[^"]+Z"'), '"SOON"'),
)


def settled(output: str) -> str:
    """Put a fixed word where two runs differ."""
    for pattern, word in NEW_EVERY_TIME:
        output = pattern.sub(word, output)
    return output.strip()


def test_whoever_follows_the_page_on_accounts_and_keys_sees_what_it_shows(tmp_path: Path) -> None:
    """Each command prints what stands below it; `$ID` is the key that was made last."""
    with serving(tmp_path) as server:
        variables = {**os.environ, "KEY": OPERATOR}
        for step in steps(PAGE):
            typed = step.typed.replace("http://127.0.0.1:8787", server.url)
            done = subprocess.run(
                ["bash", "-e", "-c", typed], env=variables, capture_output=True, text=True, timeout=60, check=True
            )
            assert settled(done.stdout) == settled(step.shown or ""), step.typed
            variables["ID"] = json.loads(done.stdout).get("id", "")


def test_an_output_of_that_page_that_differs_is_seen() -> None:
    """Only ids, tokens and instants of this run are left out of the comparison."""
    shown = steps(PAGE)[2].shown or ""
    assert settled(shown) == settled(shown.replace("k4Rw9LhTq2Jd", "k4Rw9LhTq2Je"))
    assert settled(shown) != settled(shown.replace("2999", "2998"))


OF_THIS_RUN = (
    (re.compile(r'("recorded_at":|"received_at":|"as_of":\{"sequence":\d+,"time":)"[^"]+"'), r'\1"NOW"'),
    (re.compile(r"^(\d+),[^,]+Z,", flags=re.MULTILINE), r"\1,NOW,"),
    (re.compile(r'"next":"[^"]+"'), '"next":"CURSOR"'),
)


def steady(output: str) -> str:
    """Put a fixed word for when things were recorded, and for cursors."""
    for pattern, word in OF_THIS_RUN:
        output = pattern.sub(word, output)
    return output.replace("\r\n", "\n").strip()


def test_whoever_follows_the_page_on_reading_sees_what_it_shows(tmp_path: Path) -> None:
    """Each command prints what stands below it."""
    with serving(tmp_path) as server:
        variables = {**os.environ, "KEY": OPERATOR}
        followed = steps(READING)
        for step in followed:
            typed = step.typed.replace("http://127.0.0.1:8787", server.url)
            done = subprocess.run(
                ["bash", "-e", "-c", typed], env=variables, capture_output=True, timeout=60, check=True
            )
            assert steady(done.stdout.decode()) == steady(step.shown or ""), step.typed
        assert len(followed) >= 7


def asked(typed: str) -> tuple[str, str, bytes, dict[str, str]]:
    """Read a curl command of the operator's: method, path, body and headers."""
    words = iter(shlex.split(typed)[2:])
    method, path, body, headers = "", "", b"", {}
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-d":
                body = next(words).encode()
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case _:
                path = word.removeprefix("http://127.0.0.1:8787")
    headers["Authorization"] = headers["Authorization"].replace("$KEY", OPERATOR)
    return method or ("POST" if body else "GET"), path, body, headers


REQUEST_ID = re.compile(r'"request_id":"[0-9a-f]{32}"')
OF_ONE_INSTANT = (
    "reference/limits.md",
    "reference/holds.md",
    "reference/dialect-phonexia.md",
    "reference/dialect-visii.md",
    "how-to/streaming-speech.md",
)


@pytest.mark.parametrize("page", OF_ONE_INSTANT)
def test_whoever_follows_a_page_of_one_instant_sees_what_it_shows(tmp_path: Path, page: str) -> None:
    """At the instant that the page names, each command is answered with what stands below it, to the byte."""
    followed = steps((ROOT / "docs" / page).read_text(encoding="utf-8"))

    async def scenario(world: World) -> None:
        for step in followed:
            method, path, body, headers = asked(step.typed)
            answer = await world.ask(method, path, body, key=None, headers=headers)
            told = REQUEST_ID.sub('"request_id":"ID"', answer.body.decode())
            assert told == (step.shown or "").strip(), step.typed
        assert len(followed) >= 3

    run(scenario, folder=tmp_path / "data")


@pytest.mark.parametrize("dialect", ["vblaze", "hiya"])
def test_whoever_follows_a_dialects_page_sees_what_it_shows(tmp_path: Path, dialect: str) -> None:
    """Each command prints what stands below it, to the byte."""
    followed = steps((ROOT / "docs" / "reference" / f"dialect-{dialect}.md").read_text(encoding="utf-8"))
    with serving(tmp_path) as server:
        for step in followed:
            typed = step.typed.replace("http://127.0.0.1:8787", server.url)
            done = subprocess.run(
                ["bash", "-e", "-c", typed],
                env={**os.environ, "KEY": OPERATOR},
                capture_output=True,
                timeout=60,
                check=True,
            )
            assert done.stdout.decode().strip() == (step.shown or "").strip(), step.typed
    assert len(followed) >= 3
