"""Who set a field of an object, as its managed fields tell: field manager and time.

Kubernetes keeps for each manager the fields that it set last, and when: a manager that takes a
field over is the only one that has it then. What is not there is owned by nobody, and whoever took
it away need not own anything; there the last one who set something after us is named, for what it
is worth. Managed fields are asked for only where something differs, and once for each state of the
object: they cannot change without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gatewright.core.fair_memory import FairMemory
from gatewright.ports import Cluster, NotFound, Permanent, Retryable
from gatewright.providers.common.context import ContextPart
from gatewright.providers.workload.rollout import title_of
from gatewright.providers.workload.template import Difference

OWN_MANAGER = "gatewright"
"""Our own field manager: the name that the client's User-Agent begins with."""
MAX_DIFFERENCES_IN_MESSAGE = 3
"""Differences that a message names; of more only the number."""
_MAX_REMEMBERED = 512

_known = ContextPart(lambda: FairMemory[tuple[Any, ...], str](_MAX_REMEMBERED))
"""What was said of a state of an object; to lose it costs a request."""


def describe_setter(managed: Sequence[Mapping[str, Any]], place: Sequence[str]) -> str:
    """Say who set what stands at a place: `set by kubectl-rollout at 2026-01-01T10:00:00Z`.

    Empty where nobody says so.
    """
    owners = [entry for entry in managed if _has_place(entry.get("fieldsV1") or {}, place)]
    return f"set by {_describe_newest(owners)}" if owners else ""


def describe_last_setter(managed: Sequence[Mapping[str, Any]]) -> str:
    """Say who was last: `the last to set anything was kubectl-edit at ...`.

    Empty where that were we ourselves, as far as that is known.
    """
    setters = [entry for entry in managed if "f:spec" in (entry.get("fieldsV1") or {})]
    own = [entry for entry in setters if entry.get("manager") == OWN_MANAGER]
    last_own = max((_time_of(entry) for entry in own), default="")

    later = [
        entry
        for entry in setters
        if entry.get("manager") != OWN_MANAGER and _time_of(entry) > last_own
    ]
    return f"the last to set anything was {_describe_newest(later)}" if later else ""


async def explain_difference(
    cluster: Cluster,
    path: str,
    workload: Mapping[str, Any],
    differ: Callable[[Mapping[str, Any]], list[Difference]],
) -> str:
    """Say what an object differs in and who made it so; empty where it does not differ.

    Raises nothing: who it was is said where the API server tells it.
    """
    differences = differ(workload)
    if not differences:
        return ""

    metadata = workload["metadata"]
    key = (
        metadata["uid"],
        metadata.get("resourceVersion"),
        len(differences),
        *differences[:MAX_DIFFERENCES_IN_MESSAGE],
    )
    remembered = _known().get(key)
    if remembered is not None:
        return remembered

    try:
        fresh = await cluster.managed(path)
    except NotFound:
        return f"{title_of(workload)} is gone"
    except (Retryable, Permanent):
        return _describe_differences(workload, differences, ())

    managed = fresh["metadata"].get("managedFields") or ()
    words = _describe_differences(fresh, differ(fresh), managed)
    # What was asked for is kept only for the state that it speaks of.
    if fresh["metadata"].get("resourceVersion") == metadata.get("resourceVersion"):
        _known().put(str(metadata.get("namespace", "")), key, words)

    return words


def _describe_differences(
    workload: Mapping[str, Any],
    differences: Sequence[Difference],
    managed: Sequence[Mapping[str, Any]],
) -> str:
    if not differences:
        return ""

    parts = [
        " ".join((difference.words, *_describe_origin(difference, managed)))
        for difference in differences[:MAX_DIFFERENCES_IN_MESSAGE]
    ]
    more = len(differences) - MAX_DIFFERENCES_IN_MESSAGE
    rest = f"; and {more} more" if more > 0 else ""
    return f"{title_of(workload)} {'; '.join(parts)}{rest}"


def _describe_origin(difference: Difference, managed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the container and who it was, in brackets; nothing where neither is known."""
    setter = describe_setter(managed, difference.place)
    # Nobody owns what is not there.
    if not difference.place:
        setter = describe_last_setter(managed)

    container = f"container {difference.container}" if difference.container else ""
    parts = [part for part in (container, setter) if part]
    if parts:
        yield f"({'; '.join(parts)})"


def _has_place(fields: Mapping[str, Any], place: Sequence[str]) -> bool:
    for part in place:
        if part not in fields:
            return False
        fields = fields[part] or {}
    return True


def _describe_newest(entries: Sequence[Mapping[str, Any]]) -> str:
    newest = max(entries, key=lambda entry: (_time_of(entry), str(entry.get("manager", ""))))
    time = f" at {newest['time']}" if newest.get("time") else ""
    return f"{newest.get('manager', 'somebody')}{time}"


def _time_of(entry: Mapping[str, Any]) -> str:
    return str(entry.get("time", ""))
