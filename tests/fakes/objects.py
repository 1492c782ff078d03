"""An API server for ConfigMaps, Secrets and ControllerRevisions, in memory.

It keeps the rules that matter to whoever writes there: names are taken once, a write that names
another version is refused, merge patches merge, null takes away, what is immutable stays, no key
stands in two fields, and each key is owned by whoever set it last. Every write is one second later
than the one before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import unquote

from gatewright.core.hash_key import KEY_BYTES, HashKey
from gatewright.ports import Conflict, Keep, NotFound, Permanent, keep_whole_object

OPERATOR = "gatewright"
FIELDS = ("data", "binaryData")


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    """Whether labels are as a part of a selector wants them: `key=value`, or `key` alone."""
    label, equals, value = wanted.partition("=")
    return labels.get(label) == value if equals else label in labels


class Objects:
    """`ports.Cluster`, and what people do there beside it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        """Each request of the operator: verb and path."""
        self.refusals: dict[tuple[str, str], Exception] = {}
        """What the next request of that verb and path is answered with."""
        self.allows = True
        """Whether the operator has the rights that it asks about."""
        self.key: HashKey | Exception = HashKey(b"k" * KEY_BYTES)
        """What hashes of Secrets are made with, or why there is none."""
        self._version = 100

    # The operator's side

    async def get(self, path: str) -> dict[str, Any]:
        found = self._read("get", path)
        found["metadata"].pop("managedFields", None)
        return found

    async def managed(self, path: str) -> dict[str, Any]:
        return self._read("managed", path)

    async def hash_key(self) -> HashKey:
        if isinstance(self.key, Exception):
            raise self.key
        return self.key

    async def list(
        self,
        path: str,
        selector: str = "",
        fields: str = "",
        accept: str = "",
        *,
        keep: Keep = keep_whole_object,
        most: int = 0,
    ) -> list[dict[str, Any]]:
        self._ask("list", path)
        wanted = selector.split(",")
        found = [item for where, item in self.objects.items() if where.rpartition("/")[0] == path]
        found = [
            item
            for item in found
            if all(_has(item["metadata"].get("labels", {}), one) for one in wanted)
        ]
        alone = "PartialObjectMetadata" in accept
        listed = [
            copy.deepcopy({"metadata": item["metadata"]} if alone else item) for item in found
        ]
        return [kept for item in listed if (kept := keep(item)) is not None]

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if path.endswith("/selfsubjectaccessreviews"):  # a question, which makes nothing
            return {"status": {"allowed": self.allows}}
        self._ask("create", path)
        return self.make(path, body, OPERATOR)

    async def patch(
        self, path: str, body: Any, kind: Literal["json", "merge", "strategic"]
    ) -> dict[str, Any]:
        self._ask("patch", path)
        assert kind == "merge", "ConfigMaps and Secrets are patched by merging"
        found = self._found(path)
        if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise Conflict(f"PATCH {path}: 409 the object has been modified")
        return self._store(path, _merged(found, body), OPERATOR)

    async def delete(self, path: str, selector: str = "", uid: str = "") -> None:
        self._ask("delete", path)
        if path not in self.objects:
            return
        if uid and self.objects[path]["metadata"]["uid"] != uid:
            raise Conflict(f"DELETE {path}: 409 another object")
        del self.objects[path]

    async def tail(self, path: str, limit: int) -> str:
        raise NotFound(f"GET {path}: no logs here")

    # Everybody's side

    def make(self, path: str, body: Mapping[str, Any], by: str) -> dict[str, Any]:
        """Somebody creates an object."""
        where = f"{path}/{body['metadata']['name']}"
        if where in self.objects:
            raise Conflict(f"POST {where}: 409 already exists")
        made = copy.deepcopy(dict(body))
        made["metadata"] |= {"uid": f"uid-{self._version}"}
        return self._store(where, made, by)

    def write(self, path: str, change: Mapping[str, Any], by: str) -> None:
        """Somebody merges a change, whatever the version is."""
        self._store(path, _merged(self._found(path), change), by)

    def remove(self, path: str) -> None:
        """Somebody deletes an object."""
        del self.objects[path]

    def writes(self) -> list[str]:
        """The operator's requests that change something."""
        return [verb for verb, _ in self.asked if verb in ("create", "patch", "delete")]

    # Inside

    def _ask(self, verb: str, path: str) -> None:
        self.asked.append((verb, unquote(path)))
        refusal = self.refusals.pop((verb, path), None)
        if refusal is not None:
            raise refusal

    def _read(self, verb: str, path: str) -> dict[str, Any]:
        self._ask(verb, path)
        return copy.deepcopy(self._found(path))

    def _found(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise NotFound(f"GET {path}: 404 not found")
        return self.objects[path]

    def _store(self, path: str, new: dict[str, Any], by: str) -> dict[str, Any]:
        old = self.objects.get(path, {"metadata": {}})
        if old.get("immutable") and any(old.get(field) != new.get(field) for field in FIELDS):
            raise Permanent(f"PATCH {path}: 422 field is immutable when `immutable` is set")
        if set(new.get("data") or {}) & set(new.get("binaryData") or {}):
            raise Permanent(f"PATCH {path}: 422 duplicate of key present in data")
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)
        new["metadata"]["managedFields"] = _owners(
            old, new, by, f"2026-01-01T00:00:{self._version - 100:02}Z"
        )
        self.objects[path] = new
        return copy.deepcopy(new)


def _merged(target: Any, change: Any) -> Any:
    """RFC 7396."""
    if not isinstance(change, Mapping):
        return change
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _owners(
    old: Mapping[str, Any], new: Mapping[str, Any], by: str, now: str
) -> list[dict[str, Any]]:
    """Who owns which key, as the API server would say it."""
    changed = {
        (field, key)
        for field in FIELDS
        for key in {**(old.get(field) or {}), **(new.get(field) or {})}
        if (old.get(field) or {}).get(key) != (new.get(field) or {}).get(key)
    }
    there = {(field, key) for field in FIELDS for key in new.get(field) or {}}
    owned: dict[str, tuple[str, set[tuple[str, str]]]] = {
        entry["manager"]: (entry["time"], (_keys(entry) & there) - changed)
        for entry in old["metadata"].get("managedFields", [])
    }
    owned[by] = (now, owned.get(by, ("", set()))[1] | (changed & there))
    return [
        _entry(manager, time, keys)
        for manager, (time, keys) in owned.items()
        if keys or manager == by
    ]


def _keys(entry: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {
        (field.removeprefix("f:"), key.removeprefix("f:"))
        for field, keys in entry["fieldsV1"].items()
        for key in keys
        if key != "."
    }


def _entry(manager: str, time: str, keys: set[tuple[str, str]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for field, key in sorted(keys):
        tree.setdefault(f"f:{field}", {".": {}})[f"f:{key}"] = {}
    return {
        "manager": manager,
        "operation": "Update",
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": tree,
    }
