"""The schema of a live database keeps to what Citus supports, which no test has at hand."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tallystick.ledger.open import migrate_ledger
from tests.citus import CITUS, SOURCE, WRITING_CTE, distributed, placed

KEYS = """SELECT c.relname, i.relname, array_agg(a.attname ORDER BY k.place)::text[]
    FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
    CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY k (number, place)
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
    WHERE x.indisunique AND c.relnamespace = 'public'::regnamespace GROUP BY c.relname, i.relname"""
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"


@pytest.fixture
def db(postgres: str) -> Iterator[psycopg.Connection]:
    migrate_ledger(postgres)
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


def misplaced(db: psycopg.Connection) -> list[str]:
    """Return the unique keys of distributed tables that do not begin with the account."""
    return [key for table, key, columns in db.execute(KEYS) if table in distributed() and columns[0] != "account"]


def test_every_table_has_its_place(db: psycopg.Connection) -> None:
    """Each is either on every node or spread by account, all of those together; no statement is passed by."""
    assert {name for (name,) in db.execute(TABLES)} == set(placed())
    first, *others = [where for where in placed().values() if where[0] == "distributed"]
    assert first == ("distributed", "account", "")
    assert set(others) == {("distributed", "account", "head")}
    assert len(placed()) == len([line for line in CITUS.splitlines() if line.startswith("SELECT")])


def test_the_account_is_first_in_every_unique_key(db: psycopg.Connection) -> None:
    """A key of a distributed table that does not have the column it goes by cannot be checked on one node."""
    assert {table for table, _, _ in db.execute(KEYS)} >= distributed()
    assert misplaced(db) == []
    db.execute("CREATE UNIQUE INDEX amiss ON entry (position)")
    assert misplaced(db) == ["amiss"]


def test_the_account_is_a_number_in_every_distributed_table(db: psycopg.Connection) -> None:
    """Tables lie together only where their columns are of one type, and an account has to be known."""
    statement = """SELECT table_name, data_type, is_nullable FROM information_schema.columns
        WHERE table_schema = 'public' AND column_name = 'account'"""
    assert {row[0]: row[1:] for row in db.execute(statement)} == dict.fromkeys(distributed(), ("bigint", "NO"))


def test_no_foreign_key_and_no_trigger_leaves_an_account(db: psycopg.Connection) -> None:
    """There are none at all."""
    assert db.execute("SELECT conname FROM pg_constraint WHERE contype = 'f'").fetchall() == []
    assert db.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal").fetchall() == []


def test_text_is_compared_by_bytes(db: psycopg.Connection) -> None:
    """Wherever the database was made: an order of its own would be another one than that of the other ledgers."""
    statement = """SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"""
    assert db.execute(statement).fetchall() == []


def test_no_statement_writes_in_a_with_query() -> None:
    """Citus does not take that; the check sees it however it is laid out."""
    assert WRITING_CTE.search("WITH gone AS (\n    DELETE FROM run RETURNING *) SELECT 1")
    assert not WRITING_CTE.search("WITH some AS (SELECT 1) SELECT * FROM some")
    files = [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.sql")]
    assert len(files) > 5
    assert [file.name for file in files if WRITING_CTE.search(file.read_text(encoding="utf-8"))] == []
