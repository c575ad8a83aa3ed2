"""What a process that may die at any moment says of its work, and how whoever listens makes a record of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.faults.workload import Record, Sample


def say(word: str, *values: str) -> None:
    """Write one line past every buffer: it survives the process."""
    os.write(1, " ".join((word, *values)).encode() + b"\n")


@dataclass(slots=True)
class SpokenRecord(Record):
    """A record that is said aloud as it is made."""

    def sending(self, samples: Sequence[Sample], point: int) -> None:
        say("sending", *(sample.id for sample in samples))
        Record.sending(self, samples, point)

    def acking(self, samples: Sequence[Sample], point: int) -> None:
        say("acked", *(sample.id for sample in samples))
        Record.acking(self, samples, point)


def hear(said: Sequence[str], samples: Mapping[str, Sample], record: Record) -> None:
    """Add what was said to a record."""
    for word, *values in filter(None, map(str.split, said)):
        match word:
            case "sending":
                record.sending([samples[id] for id in values], 0)
            case "acked":
                record.acking([samples[id] for id in values], 0)
            case "surprise":
                record.surprises.append(" ".join(values))
