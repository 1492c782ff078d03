"""Interventions: who asks for what, and telling them what came of it.

    event, list -> identity proved? -> pending(key)
        -> the core decides, the Release's status says so
        -> tell -> the Intervention's own status

The Release's status is the record; an Intervention's own status follows it, and until it does, the
Intervention is told to the core again and again, which knows it by its UID. Events of the past (a
watch may be late) are known by their resourceVersion, so that what was answered is never taken for
new.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from gatewright.api import API_VERSION
from gatewright.api.intervention import InterventionSpec
from gatewright.core.model.intervention import Intervention
from gatewright.core.run.clocks import format_time
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime import admission_probe
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.cluster.wire import METADATA_ONLY
from gatewright.runtime.open_interventions import OpenIntervention, OpenInterventions, Order
from gatewright.runtime.shares import NamespaceLimits
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import Key

PLURAL = "interventions"
ANSWER_PARTS = ("message", "run", "specHash", "at")
"""What a Release's status has of an answer, beside its result."""
RETRY_DELAYS_S = (0.2, 1.0, 2.0, 5.0, 10.0)
MAX_PENDING = 32
"""So many that overtake, and so many others, are told to a pass; of either more than may be
answered and not told yet (`core.model.view.MOST_UNREPORTED_ANSWERS`)."""
WRITES_AT_ONCE = 4
"""Interventions of one namespace that are told at a time what came of them."""

log = logging.getLogger("gatewright.interventions")


