"""What the ledger does rarely, done all the time: folds, stored and merged identity runs, checkpoints."""

from __future__ import annotations

from collections.abc import Callable

from tallystick.ledger.sqlite import identity, keeper, tail

HURRIED: tuple[tuple[object, str, float], ...] = (
    (keeper, "GATHER_PARTS", 2),
    (keeper, "FOLD_CELLS", 25),
    (keeper, "SLICE_CELLS", 8),
    (keeper, "FOLD_HOLDS", 6),
    (keeper, "FOLD_ENTRIES", 40),
    (keeper, "SLICE_HOLDS", 2),
    (keeper, "SLICE_CHUNKS", 2),
    (keeper, "LOOK_EVERY_S", 0.003),
    (keeper, "DOOMED_LOOKS", 100),
    (keeper, "WAL_PASSIVE_BYTES", 40_000),
    (keeper, "WAL_RESTART_BYTES", 160_000),
    (keeper, "CHUNK", 8),
    (identity, "CHUNK", 8),
    (identity, "FLUSH_ENTRIES", 24),
    (identity, "FAN_IN", 2),
    (identity, "MERGE_AT_ONCE", 4),
    (tail, "LARGE_CELLS", 4),
)


def hurry(put: Callable[[object, str, float], None] = setattr) -> None:
    """Set the bounds low; a test passes monkeypatch.setattr, a process of its own sets them for good."""
    for module, name, value in HURRIED:
        put(module, name, value)
