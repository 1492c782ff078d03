"""What an operation's objects look like now, without asking the API server where a watch has told.

While a Release works on an object, the newest of {our last write's answer, watch event} is kept
here, so that following a rollout costs no request. After a restart nothing is kept, and the first
look is a real one. A watch event that is older than our own write is ignored: watch caches may lag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from gatewright.core.hash_key import HashKey
from gatewright.ports import Cluster, Keep, NotFound, keep_whole_object
from gatewright.runtime.shares import NamespaceLimits

LOGS_AT_ONCE = 4
"""Logs of one namespace that are read at a time: a kubelet may take its time."""


class CachedCluster:
    """`ports.Cluster` that answers `get` from what is known of the paths that somebody follows."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, dict[str, Any] | None] = {}
        self._newest: dict[str, int] = {}
        self._followers: dict[str, set[tuple[str, str]]] = {}
        self._paths: dict[tuple[str, str], set[str]] = {}
        self._gaps = 0
        self._logs = NamespaceLimits(LOGS_AT_ONCE)

    def follow(self, key: tuple[str, str], paths: set[str]) -> None:
        """Follow exactly these paths for a Release from now on."""
        before = self._paths.get(key, set())
        for path in before - paths:
            self._followers[path].discard(key)
            if not self._followers[path]:
                self._drop_path(path)

        for path in paths - before:
            self._followers.setdefault(path, set()).add(key)

        if paths:
            self._paths[key] = set(paths)
        else:
            self._paths.pop(key, None)

    def follow_too(self, key: tuple[str, str], paths: set[str]) -> None:
        """Follow these paths for a Release as well."""
        self.follow(key, self._paths.get(key, set()) | paths)

    async def read_fresh(self, path: str) -> dict[str, Any]:
        """Return what the API server has now, whatever is known.

        Raises NotFound, Retryable, Permanent.
        """
        gaps = self._gaps
        return self._keep_answer(path, await self._cluster.get(path), gaps)

    def doubt(self, part: str) -> set[tuple[str, str]]:
        """Forget what is known of paths with this part: a watch had a gap.

        Returns the Releases that follow one.
        """
        self._gaps += 1
        doubtful = [path for path in self._followers if part in path]
        for path in doubtful:
            self._known.pop(path, None)

        keys: set[tuple[str, str]] = set()
        for path in doubtful:
            keys |= self._followers[path]

        return keys

    def event(self, path: str, kind: str | None, body: Mapping[str, Any]) -> set[tuple[str, str]]:
        """Take in a watch event; return the Releases that follow the object."""
        keys = self._followers.get(path)
        if not keys:
            return set()

        version = _version_of(body)

        # A watch may lag behind our own write.
        if version <= self._newest.get(path, 0):
            return set()

        self._newest[path] = version
        self._known[path] = None if kind == "DELETED" else dict(body)

        return set(keys)

    async def get(self, path: str) -> dict[str, Any]:
        if path in self._known:
            known = self._known[path]
            if known is None:
                raise NotFound(f"GET {path}: deleted")
            return known
        return await self.read_fresh(path)

    async def managed(self, path: str) -> dict[str, Any]:
        return await self._cluster.managed(path)

    async def list(
        self, path: str, selector: str = "", fields: str = "", *, keep: Keep = keep_whole_object
    ) -> list[dict[str, Any]]:
        return await self._cluster.list(path, selector, fields, keep=keep)

    async def tail(self, path: str, limit: int) -> str:
        async with self._logs.of(path.split("/")[4]):
            return await self._cluster.tail(path, limit)

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        gaps = self._gaps
        made = await self._cluster.create(path, body)
        # A review: a question that is answered, and no object.
        if "name" not in made.get("metadata", {}):
            return made
        return self._keep_answer(f"{path}/{made['metadata']['name']}", made, gaps)

    async def patch(
        self, path: str, body: Any, kind: Literal["json", "merge", "strategic"]
    ) -> dict[str, Any]:
        # Should the answer be lost, the next look is a real one.
        self._known.pop(path, None)
        gaps = self._gaps
        return self._keep_answer(path, await self._cluster.patch(path, body, kind), gaps)

    async def delete(self, path: str, selector: str = "", uid: str = "") -> None:
        self._known.pop(path, None)
        await self._cluster.delete(path, selector, uid)

    async def hash_key(self) -> HashKey:
        return await self._cluster.hash_key()

    def _keep_answer(self, path: str, body: dict[str, Any], gaps: int) -> dict[str, Any]:
        """Keep an answer, and return it.

        One that was asked for before a gap must not stand for what was missed in it.
        """
        version = _version_of(body)
        # What nobody follows is not told by anybody later.
        if gaps == self._gaps and path in self._followers and version >= self._newest.get(path, 0):
            self._newest[path] = version
            self._known[path] = body
        return body

    def _drop_path(self, path: str) -> None:
        for table in (self._followers, self._known, self._newest):
            table.pop(path, None)


class UncachedReader:
    """The same, but `get` always asks: for what an irreversible step depends on."""

    def __init__(self, lens: CachedCluster) -> None:
        self._lens = lens
        self.list, self.create = lens.list, lens.create
        self.patch, self.delete = lens.patch, lens.delete
        self.tail, self.managed = lens.tail, lens.managed
        self.hash_key = lens.hash_key

    async def get(self, path: str) -> dict[str, Any]:
        return await self._lens.read_fresh(path)


def _version_of(body: Mapping[str, Any]) -> int:
    text = str(body.get("metadata", {}).get("resourceVersion", "0"))
    return int(text) if text.isdigit() else 0
