"""Events of the rows of a table, made column by column: what a column gives to each event is written in one go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import click

from tallystick.cli.importing.columns import Column, Fixed, Table, json_text
from tallystick.cli.importing.drafts import OWN_SOURCE, Draft, Drafter, digest_of
from tallystick.cli.importing.mapping import Plan, Target, overlap, path_of, refuse_repeated
from tallystick.cli.importing.records import Columns, Record
from tallystick.cli.importing.values import Path, Unfit, typed
from tallystick.cli.options import Failure

_Tree = dict[str, "Fixed | Column | _Tree"]


def row_drafter(columns: Sequence[str], plan: Plan) -> Drafter:
    """Return what makes events of rows with these columns; raises Failure where the mapping does not fit them."""
    if unknown := [column for column in plan.columns if column not in columns]:
        raise Failure(f"There is no column {unknown[0]!r} to map. The columns are: {', '.join(columns)}.")
    taken = [target.path for targets in plan.columns.values() for target in targets] + list(plan.fixed)
    targets = []
    for at, column in enumerate(columns):
        named = [Target(path_of(column))] if column and column not in plan.columns else []
        if named and any(overlap(named[0].path, path) for path in taken):
            click.echo(f"The column {column!r} is left out: its field gets another value.", err=True)
            named = []
        targets += [(at, target) for target in (*plan.columns.get(column, ()), *named)]
    refuse_repeated([*(target.path for _, target in targets), *plan.fixed])
    tree: _Tree = {}
    for path, text in plan.fixed.items():
        _place(tree, path, Fixed(path[-1], typed(text, path)))
    for at, target in targets:
        _place(tree, target.path, Column(at, target, plan.zone))
    return partial(_draft_rows, tree)


def _place(tree: _Tree, path: Path, leaf: Fixed | Column) -> None:
    for name in path[:-1]:
        inner = tree.setdefault(name, {})
        assert isinstance(inner, dict), "no path begins with another one"
        tree = inner
    tree[path[-1]] = leaf


def _draft_rows(tree: _Tree, records: Sequence[Record], columns: Columns) -> list[Draft | Unfit]:
    table = Table(len(records), columns)
    unfit: dict[int, Unfit] = {}
    ids, sources = (_members({name: tree[name]} if name in tree else {}, table, unfit) for name in ("id", "source"))
    rest = _members({name: child for name, child in tree.items() if name not in ("id", "source")}, table, unfit)
    if "" not in ids:
        texts = [f"{{{text}}}" for text in _joined([ids, sources, rest])]
        drafts: list[Draft] = [(text.encode(), None) for text in texts]
    else:
        named = [source if id or source else OWN_SOURCE for id, source in zip(ids, sources, strict=True)]
        texts = _joined([ids, named, rest])
        drafts = [
            (f"{{{text}}}".encode(), None) if id else (f",{text}}}".encode(), digest_of(record.raw))
            for id, text, record in zip(ids, texts, records, strict=True)
        ]
    return [unfit.get(at, draft) for at, draft in enumerate(drafts)] if unfit else [*drafts]


def _members(tree: _Tree, table: Table, unfit: dict[int, Unfit]) -> list[str]:
    """Return the members of an object, joined, for each row; "" where there is none."""
    columns = []
    for name, child in tree.items():
        if isinstance(child, dict):
            start = f"{json_text(name)}:{{"
            columns.append([f"{start}{inner}}}" if inner else "" for inner in _members(child, table, unfit)])
        else:
            columns.append(child.members(table, unfit))
    return _joined(columns) if columns else [""] * table.size


def _joined(columns: Sequence[list[str]]) -> list[str]:
    """Join what several columns give to each row, with commas; "" is nothing."""
    some = [column for column in columns if any(column)]
    if len(some) < 2:
        return some[0] if some else columns[0]
    if not any("" in column for column in some):
        return list(map(",".join, zip(*some, strict=True)))
    return [",".join(filter(None, members)) for members in zip(*some, strict=True)]
