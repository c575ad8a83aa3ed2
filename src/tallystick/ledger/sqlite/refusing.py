"""Events that nobody set anything aside for, under limits that refuse those which do not fit: decided in order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tallystick import limits
from tallystick.ledger import verdicts
from tallystick.ledger.packed.counters import Counter
from tallystick.ledger.sqlite.job import Job
from tallystick.limits import Balance
from tallystick.model import Total, Verdict

Take = tuple[Counter, str, int]
"""A limit's counter, the meter, and how much of the limit an event takes by it."""


class Refusing:
    """What the events of one transaction take of such limits; `watched` are counters by account.

    Only what lies in a limit's present period is judged. False where there are no such limits.
    """

    def __init__(self, watched: Mapping[str, Sequence[Counter]], now: int) -> None:
        self._now = now
        self._counters = {
            name: some
            for name, counters in watched.items()
            if (some := [each for each in counters if limits.refuses_unheld(each.limit)])
        }
        self._taken: dict[Counter, int] = {}

    def __bool__(self) -> bool:
        return bool(self._counters)

    def takes_of(self, job: Job) -> Mapping[int, Sequence[Take]]:
        """Return what each row of a job takes of which limits; what settles a hold is never refused."""
        takes: dict[int, list[Take]] = {}
        if not self._counters:
            return takes
        times, held = job.batch.time[job.rows], job.held
        for at in job.used_sets().tolist():
            label_set = job.batch.label_sets[at]
            for counter in self._counters.get(label_set.account, ()):
                if not limits.counts(counter.limit, label_set.meter, label_set.labels):
                    continue
                for place in np.flatnonzero(job.posting_set == at).tolist():
                    row = int(job.posting_event[place])
                    if int(job.rows[row]) in held:
                        continue
                    if counter.start <= int(times[row]) < counter.end:
                        amount = limits.used_of(counter.limit, Total(1, int(job.posting_amount[place])))
                        takes.setdefault(row, []).append((counter, label_set.meter, amount))
        return takes

    def refuses(self, takes: Sequence[Take], again: Collection[str]) -> Verdict | None:
        """Take what one event takes, or say that it does not fit, and take nothing; `again` meters count none of it."""
        counted = [(counter, amount) for counter, meter, amount in takes if meter not in again]
        for counter, amount in sorted(counted, key=lambda each: each[0].limit.id):
            balance = Balance(counter.used + self._taken.get(counter, 0), counter.held)
            if not limits.decide(counter.limit, balance, amount, self._now).fits:
                return verdicts.over_limit(counter.limit)
        for counter, amount in counted:
            self._taken[counter] = self._taken.get(counter, 0) + amount
        return None
