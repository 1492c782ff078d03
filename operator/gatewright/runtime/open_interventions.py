"""What is asked of one Release and not answered yet, in its order."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace

from gatewright.core.model.intervention import Intervention

BACKWARD_ACTIONS = ("Rollback", "Abort", "Reject")
"""What may lead back: the pass over its Release goes before others."""
Order = tuple[str, int, str]
"""When it was made, its resourceVersion, its name."""


@dataclass(slots=True, eq=False)
class OpenIntervention:
    """An Intervention that is not answered, and where it stands in the order."""

    act: Intervention
    judged: bool = False
    """Whether it is known if the API server proved whose act it is; what it does not prove stands
    in `act.doubt`."""

    @property
    def order(self) -> Order:
        """Return its place among all that are asked."""
        return (*self.act.made, self.act.name)


class OpenInterventions:
    """What is asked of one Release and not answered yet; there may be many.

    What overtakes has an order of its own, so that no queue of others keeps it from being seen.
    """

    def __init__(self) -> None:
        self._items: dict[str, OpenIntervention] = {}
        self._orders: dict[bool, list[tuple[Order, str]]] = {True: [], False: []}
        """By whether they overtake, the oldest first."""
        self.back = 0
        """How many of them may lead back."""

    def __contains__(self, uid: str) -> bool:
        return uid in self._items

    def __len__(self) -> int:
        return len(self._items)

    def put(self, uid: str, act: Intervention, judged: bool) -> OpenIntervention:
        """Add one; one that is there keeps its place."""
        old = self.pop(uid)
        if old is not None:
            act = replace(act, made=old.act.made)
        intervention = self._items[uid] = OpenIntervention(act, judged)
        bisect.insort(self._orders[act.urgent], (intervention.order, uid))
        self.back += act.action in BACKWARD_ACTIONS

        return intervention

    def pop(self, uid: str) -> OpenIntervention | None:
        """Take one out, if it is in."""
        intervention = self._items.pop(uid, None)
        if intervention is not None:
            orders = self._orders[intervention.act.urgent]
            del orders[bisect.bisect_left(orders, (intervention.order, uid))]
            self.back -= intervention.act.action in BACKWARD_ACTIONS
        return intervention

    def oldest(self, urgent: bool, most: int) -> list[OpenIntervention]:
        """Return the first of those that overtake, or of the others."""
        return [self._items[uid] for _, uid in self._orders[urgent][:most]]

    def items(self) -> list[tuple[str, OpenIntervention]]:
        """Return all of them, by UID."""
        return list(self._items.items())