class Interventions:
    """All Interventions that are watched; in full only those that are not answered yet."""

    def __init__(self, kube: Kube, told: Callable[[Key], None], trust: bool = False) -> None:
        self._kube = kube
        self._told = told
        self._trust = trust
        self._judging: dict[str, asyncio.Task[None]] = {}
        self._open: dict[Key, OpenInterventions] = {}
        self._unjudged: dict[str, dict[str, tuple[Key, OpenIntervention]]] = {}
        """By namespace and UID."""
        self._seen: dict[str, int] = {}
        self._answer_tasks: dict[str, asyncio.Task[None]] = {}
        self._shares = NamespaceLimits(WRITES_AT_ONCE)

    def event(self, kind: str | None, body: Mapping[str, Any]) -> Key | None:
        """Take in a watch event, or what a list has; return the Release to be looked at, if any."""
        meta = body["metadata"]
        uid, version = meta["uid"], int(meta["resourceVersion"])
        key = (meta["namespace"], str((body.get("spec") or {}).get("release", "")))

        if kind == "DELETED":
            self._seen.pop(uid, None)
            return self._drop_intervention(key, uid)

        # A watch and a list may tell of one object in either order.
        if version <= self._seen.get(uid, -1):
            return None

        self._seen[uid] = version

        if (body.get("status") or {}).get("result"):
            return self._drop_intervention(key, uid)

        try:
            act = _intervention_of(meta, body.get("spec"))
        except ValidationError as error:
            message = f"its spec has {error.error_count()} problems"
            self._begin_answer(key, uid, meta["name"], "Refused", message)
            return None

        here = self._open.setdefault(key, OpenInterventions())
        intervention = here.put(uid, act, self._trust)

        if not self._trust:
            self._unjudged.setdefault(key[0], {})[uid] = key, intervention

        return key

    def pending(self, key: Key) -> tuple[Intervention, ...]:
        """Return the oldest that overtake, and the oldest of the others, in one order.

        None of either kind passes one of its own kind that is not judged yet.
        """
        here = self._open.get(key)
        if not here:
            return ()

        judged: dict[str, OpenIntervention] = {}
        for urgent in True, False:
            oldest = here.oldest(urgent, MAX_PENDING)
            known = list(itertools.takewhile(_is_judged, oldest))
            judged |= {intervention.act.uid: intervention for intervention in known}
            # Only a trial that began after an Intervention was seen proves whose it is.
            if len(known) < len(oldest):
                self._begin_judging(key[0])

        return tuple(item.act for item in sorted(judged.values(), key=_order_of))

    def wants_back(self, key: Key) -> bool:
        """Return whether somebody asks for the way back, and has no answer yet."""
        here = self._open.get(key)
        return here is not None and here.back > 0

    def waiting(self) -> Iterable[Key]:
        """Return the Releases that somebody has asked something of."""
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
                doubt = await admission_probe.probe_interventions(self._kube, namespace)
            except (Retryable, LeaseLost) as error:
                doubt = str(error)
            if doubt:
                log.error("Interventions are refused: %s", doubt)

    def tell(self, key: Key, status: Mapping[str, Any]) -> None:
        """Tell the answers in a Release's written status, in the background, until they arrive."""
        here = self._open.get(key)
        if not here:
            return

        for answer in status.get("interventions", ()):
            if answer["uid"] in here:
                parts = {name: answer[name] for name in ANSWER_PARTS if name in answer}
                self._begin_answer(key, answer["uid"], answer["name"], answer["result"], **parts)

    def refuse(self, key: Key, message: str) -> None:
        """Refuse whatever is asked of a Release: nobody is there who could act."""
        here = self._open.pop(key, None)
        if here is None:
            return
        for uid, intervention in here.items():
            self._stop_judging(key[0], uid)
            self._begin_answer(key, uid, intervention.act.name, "Refused", message)

    async def relist(self, namespaces: Iterable[str], first: bool = False) -> list[Key]:
        """Find what the watch did not tell; at first everything is read.

        Raises Retryable, Permanent.
        """
        keys: list[Key] = []

        if first:
            self._open.clear()
            self._unjudged.clear()
            self._seen.clear()

        seen_before, there = set(self._seen), set()
        accept = "application/json" if first else METADATA_ONLY

        for namespace in namespaces:
            collection = api_path(API_VERSION, PLURAL, namespace)
            async for obj in self._kube.each(collection, accept=accept):
                meta = obj["metadata"]
                there.add(meta["uid"])

                if first:
                    key = self.event(None, obj)
                elif int(meta["resourceVersion"]) > self._seen.get(meta["uid"], -1):
                    key = await self._read_changed(meta)
                else:
                    continue

                if key is not None:
                    keys.append(key)

        # They are gone, though nobody has told.
        for uid in seen_before - there:
            self._seen.pop(uid, None)

        return keys

    async def _read_changed(self, meta: Mapping[str, Any]) -> Key | None:
        """Take in an object of which a list has told the metadata alone."""
        try:
            obj = await self._kube.get(_path_of(meta["namespace"], meta["name"]))
        except NotFound:
            return None
        return self.event(None, obj)

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
        """Judge what is asked in a namespace.

        Each is judged by a trial that began after it was seen: a policy may have gone since the
        last one.
        """
        failures = 0
        while unjudged := list(self._unjudged.get(namespace, {}).items()):
            try:
                doubt = await admission_probe.probe_interventions(self._kube, namespace)
            except LeaseLost:
                return
            except Retryable as error:
                log.warning(
                    "Interventions in %s wait: %s", namespace, error, extra=about(namespace)
                )
                await asyncio.sleep(RETRY_DELAYS_S[min(failures, len(RETRY_DELAYS_S) - 1)])
                failures += 1
                continue

            for uid, (key, intervention) in unjudged:
                intervention.act, intervention.judged = replace(intervention.act, doubt=doubt), True

                # Else it was told of anew meanwhile.
                if self._unjudged.get(namespace, {}).get(uid) == (key, intervention):
                    self._stop_judging(namespace, uid)

            if doubt:
                log.error("Interventions are refused: %s", doubt, extra=about(namespace))

            for key in {key for _, (key, _) in unjudged}:
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
        # The status is told with each pass, until the answer has arrived.
        if uid in self._answer_tasks:
            return
        status = {"result": result, "message": message, "at": format_time(datetime.now(UTC))} | more
        task = asyncio.get_running_loop().create_task(self._send_answer(key, uid, name, status))
        self._answer_tasks[uid] = task
        task.add_done_callback(lambda _: self._answer_tasks.pop(uid, None))

    async def _send_answer(self, key: Key, uid: str, name: str, status: Mapping[str, Any]) -> None:
        """Send an answer until it has arrived, or there is nobody left to be told."""
        # The UID is a precondition: not another one of this name.
        body = {"metadata": {"uid": uid}, "status": status}
        for attempt in itertools.count():
            try:
                async with self._shares.of(key[0]):
                    path = _path_of(key[0], name, "status")
                    meta = await self._kube.patch_for_metadata(path, body, "merge")
                self._seen[uid] = max(self._seen.get(uid, 0), int(meta["resourceVersion"]))
                break
            except NotFound:
                break
            # Whoever acts next reads the status, and tells.
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
            obj = await self._kube.get(_path_of(namespace, name))
            return bool(obj["metadata"]["uid"] != uid)
        except (Retryable, Permanent) as error:
            return isinstance(error, NotFound)


def _path_of(namespace: str, name: str, sub: str = "") -> str:
    return api_path(API_VERSION, PLURAL, namespace, name, sub)


def _order_of(intervention: OpenIntervention) -> Order:
    return intervention.order


def _is_judged(intervention: OpenIntervention) -> bool:
    return intervention.judged


def _intervention_of(meta: Mapping[str, Any], raw: Any) -> Intervention:
    """Return an Intervention as the core has it. Raises pydantic.ValidationError."""
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
        to=spec.to,
        to_run=spec.toRun,
        with_database=bool(spec.withDatabase),
        procedure=spec.procedure,
        undo=bool(spec.undo),
        confirmed=spec.confirmed,
        groups=frozenset(spec.groups),
        reason=spec.reason,
        made=(meta.get("creationTimestamp", ""), int(meta["resourceVersion"])),
    )
