"""What depends on the events before: live resources, their spaces, and what meters with `once_per` counted of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from tallystick.model import Catalog, Change
from tallystick.resources import CONTAINERS, Resource, Space


class Named(NamedTuple):
    """A resource by its identity; the account by its number."""

    account: int
    space: str
    kind: str
    id: str


class Counted(NamedTuple):
    """What a meter, since its epoch, compares of a resource."""

    meter: str
    epoch: int
    resource: Named


class Recorded(NamedTuple):
    """That a meter counted a resource, by the event that said so."""

    account: int
    meter: str
    epoch: int
    time: int
    source: str
    event: str


def named(account: int, change: Change) -> Named:
    return Named(account, change.space, change.kind, change.id)


@dataclass(slots=True)
class Living:
    """A fold of changes, in the order of the log, over what was known before.

    `newer` gives the resources of a space, as they were before, that something newer than an instant is known of.
    """

    newer: Callable[[int, str, int], Iterable[Resource]]
    resources: dict[Named, Resource] = field(default_factory=dict)
    spaces: dict[tuple[int, str], Space] = field(default_factory=dict)
    once: dict[Counted, str] = field(default_factory=dict)
    records: dict[Recorded, Change] = field(default_factory=dict)

    @property
    def accounts(self) -> set[int]:
        """The accounts that anything of it is of."""
        named = {name.account for name in self.resources} | {account for account, _ in self.spaces}
        return named | {key.resource.account for key in self.once} | {record.account for record in self.records}

    def of(self, accounts: Set[int]) -> Living:
        """Return what there is of some accounts."""
        return Living(
            self.newer,
            {name: resource for name, resource in self.resources.items() if name.account in accounts},
            {place: space for place, space in self.spaces.items() if place[0] in accounts},
            {key: value for key, value in self.once.items() if key.resource.account in accounts},
            {record: change for record, change in self.records.items() if record.account in accounts},
        )

    def again(self, account: int, change: Change, once: Mapping[str, str], catalog: Catalog) -> frozenset[str]:
        """Return the meters that counted of a resource before what they are to compare now."""
        name = named(account, change)
        return frozenset(
            meter
            for meter, value in once.items()
            if self.once.get(Counted(meter, catalog.meters[meter].epoch, name)) == value
        )

    def count(
        self, account: int, change: Change, once: Mapping[str, str], catalog: Catalog, *, is_replay: bool = False
    ) -> None:
        """Remember what the meters count of a resource; a record is only of what they count when it comes."""
        name = named(account, change)
        for meter, value in once.items():
            epoch = catalog.meters[meter].epoch
            self.once[Counted(meter, epoch, name)] = value
            if catalog.meters[meter].once_per == "state" and not is_replay:
                self.records[Recorded(account, meter, epoch, change.time, change.source, change.event)] = change

    def take(self, account: int, change: Change) -> None:
        """Change a resource, and its space with it."""
        if change.kind in CONTAINERS and change.state is None:
            self._close(account, change)
            return
        name, place = named(account, change), (account, change.space)
        before = self.resources.get(name) or Resource(change.kind, change.space, change.id)
        now, space = before.after(change), self.spaces.get(place, Space())
        self.resources[name] = now
        space = space.after(before, now)
        makes = change.space != "" and change.state is not None
        self.spaces[place] = space.making(change.kind, change.time) if makes else space

    def _close(self, account: int, change: Change) -> None:
        place = (account, change.space)
        space = self.spaces.get(place, Space())
        newer = space.needs(change.time)
        some = () if newer is None else self._contents(account, change.space, newer)
        self.spaces[place] = space.closing(change.time, some)

    def _contents(self, account: int, space: str, newer: int) -> Iterable[Resource]:
        before = {Named(account, space, each.kind, each.id): each for each in self.newer(account, space, newer)}
        before.update(
            (name, each) for name, each in self.resources.items() if (name.account, name.space) == (account, space)
        )
        return [each for each in before.values() if each.newest > newer]
