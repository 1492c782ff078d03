"""Watches of ConfigMaps, only where and while some run has changed one.

    a run changes a ConfigMap -> the namespace is watched
        -> the last such run lets go -> `LINGER_S` seconds later it is not

ConfigMaps are many, and nearly all of them are of no interest; so there is no watch for the whole
cluster, and none in a namespace at rest. A busy namespace keeps its watch from one run to the next.
Secrets are never watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.watch import OnEvent, Watch

LINGER_S = 30.0
"""Seconds for which a namespace is watched after the last run there has let go."""

Key = tuple[str, str]


class ConfigWatches:
    """The namespaces whose ConfigMaps are watched, and for whom."""

    def __init__(
        self, kube: Kube, told: OnEvent, gap: Callable[[str], None], linger: float = LINGER_S
    ) -> None:
        self._kube, self._told, self._gap, self._linger = kube, told, gap, linger
        self._holders: dict[str, set[Key]] = {}
        self._watches: dict[str, tuple[Watch, asyncio.Task[None]]] = {}
        self._ends: dict[str, asyncio.TimerHandle] = {}

    def follow(self, key: Key, namespace: str, has_changed: bool) -> None:
        """Watch a namespace while the run of a Release has changed a ConfigMap in it.

        May be said again at each pass.
        """
        if not has_changed:
            self._drop_holder(key, namespace)
            return

        self._holders.setdefault(namespace, set()).add(key)

        # A busy namespace keeps its watch from one run to the next.
        ending = self._ends.pop(namespace, None)
        if ending is not None:
            ending.cancel()

        if namespace not in self._watches:
            watch = Watch(self._kube, "v1", "configmaps", namespace, "", self._told, self._gap)
            self._watches[namespace] = watch, asyncio.get_running_loop().create_task(watch.run())

    def dead(self) -> str | None:
        """Return what is not watched any more, if one of the watches hangs."""
        return next(filter(None, (watch.dead() for watch, _ in self._watches.values())), None)

    def ended(self) -> str | None:
        """Return which watch runs no more although somebody needs it."""
        for watch, task in self._watches.values():
            if task.done():
                return f"the watch of {watch.collection}"
        return None

    async def close(self) -> None:
        """End all watches."""
        tasks = [task for _, task in self._watches.values()]
        for ending in self._ends.values():
            ending.cancel()
        for task in tasks:
            task.cancel()
        for table in (self._holders, self._watches, self._ends):
            table.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop_holder(self, key: Key, namespace: str) -> None:
        holders = self._holders.get(namespace, set())
        holders.discard(key)
        if not holders and namespace in self._watches and namespace not in self._ends:
            self._holders.pop(namespace, None)
            self._ends[namespace] = asyncio.get_running_loop().call_later(
                self._linger, self._end_watch, namespace
            )

    def _end_watch(self, namespace: str) -> None:
        del self._ends[namespace]
        _, task = self._watches.pop(namespace)
        task.cancel()
