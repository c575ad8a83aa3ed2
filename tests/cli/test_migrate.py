"""`migrate`: the tables of a ledger in PostgreSQL, made apart from serving."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tallystick.ledger.postgres import server
from tests.citus import placed
from tests.cli.test_root import tallystick_command

CITUS = """
    CREATE TABLE public.called (call text, is_right boolean);
    CREATE FUNCTION citus_version() RETURNS text LANGUAGE sql AS $$ SELECT 'Citus {version} on a test, 64-bit' $$;
    CREATE FUNCTION create_reference_table(name text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO called VALUES ('reference ' || name,
            current_setting('citus.multi_shard_modify_mode') = 'sequential');
    END $$;
    CREATE FUNCTION create_distributed_table(name text, by text, colocate_with text DEFAULT 'none') RETURNS void
    LANGUAGE plpgsql AS $$ BEGIN
        IF name = '{fails}' THEN RAISE 'no node has room'; END IF;
        INSERT INTO called VALUES (concat_ws(' ', 'distributed', name, by, colocate_with),
            current_setting('citus.shard_replication_factor') = '1');
    END $$;
"""
"""Stands in for the functions of Citus, which is not here: they write down how they are called and spread nothing.

What is tested with them is the command: what it asks for, when, and how often.
"""


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


def with_citus(url: str, *, version: str = "13.0.1", fails: str = "") -> None:
    """Give a database functions that are called as those of Citus are."""
    with psycopg.connect(url) as db:
        db.execute(CITUS.format(version=version, fails=fails).encode())


def called(url: str) -> list[str]:
    """Return what was asked of Citus, in order; each under the settings it needs."""
    with psycopg.connect(url) as db:
        rows = db.execute("SELECT call, is_right FROM called").fetchall()
    assert all(right for _, right in rows)
    return [str(call) for call, _ in rows]


def test_tables_are_spread_once_however_many_spread_them(postgres: str) -> None:
    """Three at once, and once more: each table has its place, all of an account's in one, and the ledger says so."""
    with_citus(postgres)
    command = ("migrate", "--url", postgres, "--citus", "--format", "json")
    with ThreadPoolExecutor() as pool:
        some = list(pool.map(lambda _: tallystick_command(*command), range(3)))
    assert [done.returncode for done in some] == [0, 0, 0], [done.stderr for done in some]
    assert all(json.loads(done.stdout)[0]["distributed"] for done in some)
    due = [
        f"reference {name}" if kind == "reference" else f"distributed {name} {column} {beside or 'none'}"
        for name, (kind, column, beside) in placed().items()
    ]
    assert called(postgres) == due
    assert tallystick_command(*command).returncode == 0
    assert called(postgres) == due
    assert told(postgres)["distributed"] == "account"


@pytest.mark.parametrize(
    ("citus", "reason"),
    [({"version": "11.3"}, "Citus 12 or newer is needed"), ({"fails": "run"}, "no node has room")],
)
def test_tables_that_cannot_be_spread_stay_as_they_are(postgres: str, citus: dict[str, str], reason: str) -> None:
    """All of them are spread or none, and a ledger that is not spread does not say that it is."""
    with_citus(postgres, **citus)
    done = tallystick_command("migrate", "--url", postgres, "--citus")
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert called(postgres) == []
    assert "distributed" not in told(postgres)


def test_tables_are_not_spread_under_processes_that_serve_them(postgres: str) -> None:
    """They would go on with transactions over several accounts; where tables are spread already, nothing is to do."""
    with_citus(postgres)
    command = ("migrate", "--url", postgres, "--citus")
    with server.connect(postgres):
        done = tallystick_command(*command)
        assert (done.returncode, "Stop tallystick everywhere" in done.stderr) == (2, True)
        assert called(postgres) == []
    assert tallystick_command(*command).returncode == 0
    with server.connect(postgres):
        assert tallystick_command(*command).returncode == 0
