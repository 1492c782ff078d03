"""What a ConfigMap or Secret holds, what operations want it to hold, and where the two differ.

Pure.

    content   key -> (field, value); the field is `data` or `binaryData`, and a key never stands in
              both
    wanted    what the operations want, taken together in their order: single keys, or all there is
              (a whole restore)

A value is said only of a key that a run has set in a ConfigMap, and not if it looks like a secret;
of anything else, and of every Secret, the names of keys alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewright.core.fingerprints import fingerprint
from gatewright.core.model.operation import Operation
from gatewright.core.subject import is_of_kind
from gatewright.core.text.masking import MOST_TEXT_CHARS, join_lines, mask_secrets
from gatewright.ports import Permanent
from gatewright.providers.error_messages import quote_value

CONTENT_FIELDS = ("data", "binaryData")
OWN_MANAGER = "gatewright"
"""Field manager of this operator: the API server takes it from the User-Agent."""
MAX_NAMES_IN_MESSAGE = 5
"""So many keys, or people, are named in one sentence."""

Content = dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class WantedContent:
    """What a ConfigMap or Secret is to hold."""

    keys: Mapping[str, tuple[str, str] | None]
    """Field and value by key; None for a key that must not be there."""
    whole: bool = False
    """No other key may be there."""
    told: frozenset[str] = frozenset()
    """Keys that the run has set, whose values may be said."""

    def differing_keys(self, have: Content) -> list[str]:
        """Return the keys that are not as they should be, in their order."""
        names = {*self.keys, *have} if self.whole else set(self.keys)
        return sorted(name for name in names if have.get(name) != self.keys.get(name))

    def change(self, have: Content) -> dict[str, dict[str, str | None]]:
        """Return the merge patch of `data` and `binaryData` that leads to what is wanted."""
        patch: dict[str, dict[str, str | None]] = {}
        for name in self.differing_keys(have):
            # A key may stand in the other field: there it has to go.
            if name in have:
                patch.setdefault(have[name][0], {})[name] = None
            target = self.keys.get(name)
            if target is not None:
                patch.setdefault(target[0], {})[name] = target[1]

        return patch


def content_of(holder: Mapping[str, Any]) -> Content:
    """Return what an object, or a snapshot of one, holds."""
    content: Content = {}
    for field in CONTENT_FIELDS:
        for name, value in (holder.get(field) or {}).items():
            content[name] = (field, value)
    return content


def fields_of(have: Content) -> dict[str, dict[str, str]]:
    """Return the same as an object has it; a field without keys is left out."""
    fields: dict[str, dict[str, str]] = {}
    for name, (field, value) in have.items():
        fields.setdefault(field, {})[name] = value
    return fields


def hash_configmap(holder: Mapping[str, Any]) -> str:
    """Return 128 bits over the content of a ConfigMap."""
    return fingerprint({field: holder.get(field) or {} for field in CONTENT_FIELDS})


def fold_operations(
    operations: Sequence[Operation], snapshot: Mapping[str, Any] | None
) -> WantedContent:
    """Return what operations on a ConfigMap want, taken together in order. Raises Permanent."""
    keys: dict[str, tuple[str, str] | None] = {}
    whole = False

    told: set[str] = set()
    for operation in operations:
        if operation.kind == "set":
            values = operation.config["set"]
            keys |= {name: ("data", value) for name, value in values.items()}
            told |= set(values)
            continue

        if operation.kind != "restore":
            raise Permanent(
                f"{operation.subject}: nobody knows how to {operation.kind} a ConfigMap"
            )
        if snapshot is None:
            raise Permanent(f"there is no snapshot of {operation.subject}")

        before, ours = content_of(snapshot), keys_set(operation.changes)
        told |= ours
        whole = whole or is_whole(operation)
        keys = dict(before) if whole else keys | {name: before.get(name) for name in ours}

    return WantedContent(keys, whole, frozenset(told))


def is_whole(operation: Operation) -> bool:
    """Return whether a `restore` returns all of the content.

    That of a captured ConfigMap or Secret it does.
    """
    if is_of_kind(operation.subject, "secret"):
        return True
    return bool((operation.config or {}).get("captured", True))


def keys_set(operations: Iterable[Operation]) -> set[str]:
    """Return the keys that operations have set."""
    keys: set[str] = set()
    for operation in operations:
        if operation.kind == "set":
            keys |= set(operation.config["set"])
    return keys


# Words


def describe_difference(subject: str, wanted: WantedContent, obj: Mapping[str, Any]) -> str:
    """Return what an object has instead, who made it so, and when; empty: nothing.

    It was read with its managed fields.
    """
    have = content_of(obj)
    differing = wanted.differing_keys(have)
    if not differing:
        return ""

    told = [name for name in differing if name in wanted.told]
    others = [name for name in differing if name not in wanted.told]
    parts = [
        _describe_key(name, have.get(name), wanted.keys.get(name))
        for name in told[:MAX_NAMES_IN_MESSAGE]
    ]

    if len(told) > MAX_NAMES_IN_MESSAGE:
        parts.append(f"{len(told) - MAX_NAMES_IN_MESSAGE} more of its keys")
    if others:
        parts.append(f"{list_names(others)} not as in its snapshot")

    return f"{subject}: {'; '.join(parts)}{describe_managers(obj, differing)}"


def list_names(names: Sequence[str]) -> str:
    """Return names of keys in a row, not too many."""
    more = len(names) - MAX_NAMES_IN_MESSAGE
    return ", ".join(names[:MAX_NAMES_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")


def describe_managers(obj: Mapping[str, Any], keys: Iterable[str] | None = None) -> str:
    """Return who has set keys (None: anything) last and when, in parentheses.

    An object's managed fields tell that. Nobody owns a key that was taken away: then it is whoever
    wrote last, if that was after us.
    """
    entries = obj["metadata"].get("managedFields") or []
    owners = _owners_of(entries, None if keys is None else set(keys))
    strangers = [entry for entry in owners if not _is_own(entry)]
    if strangers or owners:
        latest = sorted(strangers or owners, key=_time_of, reverse=True)[:MAX_NAMES_IN_MESSAGE]
        names = dict.fromkeys(_name_and_time(entry) for entry in latest)
        return f" (set by {', '.join(names)})"

    since = max((_time_of(entry) for entry in entries if _is_own(entry)), default="")
    later = [entry for entry in entries if not _is_own(entry) and _time_of(entry) >= since]
    return f" (last written by {_name_and_time(max(later, key=_time_of))})" if later else ""


def _owners_of(
    entries: Iterable[Mapping[str, Any]], keys: set[str] | None
) -> list[Mapping[str, Any]]:
    """Return the entries of managers that own one of the keys (None: any key of content)."""
    owners = []
    for entry in entries:
        owned = _owned_keys(entry)
        if owned and (keys is None or owned & keys):
            owners.append(entry)
    return owners


def _is_own(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == OWN_MANAGER


def _describe_key(name: str, have: tuple[str, str] | None, wanted: tuple[str, str] | None) -> str:
    if wanted is None:
        return f"{name} is {_show_value(name, have)} and should not be there"
    return f"{name} is {_show_value(name, have)} instead of {_show_value(name, wanted)}"


def _show_value(name: str, content: tuple[str, str] | None) -> str:
    if content is None:
        return "missing"

    field, value = content
    if field != "data":
        return "binary content"

    # What is shown of it is far shorter.
    line = join_lines(value[:MOST_TEXT_CHARS].splitlines())
    return quote_value(line) if mask_secrets(f"{name}={line}") == f"{name}={line}" else "***"


def _owned_keys(entry: Mapping[str, Any]) -> set[str]:
    """Return the keys of content that a manager owns."""
    tree = entry.get("fieldsV1") or {}
    keys: set[str] = set()
    for field in CONTENT_FIELDS:
        parts = tree.get(f"f:{field}", {})
        keys |= {part.removeprefix("f:") for part in parts if part.startswith("f:")}
    return keys


def _time_of(entry: Mapping[str, Any]) -> str:
    return str(entry.get("time") or "")


def _name_and_time(entry: Mapping[str, Any]) -> str:
    name = join_lines([str(entry.get("manager") or "")]) or "somebody"
    return f"{name} at {_time_of(entry)}" if _time_of(entry) else name
