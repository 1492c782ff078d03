"""Interventions: who asks for what, and telling them what came of it.

    event, list -> identity proved? -> pending(key) -> the core decides, the Release's status says so
                                                                       -> tell -> the Intervention's own status

The Release's status is the record; an Intervention's own status follows it, and until it does, the
Intervention is told to the core again and again, which knows it by its UID. Events of the past (a
watch may be late) are known by their resourceVersion, so that what was answered is never taken for
new.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from gatewright.api import API_VERSION
from gatewright.api.intervention import InterventionSpec
from gatewright.core.model import Intervention
from gatewright.core.run.clocks import format_time
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime import admission_probe
from gatewright.runtime.cluster.kube import METADATA_ONLY, Kube, api_path
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.shares import NamespaceLimits
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import Key

PLURAL = "interventions"
RETRY_DELAYS_S = (0.2, 1.0, 2.0, 5.0, 10.0)
MAX_PENDING = 32
"""What is asked of one Release and told to a pass; more than
`core.model.MOST_UNREPORTED_ANSWERS`."""
WRITES_AT_ONCE = 4
"""Interventions of one namespace that are told at a time what came of them."""
BACKWARD_ACTIONS = ("Rollback", "Abort", "Reject")
"""What may lead back, and is urgent."""

log = logging.getLogger("gatewright.people")


@dataclass(slots=True, eq=False)
class _OpenIntervention:
    """An Intervention that is not answered, and where it stands in the order."""

    act: Intervention
    order: tuple[str, int, str]
    judged: bool = False
    """Whether it is known if the API server proved whose act it is; what it does not prove stands
    in `act.doubt`."""


class _OpenInterventions:
    """What is asked of one Release and not answered yet, the oldest first; there may be
    thousands."""

    def __init__(self) -> None:
        self._items: dict[str, _OpenIntervention] = {}
        self._order: list[tuple[tuple[str, int, str], str]] = []
        self.back = 0
        """How many of them may lead back."""

    def __contains__(self, uid: str) -> bool:
        return uid in self._items

    def __len__(self) -> int:
        return len(self._items)

    def put(
        self, uid: str, act: Intervention, order: tuple[str, int, str], judged: bool
    ) -> _OpenIntervention:
        """Add one; one that is there keeps its place."""
        old = self.pop(uid)
        item = self._items[uid] = _OpenIntervention(
            act, old.order if old is not None else order, judged
        )
        bisect.insort(self._order, (item.order, uid))
        self.back += act.action in BACKWARD_ACTIONS
        return item

    def pop(self, uid: str) -> _OpenIntervention | None:
        """Take one out, if it is in."""
        item = self._items.pop(uid, None)
        if item is not None:
            del self._order[bisect.bisect_left(self._order, (item.order, uid))]
            self.back -= item.act.action in BACKWARD_ACTIONS
        return item

    def oldest(self, most: int) -> list[_OpenIntervention]:
        """Return the first of them."""
        return [self._items[uid] for _, uid in self._order[:most]]

    def items(self) -> list[tuple[str, _OpenIntervention]]:
        """Return all of them, by UID."""
        return list(self._items.items())


class Interventions:
    """All Interventions that are watched; in full only those that are not answered yet."""

    def __init__(self, kube: Kube, told: Callable[[Key], None], trust: bool = False) -> None:
        self._kube = kube
        self._told = told
        self._trust = trust
        self._judging: dict[str, asyncio.Task[None]] = {}
        self._open: dict[Key, _OpenInterventions] = {}
        self._unjudged: dict[str, dict[str, tuple[Key, _OpenIntervention]]] = {}
        """By namespace and UID."""
        self._seen: dict[str, int] = {}
        self._answer_tasks: dict[str, asyncio.Task[None]] = {}
        self._shares = NamespaceLimits(WRITES_AT_ONCE)

    def event(self, kind: str | None, body: Mapping[str, Any]) -> Key | None:
        """A watch event, or what a list has; the Release that should be looked at, if any."""
        meta = body["metadata"]
        uid, version = meta["uid"], int(meta["resourceVersion"])
        key = (meta["namespace"], str((body.get("spec") or {}).get("release", "")))

        if kind == "DELETED":
            self._seen.pop(uid, None)
            return self._drop_intervention(key, uid)

        if version <= self._seen.get(uid, -1):
            return None

        self._seen[uid] = version

        if (body.get("status") or {}).get("result"):
            return self._drop_intervention(key, uid)

        try:
            act = _intervention_of(meta, body.get("spec"))
        except ValidationError as error:
            self._begin_answer(
                key, uid, meta["name"], "Refused", f"its spec has {error.error_count()} problems"
            )
            return None

        here = self._open.setdefault(key, _OpenInterventions())
        item = here.put(
            uid, act, (meta.get("creationTimestamp", ""), version, meta["name"]), self._trust
        )

        if not self._trust:
            self._unjudged.setdefault(key[0], {})[uid] = key, item

        return key

    def pending(self, key: Key) -> tuple[Intervention, ...]:
        """Return the oldest that are not answered yet.

        Nothing overtakes one that is not judged yet.
        """
        here = self._open.get(key)
        if not here:
            return ()
        items = here.oldest(MAX_PENDING)
        judged = list(itertools.takewhile(lambda item: item.judged, items))
        if len(judged) < len(items):
            self._begin_judging(key[0])
        return tuple(item.act for item in judged)

    def wants_back(self, key: Key) -> bool:
        """Return whether somebody asks for the way back, and has no answer yet."""
        here = self._open.get(key)
        return here is not None and here.back > 0

    def waiting(self) -> Iterable[Key]:
        """Releases that somebody has asked something of."""
        return list(self._open)

    async def announce_doubt(self, namespaces: Iterable[str]) -> None:
        """Say at start where Interventions will be refused, before somebody needs one."""
        if self._trust:
            log.warning(
                "Interventions are taken at their word, whoever made them (--trust-interventions)"
            )
            return

        for namespace in namespaces:
            try:
                why = await admission_probe.probe_interventions(self._kube, namespace)
            except (Retryable, LeaseLost) as error:
                why = str(error)
            if why:
                log.error("Interventions are refused: %s", why)

    def tell(self, key: Key, status: Mapping[str, Any]) -> None:
        """Whatever stands in a Release's written status is told in the background, until it is
        known to have arrived."""
        here = self._open.get(key)
        if not here:
            return

        for item in status.get("interventions", ()):
            if item["uid"] in here:
                said = {
                    name: item[name]
                    for name in ("message", "run", "specHash", "at")
                    if name in item
                }
                self._begin_answer(key, item["uid"], item["name"], item["result"], **said)

    def refuse(self, key: Key, message: str) -> None:
        """Nobody is there who could act: whatever is asked of this Release is refused."""
        here = self._open.pop(key, None)
        for uid, item in here.items() if here is not None else ():
            self._stop_judging(key[0], uid)
            self._begin_answer(key, uid, item.act.name, "Refused", message)

    async def relist(self, namespaces: Iterable[str], first: bool = False) -> list[Key]:
        """Find what the watch did not tell; at first everything is read.

        Raises Retryable, Permanent.
        """
        keys: list[Key] = []

        if first:
            self._open.clear()
            self._unjudged.clear()
            self._seen.clear()

        known, there = set(self._seen), set()

        for namespace in namespaces:
            collection = api_path(API_VERSION, PLURAL, namespace)
            accept = "application/json" if first else METADATA_ONLY
            async for item in self._kube.each(collection, accept=accept):
                meta = item["metadata"]
                there.add(meta["uid"])

                if not first and int(meta["resourceVersion"]) <= self._seen.get(meta["uid"], -1):
                    continue

                try:
                    found = (
                        item
                        if first
                        else await self._kube.get(_path_of(meta["namespace"], meta["name"]))
                    )
                except NotFound:
                    continue

                key = self.event(None, found)
                if key is not None:
                    keys.append(key)

        for uid in known - there:  # it is gone, though nobody has told
            self._seen.pop(uid, None)

        return keys

    async def close(self) -> None:
        """Stop telling; what is untold is told by whoever acts next."""
        tasks = [*self._answer_tasks.values(), *self._judging.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_judging(self, namespace: str) -> None:
        if namespace not in self._judging:
            task = asyncio.get_running_loop().create_task(self._judge_namespace(namespace))
            self._judging[namespace] = task
            task.add_done_callback(lambda _: self._judging.pop(namespace, None))

    async def _judge_namespace(self, namespace: str) -> None:
        """Each is judged by a trial that began after it was seen: a policy may have gone since the
        last one."""
        failures = 0
        while found := list(self._unjudged.get(namespace, {}).items()):
            try:
                why = await admission_probe.probe_interventions(self._kube, namespace)
            except LeaseLost:
                return
            except Retryable as error:
                log.warning(
                    "Interventions in %s wait: %s", namespace, error, extra=about(namespace)
                )
                await asyncio.sleep(RETRY_DELAYS_S[min(failures, len(RETRY_DELAYS_S) - 1)])
                failures += 1
                continue

            for uid, (key, item) in found:
                item.act, item.judged = replace(item.act, doubt=why), True
                # Else it was told of anew meanwhile.
                if self._unjudged.get(namespace, {}).get(uid) == (key, item):
                    self._stop_judging(namespace, uid)

            if why:
                log.error("Interventions are refused: %s", why, extra=about(namespace))

            for key in {key for _, (key, _) in found}:
                self._told(key)

    def _stop_judging(self, namespace: str, uid: str) -> None:
        here = self._unjudged.get(namespace, {})
        here.pop(uid, None)
        if not here:
            self._unjudged.pop(namespace, None)

    def _drop_intervention(self, key: Key, uid: str) -> Key | None:
        here = self._open.get(key)
        if here is None or here.pop(uid) is None:
            return None
        self._stop_judging(key[0], uid)
        if not here:
            del self._open[key]
        return key

    def _begin_answer(
        self, key: Key, uid: str, name: str, result: str, message: str, **more: Any
    ) -> None:
        if uid in self._answer_tasks:
            return
        said = {"result": result, "message": message, "at": format_time(datetime.now(UTC))} | more
        task = asyncio.get_running_loop().create_task(self._send_answer(key, uid, name, said))
        self._answer_tasks[uid] = task
        task.add_done_callback(lambda _: self._answer_tasks.pop(uid, None))

    async def _send_answer(self, key: Key, uid: str, name: str, said: Mapping[str, Any]) -> None:
        """Until it has arrived, or there is nobody left to be told."""
        # The UID is a precondition: not another one of this name.
        body = {"metadata": {"uid": uid}, "status": said}
        for attempt in itertools.count():
            try:
                async with self._shares.of(key[0]):
                    meta = await self._kube.patch_for_metadata(
                        _path_of(key[0], name, "status"), body, "merge"
                    )
                self._seen[uid] = max(self._seen.get(uid, 0), int(meta["resourceVersion"]))
                break
            except NotFound:
                break
            except LeaseLost:
                return
            except (Retryable, Permanent) as error:
                if isinstance(error, Conflict) and await self._is_replaced(key[0], name, uid):
                    break

                log.warning(
                    "Intervention %s/%s cannot be told what came of it: %s",
                    key[0],
                    name,
                    error,
                    extra=about(*key),
                )
                await asyncio.sleep(RETRY_DELAYS_S[min(attempt, len(RETRY_DELAYS_S) - 1)])

        if self._drop_intervention(key, uid) is not None:
            self._told(key)

    async def _is_replaced(self, namespace: str, name: str, uid: str) -> bool:
        try:
            return bool((await self._kube.get(_path_of(namespace, name)))["metadata"]["uid"] != uid)
        except (Retryable, Permanent) as error:
            return isinstance(error, NotFound)


def _path_of(namespace: str, name: str, sub: str = "") -> str:
    return api_path(API_VERSION, PLURAL, namespace, name, sub)


def _intervention_of(meta: Mapping[str, Any], raw: Any) -> Intervention:
    """Raises pydantic.ValidationError."""
    spec = InterventionSpec.model_validate(raw)
    return Intervention(
        uid=meta["uid"],
        name=meta["name"],
        action=spec.action,
        by=spec.by,
        run=spec.run,
        stage=spec.stage,
        step=spec.step,
        gate=spec.gate,
        follow_up=spec.followUp,
        spec_hash=spec.specHash,
        groups=frozenset(spec.groups),
        reason=spec.reason,
    )
