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
from gatewright.providers.workload.rollout import title_of
from gatewright.providers.workload.template import Difference

OWN_MANAGER = "gatewright"
"""Our own field manager: the name that the client's User-Agent begins with."""
MAX_DIFFERENCES_IN_MESSAGE = 3
"""Differences that a message names; of more only the number."""
_MAX_REMEMBERED = 512

_known: FairMemory[tuple[Any, ...], str] = FairMemory(_MAX_REMEMBERED)
"""What was said of a state of an object; to lose it costs a request."""


def describe_setter(managed: Sequence[Mapping[str, Any]], place: Sequence[str]) -> str:
    """`set by kubectl-rollout at 2026-01-01T10:00:00Z`: whoever set what stands at a place; empty
    where nobody says so."""
    owners = [entry for entry in managed if _has_place(entry.get("fieldsV1") or {}, place)]
    return f"set by {_describe_newest(owners)}" if owners else ""


def describe_last_setter(managed: Sequence[Mapping[str, Any]]) -> str:
    """`the last to set anything was kubectl-edit at ...`; empty where that were we ourselves, as
    far as that is known."""
    setters = [entry for entry in managed if "f:spec" in (entry.get("fieldsV1") or {})]
    ours = max(
        (str(entry.get("time", "")) for entry in setters if entry.get("manager") == OWN_MANAGER),
        default="",
    )
    later = [
        entry
        for entry in setters
        if entry.get("manager") != OWN_MANAGER and str(entry.get("time", "")) > ours
    ]
    return f"the last to set anything was {_describe_newest(later)}" if later else ""


async def explain_difference(
    cluster: Cluster,
    path: str,
    found: Mapping[str, Any],
    differ: Callable[[Mapping[str, Any]], list[Difference]],
) -> str:
    """What an object differs in and who made it so, in words; empty where it does not differ.
    Raises nothing: who it was is said where the API server tells it."""
    differences = differ(found)
    if not differences:
        return ""
    key = (
        found["metadata"]["uid"],
        found["metadata"].get("resourceVersion"),
        len(differences),
        *differences[:MAX_DIFFERENCES_IN_MESSAGE],
    )
    known = _known.get(key)
    if known is not None:
        return known
    try:
        fresh = await cluster.managed(path)
    except NotFound:
        return f"{title_of(found)} is gone"
    except (Retryable, Permanent):
        return _describe_differences(found, differences, ())
    words = _describe_differences(
        fresh, differ(fresh), fresh["metadata"].get("managedFields") or ()
    )
    if fresh["metadata"].get("resourceVersion") == found["metadata"].get("resourceVersion"):
        _known.put(str(found["metadata"].get("namespace", "")), key, words)
    return words


def _describe_differences(
    found: Mapping[str, Any],
    differences: Sequence[Difference],
    managed: Sequence[Mapping[str, Any]],
) -> str:
    if not differences:
        return ""
    parts = [
        " ".join((item.words, *_describe_origin(item, managed)))
        for item in differences[:MAX_DIFFERENCES_IN_MESSAGE]
    ]
    more = len(differences) - MAX_DIFFERENCES_IN_MESSAGE
    return f"{title_of(found)} {'; '.join(parts)}" + (f"; and {more} more" if more > 0 else "")


def _describe_origin(item: Difference, managed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """In brackets: the container, and who it was."""
    who = describe_setter(managed, item.place) if item.place else describe_last_setter(managed)
    parts = [f"container {item.container}"] if item.container else []
    parts += [who] if who else []
    if parts:
        yield f"({'; '.join(parts)})"


def _has_place(fields: Mapping[str, Any], place: Sequence[str]) -> bool:
    for part in place:
        if part not in fields:
            return False
        fields = fields[part] or {}
    return True


def _describe_newest(entries: Sequence[Mapping[str, Any]]) -> str:
    entry = max(entries, key=lambda item: (str(item.get("time", "")), str(item.get("manager", ""))))
    time = f" at {entry['time']}" if entry.get("time") else ""
    return f"{entry.get('manager', 'somebody')}{time}"
