"""Events of the rows of a table, made column by column: what a column gives to each event is written in one go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Union

from tallystick.cli.importing.columns import Cells, Column, Fixed, Table, json_text
from tallystick.cli.importing.drafts import OWN_SOURCE, Drafter, Drafts, digest_of
from tallystick.cli.importing.mapping import Plan, Target, overlap, path_of, refuse_repeated
from tallystick.cli.importing.records import Records
from tallystick.cli.importing.values import Path, Unfit, typed
from tallystick.cli.options import Failure

_Tree = dict[str, "Fixed | Column | _Tree"]
_Member = Union[str, list[str], Cells, "_Members"]
"""One for all rows, one for each row ("" where it has none; as cells it has one), or the members of an object."""
_Members = dict[str, _Member]


def row_drafter(columns: Sequence[str], plan: Plan, notes: list[str]) -> Drafter:
    """Return what makes events of rows with these columns, and note what is left out.

    Raises Failure where the mapping does not fit them.
    """
    if unknown := [column for column in plan.columns if column not in columns]:
        raise Failure(f"There is no column {unknown[0]!r} to map. The columns are: {', '.join(columns)}.")
    taken = [target.path for targets in plan.columns.values() for target in targets] + list(plan.fixed)
    targets = []
    for at, column in enumerate(columns):
        named = [Target(path_of(column))] if column and column not in plan.columns else []
        if named and any(overlap(named[0].path, path) for path in taken):
            notes.append(f"The column {column!r} is left out: its field gets another value.")
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


def _draft_rows(tree: _Tree, records: Records) -> Drafts:
    size = len(records.lines)
    if not size:
        return Drafts((), {}, {})
    unfit: dict[int, Unfit] = {}
    first: _Tree = {name: tree[name] for name in ("id", "source") if name in tree}
    text, unnamed = _events(_made({**first, **tree}, Table(size, records.columns), unfit), size)
    return Drafts(text.encode().split(b"\n"), {at: digest_of(records.raws[at]) for at in unnamed}, unfit)


def _made(tree: _Tree, table: Table, unfit: dict[int, Unfit]) -> _Members:
    """Make the members of an object and of those in it."""
    return {
        name: _made(child, table, unfit) if isinstance(child, dict) else child.members(table, unfit)
        for name, child in tree.items()
    }


def _events(made: _Members, size: int) -> tuple[str, Sequence[int]]:
    """Write events, and return which of them have no id; these lack their opening brace."""
    if "id" not in made:
        source = made.get("source", OWN_SOURCE)
        named = source if isinstance(source, str) else [each or OWN_SOURCE for each in _of_rows("source", source, size)]
        rest = {"source": named, **{name: child for name, child in made.items() if name != "source"}}
        return _written(rest, size, ",", "}"), range(size)
    ids = _of_rows("id", made["id"], size)
    if all(ids):
        return _written(made, size, "{", "}"), ()
    sources = _of_rows("source", made.get("source", ""), size)
    named = [source if id or source else OWN_SOURCE for id, source in zip(ids, sources, strict=True)]
    others = {name: child for name, child in made.items() if name not in ("id", "source")}
    texts = _joined((ids, named, _written(others, size).split("\n")))
    events = [f"{'{' if id else ','}{text}}}" for id, text in zip(ids, texts, strict=True)]
    return "\n".join(events), [at for at, id in enumerate(ids) if not id]


def _written(made: _Members, size: int, before: str = "", behind: str = "") -> str:
    """Write the members of an object, joined, a line for each row; JSON on one line has no line end in it."""
    laid_out = _laid_out(made)
    if laid_out is not None:
        parts, columns = laid_out
        parts[0] = before + parts[0]
        parts[-1] += behind + "\n"
        return _woven(parts, columns, size)[:-1]
    texts = _joined([_of_rows(name, child, size) for name, child in made.items()]) if made else [""] * size
    return "\n".join([f"{before}{text}{behind}" for text in texts])


def _woven(parts: Sequence[str], columns: Sequence[Sequence[str]], size: int) -> str:
    """Write for each row the parts, and between them what the columns have for it."""
    step = len(parts) + len(columns)
    texts = [""] * (step * size)
    for at, part in enumerate(parts):
        texts[2 * at :: step] = [part] * size
    for at, column in enumerate(columns):
        texts[2 * at + 1 :: step] = column
    return "".join(texts)


def _of_rows(name: str, child: _Member, size: int) -> Sequence[str]:
    """Return what a member is in each row, "" where it is none."""
    if isinstance(child, str):
        return [child] * size
    if isinstance(child, Cells):
        return child.texts
    if isinstance(child, list):
        return child
    start = f"{json_text(name)}:{{"
    return [f"{start}{inner}}}" if inner else "" for inner in _written(child, size).split("\n")]


def _laid_out(made: _Members) -> tuple[list[str], list[Sequence[str]]] | None:
    """Return what the members of an object have alike in all rows, and the columns that go between these parts.

    None where no member is sure to be there: then nobody knows beforehand where commas stand.
    """
    parts: list[str] = [""]
    columns: list[Sequence[str]] = []
    is_sure = list(map(_is_sure, made.values()))
    if not any(is_sure):
        return None
    for at, (name, child) in enumerate(made.items()):
        comma = "," if any(is_sure[:at]) else ""
        if isinstance(child, str):
            parts[-1] += comma + child
        elif isinstance(child, dict):
            inner = _laid_out(child)
            if inner is None:
                return None
            parts[-1] += f"{comma}{json_text(name)}:{{{inner[0][0]}"
            parts += inner[0][1:]
            parts[-1] += "}"
            columns += inner[1]
        elif isinstance(child, Cells):
            parts[-1] += comma + child.before
            parts.append(child.behind)
            columns.append(child.cells)
        else:
            parts[-1] += comma if is_sure[at] else ""
            parts.append("")
            columns.append(child if is_sure[at] else _with_comma(child, is_behind=not comma))
    return parts, columns


def _with_comma(members: Sequence[str], *, is_behind: bool) -> list[str]:
    """Write the comma of each member that is there, before it or behind it."""
    return [(f"{member}," if is_behind else f",{member}") if member else "" for member in members]


def _is_sure(child: _Member) -> bool:
    """Say whether a member is there in every row."""
    return all(child) if isinstance(child, list) else True


def _joined(columns: Sequence[Sequence[str]]) -> Sequence[str]:
    """Join what several columns give to each row, with commas; "" is nothing."""
    some = [column for column in columns if any(column)]
    if len(some) < 2:
        return some[0] if some else columns[0]
    if not any("" in column for column in some):
        return list(map(",".join, zip(*some, strict=True)))
    return [",".join(filter(None, members)) for members in zip(*some, strict=True)]
