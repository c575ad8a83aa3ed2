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
_Members = dict[str, "str | list[str] | _Members"]
"""Members of an object: one for all rows, one for each row ("" where it has none), or an object's own."""


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
    first: _Tree = {name: tree[name] for name in ("id", "source") if name in tree}
    made = _made({**first, **tree}, table, unfit)
    drafts = _drafts(made, records)
    return [unfit.get(at, draft) for at, draft in enumerate(drafts)] if unfit else [*drafts]


def _made(tree: _Tree, table: Table, unfit: dict[int, Unfit]) -> _Members:
    """Make the members of an object and of those in it."""
    return {
        name: _made(child, table, unfit) if isinstance(child, dict) else child.members(table, unfit)
        for name, child in tree.items()
    }


def _drafts(made: _Members, records: Sequence[Record]) -> list[Draft]:
    size = len(records)
    if "id" not in made:
        source = made.get("source", OWN_SOURCE)
        named = source if isinstance(source, str) else [each or OWN_SOURCE for each in _of_rows("source", source, size)]
        rest = _texts({"source": named, **{name: child for name, child in made.items() if name != "source"}}, size)
        drafts = _encoded([f",{text}}}" for text in rest])
        return [(draft, digest_of(record.raw)) for draft, record in zip(drafts, records, strict=True)]
    ids = _of_rows("id", made["id"], size)
    if all(ids):
        return [(draft, None) for draft in _encoded([f"{{{text}}}" for text in _texts(made, size)])]
    sources = _of_rows("source", made.get("source", ""), size)
    named = [source if id or source else OWN_SOURCE for id, source in zip(ids, sources, strict=True)]
    others = {name: child for name, child in made.items() if name not in ("id", "source")}
    texts = _joined([ids, named, _texts(others, size)])
    return [
        (f"{{{text}}}".encode(), None) if id else (f",{text}}}".encode(), digest_of(record.raw))
        for id, text, record in zip(ids, texts, records, strict=True)
    ]


def _encoded(texts: Sequence[str]) -> list[bytes]:
    """Encode texts in one go: JSON on one line has no line end in it."""
    return "\n".join(texts).encode().split(b"\n") if texts else []


def _texts(made: _Members, size: int) -> list[str]:
    """Return the members of an object, joined, for each row; "" where there is none."""
    laid_out = _laid_out(made)
    if laid_out is not None:
        form, columns = laid_out
        return list(map(form.__mod__, zip(*columns, strict=True))) if columns else [form % ()] * size
    columns = [_of_rows(name, child, size) for name, child in made.items()]
    return _joined(columns) if columns else [""] * size


def _of_rows(name: str, child: str | list[str] | _Members, size: int) -> list[str]:
    """Return what a member is in each row, "" where it is none."""
    if isinstance(child, str):
        return [child] * size
    if isinstance(child, list):
        return child
    start = f"{json_text(name)}:{{"
    return [f"{start}{inner}}}" if inner else "" for inner in _texts(child, size)]


def _laid_out(made: _Members) -> tuple[str, list[list[str]]] | None:
    """Return the members of an object as a format, and the columns that go into it.

    None where no member is sure to be there: then nobody knows beforehand where commas stand.
    """
    forms: list[str] = []
    columns: list[list[str]] = []
    is_sure = [_is_sure(child) for child in made.values()]
    if not any(is_sure):
        return None
    for sure, name, child in zip(is_sure, made, made.values(), strict=True):
        comma = "," if any(is_sure[: len(forms)]) else ""
        if isinstance(child, str):
            forms.append(comma + child.replace("%", "%%"))
        elif isinstance(child, dict):
            inner = _laid_out(child)
            if inner is None:
                return None
            forms.append(f"{comma}{json_text(name).replace('%', '%%')}:{{{inner[0]}}}")
            columns += inner[1]
        elif sure:
            forms.append(comma + "%s")
            columns.append(child)
        else:
            forms.append("%s")
            columns.append([f",{member}" if member else "" for member in child] if comma else _with_comma(child))
    return "".join(forms), columns


def _with_comma(members: Sequence[str]) -> list[str]:
    return [f"{member}," if member else "" for member in members]


def _is_sure(child: str | list[str] | _Members) -> bool:
    """Say whether a member is there in every row."""
    return child != "" if isinstance(child, str) else all(child) if isinstance(child, list) else True


def _joined(columns: Sequence[list[str]]) -> list[str]:
    """Join what several columns give to each row, with commas; "" is nothing."""
    some = [column for column in columns if any(column)]
    if len(some) < 2:
        return some[0] if some else columns[0]
    if not any("" in column for column in some):
        return list(map(",".join, zip(*some, strict=True)))
    return [",".join(filter(None, members)) for members in zip(*some, strict=True)]
