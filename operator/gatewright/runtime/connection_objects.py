"""Which Connections there are, by namespace, and which one a name or a pin stands for."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from gatewright.ports import Permanent
from gatewright.runtime.pins import Pins
from gatewright.runtime.telling.judgements import Place
from gatewright.runtime.telling.log_limits import about

MAX_PER_NAMESPACE = 256
"""Connections of one namespace that are used; of more, those that were heard of first."""
MAX_NAMES_IN_MESSAGE = 10
"""Connections that a message names."""
KEPT_METADATA = ("namespace", "name", "uid", "generation", "resourceVersion")


log = logging.getLogger("gatewright.connection_objects")


class ConnectionObjects:
    """What is kept of the Connections that the watch has told of."""

    def __init__(self) -> None:
        self._all: dict[str, dict[str, dict[str, Any]]] = {}
        self._crowded: set[str] = set()
        """Namespaces that have more Connections than are used."""

    @property
    def left_out(self) -> bool:
        """Whether there are Connections that are not used."""
        return bool(self._crowded)

    def get(self, place: Place) -> dict[str, Any] | None:
        """Return the Connection of a name, if there is one."""
        return self._all.get(place[0], {}).get(place[1])

    def places(self) -> list[Place]:
        """Return where Connections are."""
        places: list[Place] = []
        for namespace in self._all:
            places += self.places_in(namespace)
        return places

    def places_in(self, namespace: str) -> list[Place]:
        """Return where Connections of a namespace are."""
        return [(namespace, name) for name in self._all.get(namespace, {})]

    def put(self, place: Place, body: Mapping[str, Any]) -> bool:
        """Keep a Connection as it is now; return whether its spec is new.

        One that is one more than are used of its namespace is left out.
        """
        namespace, name = place
        here = self._all.setdefault(namespace, {})

        old = here.get(name)
        if old is None and len(here) >= MAX_PER_NAMESPACE:
            self._leave_out(namespace)
            return False

        here[name] = _kept_part(body)

        return old is None or edition_of(old) != edition_of(body)

    def remove(self, place: Place) -> None:
        """Forget a Connection that is gone."""
        here = self._all.get(place[0], {})
        here.pop(place[1], None)
        if not here:
            self._all.pop(place[0], None)

    def vanished(self, there: Collection[Place]) -> list[Place]:
        """Return those that were not in a list of all, `there` being the ones that were."""
        self._crowded = {
            namespace for namespace, name in there if name not in self._all.get(namespace, {})
        }
        return [place for place in self.places() if place not in there]

    def look_up(self, namespace: str, kind: str, name: str | None, pinned: Pins) -> dict[str, Any]:
        """Return the object that a run has pinned, else the one that its name stands for now.

        Raises Permanent.
        """
        pinned_one = self._find_pinned(namespace, kind, name, pinned)
        return pinned_one or self.find(namespace, kind, name)

    def find(self, namespace: str, kind: str, name: str | None) -> dict[str, Any]:
        """Return the named Connection of a kind, or the namespace's only one. Raises Permanent."""
        here = self._all.get(namespace, {})
        fitting = {key: obj for key, obj in here.items() if kind in obj.get("spec", {})}
        names = _names_in_message(sorted(fitting))

        # One that was left out may be the one that is meant.
        if namespace in self._crowded and (name is None or name not in fitting):
            remedy = "name one" if name is None else f"{name} is not among them"
            raise Permanent(
                f"namespace {namespace} has more than {MAX_PER_NAMESPACE} Connections, and only "
                f"{MAX_PER_NAMESPACE} are used; {remedy}, or delete what nobody uses"
            )

        if name is not None and name not in fitting:
            raise Permanent(
                f'there is no {kind} Connection "{name}" in namespace {namespace} '
                f"(there: {names or 'none'}); make it, or name another"
            )
        if name is None and not fitting:
            raise Permanent(f"there is no {kind} Connection in namespace {namespace}; make one")
        if name is None and len(fitting) > 1:
            raise Permanent(
                f"namespace {namespace} has {len(fitting)} {kind} Connections ({names}), and none "
                "is named; say which by connection:"
            )

        return fitting[name] if name is not None else next(iter(fitting.values()))

    def _find_pinned(
        self, namespace: str, kind: str, name: str | None, pinned: Pins
    ) -> dict[str, Any] | None:
        """Return the object that a run has pinned, where it has.

        Raises Permanent where that is not there any more.
        """
        if (kind, name or "") not in pinned:
            return None

        own, uid, _ = pinned[kind, name or ""]
        connection = self.get((namespace, own))
        if connection is None:
            raise Permanent(f'{kind} Connection "{own}", which this run uses, was deleted')
        if connection["metadata"]["uid"] != uid:
            raise Permanent(
                f'{kind} Connection "{own}" was deleted and made again since this run began; '
                "the new one may lead elsewhere, and is used from the next run or Retry on"
            )
        if kind not in connection.get("spec", {}):
            raise Permanent(
                f'Connection "{own}", which this run uses, is no {kind} Connection any more'
            )

        return connection

    def _leave_out(self, namespace: str) -> None:
        """Leave out a Connection that is one more than are used of a namespace.

        The memory of all would be filled by them.
        """
        if namespace not in self._crowded:
            log.warning(
                "namespace %s has more than %d Connections; the others are not used",
                namespace,
                MAX_PER_NAMESPACE,
                extra=about(namespace),
            )
        self._crowded.add(namespace)


def _kept_part(body: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what is asked of a Connection, and no more.

    There may be many, and whoever writes one may have put anything beside it.
    """
    meta = {name: body["metadata"][name] for name in KEPT_METADATA if name in body["metadata"]}
    conditions = (body.get("status") or {}).get("conditions") or ()

    ready = [condition for condition in conditions if condition.get("type") == "Ready"][:1]
    return {"metadata": meta, "spec": body.get("spec") or {}, "status": {"conditions": ready}}


def edition_of(body: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what of a Connection changes with its spec: UID and generation."""
    return body["metadata"].get("uid"), body["metadata"].get("generation")


def title_of(kind: str, body: Mapping[str, Any]) -> str:
    """Return what messages call a Connection."""
    return f'{kind} Connection "{body["metadata"]["name"]}"'


def _names_in_message(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_IN_MESSAGE
    listed = ", ".join(names[:MAX_NAMES_IN_MESSAGE])
    return f"{listed} and {more} more" if more > 0 else listed
