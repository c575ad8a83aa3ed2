"""`migrate`: the tables of a ledger in PostgreSQL, made apart from serving."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.cli.test_root import tallystick_command


def told(url: str) -> dict[str, str]:
    """Return what the database says of its ledger."""
    with psycopg.connect(url) as db:
        return {str(name): str(value) for name, value in db.execute("SELECT name, value FROM ledger")}


def test_the_tables_are_made_once_however_many_make_them(postgres: str) -> None:
    """Three at once, and once more: each says the same, and the ledger keeps its secret."""
    with ThreadPoolExecutor() as pool:
        some = list(pool.map(lambda _: tallystick_command("migrate", "--url", postgres, "--format", "json"), range(3)))
    assert [done.returncode for done in some] == [0, 0, 0], [done.stderr for done in some]
    kept = told(postgres)
    assert tallystick_command("migrate", "--url", postgres).returncode == 0
    assert told(postgres) == kept
    (said,) = json.loads(some[0].stdout)
    assert (said["format"], said["distributed"]) == (int(kept["format"]), False)


def test_what_cannot_be_migrated_is_refused_with_a_reason(postgres: str) -> None:
    """No database, none that answers, one without Citus, and one of a later version."""
    for flags, reason in (
        ((), "--url postgresql://"),
        (("--url", "memory:"), "--url postgresql://"),
        (("--url", "postgresql://nobody@/none?host=/nowhere"), "cannot be reached"),
        (("--url", postgres, "--citus"), "does not have Citus"),
    ):
        done = tallystick_command("migrate", *flags)
        assert (done.returncode, done.stdout) == (2, ""), flags
        assert reason in done.stderr
    with psycopg.connect(postgres) as db:
        db.execute("UPDATE ledger SET value = '99' WHERE name = 'format'")
    done = tallystick_command("migrate", "--url", postgres)
    assert (done.returncode, "has format 99" in done.stderr) == (2, True)
