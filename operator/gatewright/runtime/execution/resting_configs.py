"""ConfigMaps that are captured with targets, at rest: compared by what a watch of metadata tells.

    at rest     the hash of each is remembered, and nothing of what it holds
    one changes the watch tells that, and no more -> it is read once, and compared
    a gap       all of them are read once

One watch serves the whole cluster (with `--namespace`, one each), from when the first Release at
rest has captured a ConfigMap; so a Release at rest costs no request. What ConfigMaps hold is never
sent by it: they are many, and nearly all of them are of no interest. Secrets are never watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

from gatewright.core.model.holding import Holding, Standing
from gatewright.core.model.view import View
from gatewright.core.subject import is_of_kind
from gatewright.ports import NotFound
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.watch import Watch
from gatewright.runtime.cluster.wire import JUST_METADATA
from gatewright.runtime.execution.config_standings import config_path
from gatewright.runtime.execution.contents import describe_managers, hash_configmap
from gatewright.runtime.lookups import RestingConfig

Key = tuple[str, str]
OnChange = Callable[[Key, str], None]
"""Gets the key of a Release, and the path of a ConfigMap that has changed."""


class ConfigChanges:
    """Tells which ConfigMaps change that a Release at rest has captured."""

    def __init__(self, kube: Kube, namespaces: Collection[str], changed: OnChange) -> None:
        """`namespaces`: those that are worked in; none: all of them."""
        self._kube, self._changed = kube, changed
        self._namespaces = sorted(namespaces) or [""]
        self._watches: list[tuple[Watch, asyncio.Task[None]]] = []
        self._paths: dict[Key, set[str]] = {}
        self._followers: dict[str, set[Key]] = {}

    def follow(self, key: Key, paths: set[str]) -> None:
        """Tell of exactly these paths for a Release from now on; may be said again at each pass."""
        before = self._paths.get(key, set())
        if paths == before:
            return

        for path in before - paths:
            self._followers[path].discard(key)
            if not self._followers[path]:
                del self._followers[path]
        for path in paths - before:
            self._followers.setdefault(path, set()).add(key)

        if not paths:
            del self._paths[key]
            return
        self._paths[key] = set(paths)
        self._begin()

    def dead(self) -> str | None:
        """Return what is not watched any more, if one of the watches hangs."""
        return next(filter(None, (watch.dead() for watch, _ in self._watches)), None)

    def ended(self) -> str | None:
        """Return which watch runs no more."""
        for watch, task in self._watches:
            if task.done():
                return f"the metadata watch of {watch.collection}"
        return None

    async def close(self) -> None:
        """End all watches."""
        tasks = [task for _, task in self._watches]
        for task in tasks:
            task.cancel()
        self._watches = []
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        # From then on for good: a Release that rests once will rest again.
        if self._watches:
            return
        for namespace in self._namespaces:
            watch = Watch(
                self._kube,
                "v1",
                "configmaps",
                namespace,
                "",
                self._take_event,
                self._take_gap,
                accept=JUST_METADATA,
            )
            task = asyncio.get_running_loop().create_task(watch.run())
            self._watches.append((watch, task))

    def _take_event(self, path: str, kind: str, body: dict[str, Any]) -> None:
        for key in tuple(self._followers.get(path, ())):
            self._changed(key, path)

    def _take_gap(self, part: str) -> None:
        """Take all of them for changed: also when the watch begins, as some were read before."""
        for path, keys in tuple(self._followers.items()):
            for key in tuple(keys):
                self._changed(key, path)


def resting_paths(view: View, holdings: Collection[Holding]) -> set[str]:
    """Return the paths of ConfigMaps that are compared at rest; none while a run is under way."""
    if view.run is not None:
        return set()
    return {config_path(view.namespace, item.subject) for item in holdings if is_config(item)}


def is_config(holding: Holding) -> bool:
    """Return whether a ConfigMap is held."""
    return is_of_kind(holding.subject, "configmap")


async def compare_resting(
    cluster: CachedCluster,
    known: dict[str, RestingConfig],
    view: View,
    holding: Holding,
    snapshot: Mapping[str, Any],
) -> Standing:
    """Return how a captured ConfigMap differs from what was promoted, or left.

    `known`: what is remembered, by path; whoever is told of a change takes it out. Raises
    Retryable, Permanent.
    """
    path = config_path(view.namespace, holding.subject)
    resting = known.get(path)
    if resting is None:
        # It stands there while it is read: a change meanwhile takes it out, and it is read again.
        resting = known[path] = RestingConfig()
        try:
            await _read_resting(cluster, path, snapshot["hash"], resting)
        except BaseException:
            known.pop(path, None)
            raise

    if resting.hash == snapshot["hash"]:
        return Standing()
    if not resting.hash:
        return Standing(difference=f"{holding.subject} is gone: somebody has deleted it")
    words = "does not hold what it did at the end of the last run"
    return Standing(difference=f"{holding.subject} {words}{resting.managers}")


async def _read_resting(
    cluster: CachedCluster, path: str, wanted: str, resting: RestingConfig
) -> None:
    try:
        config = await cluster.read_fresh(path)
        if hash_configmap(config) != wanted:
            config = await cluster.managed(path)
            resting.managers = describe_managers(config)
        resting.hash = hash_configmap(config)
    except NotFound:
        resting.hash = ""
