"""Connections, ready to be used: found by kind or name, their Secrets read by name and kept for a short while.

A rotated Secret is used within `SECRET_AGE` seconds, without a restart. Whether a Connection works stands in its `Ready`
condition, written when that changes.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from gatewright.api import API_VERSION
from gatewright.api.base import SecretKeyRef, seconds
from gatewright.api.connection import ConnectionSpec
from gatewright.core.model import digest
from gatewright.core.times import stamp
from gatewright.ports import Cluster, Link, NotFound, Permanent, Retryable
from gatewright.providers.registry import CONNECTIONS
from gatewright.providers.validate import connection_problems
from gatewright.runtime.kube import path

SECRET_AGE = 30.0


class Links:
    """All Connections that are watched."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._objects: dict[str, dict[str, dict[str, Any]]] = {}
        self._secrets: dict[tuple[str, str], tuple[float, Mapping[str, str], str]] = {}
        self._ready: dict[tuple[str, str], tuple[str, str]] = {}
        self._said: dict[tuple[str, str], asyncio.Task[None]] = {}

    def event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """A watch event of a Connection; True when its spec is new."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        here = self._objects.setdefault(namespace, {})
        if kind == "DELETED":
            here.pop(name, None)
            self._ready.pop((namespace, name), None)
            return False
        old = here.get(name)
        here[name] = dict(body)
        return old is None or old["metadata"].get("generation") != body["metadata"].get("generation")

    async def open(self, namespace: str, kind: str, name: str | None) -> Link:
        """The named Connection of a kind, or the namespace's only one. Raises Retryable, Permanent."""
        found = self._find(namespace, kind, name)
        spec = ConnectionSpec.model_validate(found["spec"])
        provider, raw = spec.provider
        try:
            config = CONNECTIONS[provider].config.model_validate(raw)
        except ValidationError as error:
            raise Permanent(
                f"Connection {found['metadata']['name']}: {error.error_count()} problems in its spec"
            ) from None
        secrets, versions = await self._read(namespace, list(_references(config)))
        identity = digest([found["metadata"]["uid"], found["metadata"].get("generation"), versions])
        return Link(found["metadata"]["name"], identity, config, seconds(spec.timeout), secrets)

    async def check(self, namespace: str, name: str) -> None:
        """Ask whether a Connection works, and say so in its status."""
        found = self._objects.get(namespace, {}).get(name)
        if found is None:
            return
        try:
            problems = connection_problems(found["spec"])
            if problems:
                await self._say(namespace, name, "InvalidSpec", problems[0])
                return
            kind, _ = ConnectionSpec.model_validate(found["spec"]).provider
            await CONNECTIONS[kind].check(await self.open(namespace, kind, name))
        except (Retryable, Permanent) as error:
            await self._say(namespace, name, "NotReady", str(error))
        else:
            await self._say(namespace, name, "Ready", "the system answers and the credentials work")

    def used(self, namespace: str, name: str, error: Exception | None) -> None:
        """A measurement went through a Connection; a change of its readiness is written in the background."""
        reason = "Ready" if error is None else "NotReady"
        if (
            self._ready.get((namespace, name), ("", ""))[0] in (reason, "InvalidSpec")
            or (namespace, name) in self._said
        ):
            return
        task = asyncio.get_running_loop().create_task(self.check(namespace, name))
        self._said[namespace, name] = task
        task.add_done_callback(lambda _: self._said.pop((namespace, name), None))

    def _find(self, namespace: str, kind: str, name: str | None) -> dict[str, Any]:
        here = self._objects.get(namespace, {})
        fitting = {key: item for key, item in here.items() if kind in item.get("spec", {})}
        if name is not None:
            if name not in fitting:
                known = ", ".join(sorted(fitting)) or "none"
                raise Permanent(f'there is no {kind} Connection "{name}" in namespace {namespace} (there: {known})')
            return fitting[name]
        if len(fitting) != 1:
            known = ", ".join(sorted(fitting)) or "none"
            raise Permanent(
                f"namespace {namespace} has not exactly one {kind} Connection ({known}); name one by connection:"
            )
        return next(iter(fitting.values()))

    async def _read(self, namespace: str, refs: list[SecretKeyRef]) -> tuple[dict[tuple[str, str], str], list[str]]:
        values: dict[tuple[str, str], str] = {}
        versions: list[str] = []
        for ref in refs:
            data, version = await self._secret(namespace, ref.name)
            if ref.key not in data:
                raise Permanent(
                    f'Secret {ref.name} has no key "{ref.key}" (it has: {", ".join(sorted(data)) or "none"})'
                )
            values[ref.name, ref.key] = data[ref.key]
            versions.append(version)
        return values, versions

    async def _secret(self, namespace: str, name: str) -> tuple[Mapping[str, str], str]:
        now = asyncio.get_running_loop().time()
        kept = self._secrets.get((namespace, name))
        if kept is not None and now - kept[0] < SECRET_AGE:
            return kept[1], kept[2]
        try:
            found = await self._cluster.get(path("v1", "secrets", namespace, name))
        except NotFound:
            raise Permanent(f"there is no Secret {name} in namespace {namespace}") from None
        data = {key: base64.b64decode(value).decode(errors="replace") for key, value in found.get("data", {}).items()}
        self._secrets[namespace, name] = (now, data, found["metadata"]["resourceVersion"])
        return data, found["metadata"]["resourceVersion"]

    async def _say(self, namespace: str, name: str, reason: str, message: str) -> None:
        if self._ready.get((namespace, name)) == (reason, message):
            return
        found = self._objects.get(namespace, {}).get(name)
        if found is None:
            return
        old = next((item for item in found.get("status", {}).get("conditions", []) if item["type"] == "Ready"), None)
        status = "True" if reason == "Ready" else "False"
        if old is not None and (old["status"], old["reason"], old["message"]) == (status, reason, message):
            self._ready[namespace, name] = (reason, message)
            return
        now = stamp(datetime.now(UTC))[:19] + "Z"
        condition = {
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": message[:1000],
            "lastTransitionTime": old["lastTransitionTime"] if old and old["status"] == status else now,
            "observedGeneration": found["metadata"].get("generation", 0),
        }
        body = {"status": {"conditions": [condition], "observedGeneration": found["metadata"].get("generation", 0)}}
        try:
            await self._cluster.patch(path(API_VERSION, "connections", namespace, name, "status"), body, "merge")
        except (Retryable, Permanent):
            return
        self._ready[namespace, name] = (reason, message)


def _references(value: Any) -> Iterator[SecretKeyRef]:
    """Every Secret reference in a configuration."""
    if isinstance(value, SecretKeyRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
