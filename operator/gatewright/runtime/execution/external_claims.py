"""What a run owns outside the cluster: lines that no other run may have."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from gatewright.runtime.execution.chosen import external_of

SystemOf = Callable[[str, str | None], str | None]


def claimed_lines(subject: str, config: Any, system: SystemOf | None = None) -> set[str]:
    """Return what a run owns outside the cluster, lines that no other run may have.

    Raises Permanent.

    A line for what the Connection leads to, so that it does not matter how two Releases write it;
    and one as it is written, for as long as nobody can say where that leads. `system` tells the
    external system of a Connection, by its kind and its name as it is written.
    """
    provider, checked, _ = external_of(subject, config)
    name = getattr(checked, "connection", None)
    # As it is written, for as long as nobody can say where that leads.
    places = {f"{provider.connection}:{name or ''}"}

    target = system(provider.connection, name) if system is not None else None
    if target is not None:
        places.add(target)

    lines = provider.identity(checked).splitlines()
    return {f"{place}:{line}" for place, line in itertools.product(places, lines)}
