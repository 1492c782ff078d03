"""What is kept of the objects of a kind that are watched, by namespace: so many of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from gatewright.runtime.telling.judgements import Place

T = TypeVar("T")


def _never(kept: object) -> bool:
    return False


class KeptObjects(Generic[T]):
    """Objects of one kind; of those that are more than are kept, the names."""

    def __init__(self, most: int, is_over: Callable[[T], bool] = _never) -> None:
        """`most`: of one namespace. `is_over`: whether one may go where there is no room."""
        self._most, self._is_over = most, is_over
        self._all: dict[str, dict[str, T]] = {}
        self._left_out: dict[str, set[str]] = {}

    def of(self, namespace: str) -> Mapping[str, T]:
        """Return those of a namespace that are kept, by name."""
        return self._all.get(namespace, {})

    def left_out_of(self, namespace: str) -> Collection[str]:
        """Return the names of those of a namespace that are not kept."""
        return self._left_out.get(namespace, ())

    @property
    def has_left_out(self) -> bool:
        """Whether any is not kept."""
        return bool(self._left_out)

    def keep(self, namespace: str, name: str, value: T) -> None:
        """Keep one in the place of what was kept by its name, if there is room."""
        here = self._all.setdefault(namespace, {})
        here.pop(name, None)
        if len(here) >= self._most:
            for other in [other for other, kept in here.items() if self._is_over(kept)]:
                del here[other]
        if len(here) < self._most:
            here[name] = value
        else:
            self._left_out.setdefault(namespace, set()).add(name)

    def forget(self, namespace: str, name: str) -> None:
        """Forget one."""
        here, left_out = self._all.get(namespace, {}), self._left_out.get(namespace, set())
        here.pop(name, None)
        left_out.discard(name)
        if not here:
            self._all.pop(namespace, None)
        if not left_out:
            self._left_out.pop(namespace, None)

    def forget_vanished(self, there: Collection[Place]) -> list[Place]:
        """Forget those that were not in a list of all, and return them."""
        places = [(namespace, name) for namespace, here in self._all.items() for name in here]
        for namespace, left_out in self._left_out.items():
            places += [(namespace, name) for name in left_out]

        gone = [place for place in places if place not in there]
        for place in gone:
            self.forget(*place)
        return gone
