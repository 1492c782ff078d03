"""What really happened: every version of the objects that matter, and every write, from the API
server alone.

Resource versions are revisions of one etcd, so they order everything that was ever written, whoever
wrote it and whatever the clocks say. A watch begins before the operator does and must never have a
gap: where the API server says 410, the recording is torn and says so instead of passing for whole.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.cluster.audit import user_of
from tests.harness.api import Api
from tests.harness.loop import Background
from tests.harness.proxy import INSTANCE, resource_of

WATCHED = {
    "releases": "/apis/gatewright.dev/v1alpha1/releases",
    "runbooks": "/apis/gatewright.dev/v1alpha1/runbooks",
    "deployments": "/apis/apps/v1/deployments",
    "configmaps": "/api/v1/configmaps",
    "jobs": "/apis/batch/v1/jobs",
}
MUTATING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_AGENT = re.compile(re.escape(INSTANCE) + r"(\d+)")


class Torn(RuntimeError):
    """The watch lost events; nothing may be concluded from it."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; `at` is the Unix time at which the watch delivered it."""

    rv: int
    at: float
    body: Mapping[str, Any]
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """One write as the audit log has it. Bodies are empty where the audit level leaves them out."""

    verb: str
    resource: str
    namespace: str
    name: str
    user: str
    agent: str
    code: int
    received: float
    completed: float
    request: Any = None
    response: Any = None
    rv: int = 0
    """Resource version of the object after the write; 0 where the answer has none."""

    @property
    def instance(self) -> int | None:
        """Which life of the operator sent it, as the proxy noted."""
        match = _AGENT.search(self.agent)
        return int(match[1]) if match else None

    @property
    def done(self) -> bool:
        return 200 <= self.code < 300

    def __str__(self) -> str:
        return (
            f"{self.verb} {self.resource} {self.namespace}/{self.name} by {self.user} -> "
            f"{self.code} (rv {self.rv})"
        )


@dataclass(slots=True)
class Histories:
    """Every version of every object, by resource, namespace and name."""

    known: dict[tuple[str, str, str], list[Version]] = field(default_factory=dict)

    def add(self, resource: str, body: Mapping[str, Any], at: float, gone: bool = False) -> None:
        meta = body["metadata"]
        versions = self.known.setdefault((resource, meta.get("namespace", ""), meta["name"]), [])
        rv = int(meta["resourceVersion"])
        if not versions or rv > versions[-1].rv:
            versions.append(Version(rv, at, body, gone))

    def of(self, resource: str, namespace: str) -> dict[str, list[Version]]:
        """Versions by name, in order."""
        return {
            key[2]: list(found)
            for key, found in list(self.known.items())
            if key[:2] == (resource, namespace)
        }


class Recording:
    """Watches everything in WATCHED, from its start to its `close`."""

    def __init__(
        self, background: Background, api: Api, resources: Mapping[str, str] = WATCHED
    ) -> None:
        self._api, self._background = api, background
        self.histories = Histories()
        self.torn: str | None = None
        self._changed = asyncio.Event()
        for resource, path in resources.items():
            version = background.run(self._list(resource, path))
            background.spawn(self._follow(resource, path, version))

    def of(self, resource: str, namespace: str) -> dict[str, list[Version]]:
        if self.torn:
            raise Torn(self.torn)
        return self.histories.of(resource, namespace)

    def newest(self, resource: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The last version of an object; None where it is not there (any more)."""
        if self.torn:
            raise Torn(self.torn)
        versions = self.histories.known.get((resource, namespace, name))
        return versions[-1].body if versions and not versions[-1].gone else None

    async def _list(self, resource: str, path: str) -> str:
        found = await self._api.call("GET", path)
        for body in found["items"]:
            self.histories.add(resource, body, time.time())
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, resource: str, path: str, version: str) -> None:
        while True:
            try:
                async for event in self._api.watch(path, version):
                    version = self._take(resource, event, version)
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
            except (Torn, RuntimeError) as error:
                self.torn = f"{resource}: {error}"
                return

    def _take(self, resource: str, event: Mapping[str, Any], version: str) -> str:
        if event["type"] == "ERROR":
            raise Torn(f"watch error {event['object']}")
        body = event["object"]
        if event["type"] != "BOOKMARK":
            body["metadata"].pop("managedFields", None)
            self.histories.add(resource, body, time.time(), event["type"] == "DELETED")
        return str(body["metadata"]["resourceVersion"])


class Audit:
    """The audit log, read on from where the last look ended; only writes are kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.writes: list[Write] = []
        self.trials: list[Write] = []
        """Dry runs: nothing was written by them."""

    def read(self) -> list[Write]:
        """All writes so far."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                event = json.loads(line)
                if event["verb"] in MUTATING and "objectRef" in event:
                    (self.trials if "dryRun=" in event["requestURI"] else self.writes).append(
                        write_of(event)
                    )
        return self.writes

    def of(self, namespace: str) -> list[Write]:
        """Completed writes in a namespace, in the order in which the API server received them."""
        return sorted(
            (one for one in self.read() if one.namespace == namespace), key=lambda one: one.received
        )


def write_of(event: Mapping[str, Any]) -> Write:
    """A write from its audit event."""
    ref, response = event["objectRef"], event.get("responseObject")
    meta = response.get("metadata", {}) if isinstance(response, dict) else {}
    code = event.get("responseStatus", {}).get("code", 0)
    name = ref.get("name") or (
        meta.get("name", "") if code < 400 else _name(event.get("requestObject"))
    )
    return Write(
        verb=event["verb"],
        resource=f"{ref['resource']}/{ref['subresource']}"
        if ref.get("subresource")
        else ref["resource"],
        namespace=ref.get("namespace", ""),
        name=name,
        user=user_of(event),
        agent=event.get("userAgent", ""),
        code=code,
        received=unix(event["requestReceivedTimestamp"]),
        completed=unix(event["stageTimestamp"]),
        request=event.get("requestObject"),
        response=response,
        rv=int(meta.get("resourceVersion") or 0) if code < 400 else 0,
    )


def _name(body: Any) -> str:
    return str(body.get("metadata", {}).get("name", "")) if isinstance(body, dict) else ""


def unix(text: str) -> float:
    """Unix time of an RFC 3339 time."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Leaks:
    """Looks for seeds in files that grow, plainly and in base64; audited bodies of Secrets
    themselves are left out."""

    def __init__(self, seeds: Sequence[str]) -> None:
        forms = [
            form
            for seed in seeds
            for form in (seed, base64.b64encode(seed.encode()).decode().rstrip("="))
        ]
        self._forms = [form.encode() for form in forms]
        self._offsets: dict[Path, int] = {}
        self.found: list[str] = []

    def read(self, paths: Iterable[Path]) -> list[str]:
        """Where a seed stands, in everything that was written so far."""
        for path in paths:
            with path.open("rb") as file:
                start = self._offsets.get(path, 0)
                file.seek(start)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._offsets[path] = start + len(whole)
            if any(form in whole for form in self._forms):
                self.found += [
                    f"{path.name}: {line[:300]!r}"
                    for line in whole.splitlines()
                    if self._tells(line)
                ]
        return self.found

    def _tells(self, line: bytes) -> bool:
        return b'"resource":"secrets"' not in line and any(form in line for form in self._forms)


__all__ = [
    "Audit",
    "Histories",
    "Leaks",
    "Recording",
    "Torn",
    "Version",
    "Write",
    "resource_of",
    "unix",
    "write_of",
]
