"""What the flags of an import say: which column goes to which field, what is set for all, and the zone of times.

A field is `id source type time subject account space` and what else an event has beside its data, or `data.` and a
path; any other name is one of data's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tallystick.cli.importing.values import UNITS, Path
from tallystick.cli.options import Failure

ATTRIBUTES = frozenset({"id", "source", "type", "time", "subject", "account", "space", "specversion", "dataschema"})
"""Fields that stand beside an event's data."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a column goes, and the unit in which it counts seconds."""

    path: Path
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What `--map`, `--set` and `--tz` say; `columns` without a target are dropped."""

    columns: Mapping[str, Sequence[Target]]
    fixed: Mapping[Path, str]
    zone: str

    @property
    def is_plain(self) -> bool:
        return not self.columns and not self.fixed


def mapping_of(maps: Sequence[str], sets: Sequence[str], zone: str) -> Plan:
    """Read the flags; raises Failure for what cannot be meant."""
    columns: dict[str, list[Target]] = {}
    for text in maps:
        column, equals, field = text.rpartition("=")
        if not equals or not column:
            raise Failure(f"--map must be COLUMN=FIELD or COLUMN=FIELD:UNIT, not {text}.")
        columns.setdefault(column, [])
        if field:
            columns[column].append(_target(text, field))
    fixed: dict[Path, str] = {}
    for text in sets:
        field, equals, value = text.partition("=")
        if not equals or not field or not value:
            raise Failure(f"--set must be FIELD=VALUE, not {text}.")
        fixed[path_of(field)] = value
    refuse_repeated([target.path for targets in columns.values() for target in targets] + list(fixed))
    return Plan(columns, fixed, zone)


def _target(text: str, field: str) -> Target:
    name, colon, unit = field.partition(":")
    if not name or (colon and unit not in UNITS):
        raise Failure(f"--map {text}: a unit is one of {', '.join(UNITS)}, behind the field and a colon.")
    return Target(path_of(name), unit or None)


def path_of(field: str) -> Path:
    """Return where a field stands in an event."""
    parts = tuple(field.split("."))
    if not all(parts):
        raise Failure(f"{field!r} names no field.")
    return parts if parts[0] in ATTRIBUTES or (parts[0] == "data" and len(parts) > 1) else ("data", *parts)


def refuse_repeated(paths: Sequence[Path]) -> None:
    """Raise Failure where two values go to the same field, or one into the other."""
    for at, path in enumerate(paths):
        for other in paths[at + 1 :]:
            if overlap(path, other):
                raise Failure(
                    f"Two values go to the field {_named(path)}: map each column to a field of its own, and one that "
                    "is not wanted to nothing (--map COLUMN=)."
                )


def overlap(path: Path, other: Path) -> bool:
    """Say whether two fields are the same, or one is within the other."""
    size = min(len(path), len(other))
    return path[:size] == other[:size]


def _named(path: Path) -> str:
    return ".".join(path[1:] if path[0] == "data" and path[1] not in ATTRIBUTES else path)
