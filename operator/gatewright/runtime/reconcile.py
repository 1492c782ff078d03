"""One pass over one Release, and the workers that make passes.

    needs (pure) -> observe -> decide (pure) -> finalizer, revision -> ONE status write -> effects -> again

until a decision changes nothing. The order is the safety: an effect is started only when the status that intends it is
what the API server holds. A write that fails by conflict, or whose answer is lost, ends the pass: the object is read
afresh and decided upon anew. A status that nothing depends on may wait `LAZY` seconds for the next one, so that "steps
done", "gates passed" and "next stage begun" are one write where they follow each other at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gatewright.api import API_VERSION, FINALIZER, RELEASE
from gatewright.core.body import pin, unpin
from gatewright.core.decide import LOOK_AGAIN, decide
from gatewright.core.expand import Unknown
from gatewright.core.model import Decision, Delivery, Needs, Operation, Progress, View
from gatewright.core.needs import needs
from gatewright.core.operations import has_jobs, subjects
from gatewright.ports import Conflict, NotFound, Permanent, Retryable
from gatewright.runtime import actions, jobs, metrics, revisions
from gatewright.runtime.chosen import is_outside, target_of
from gatewright.runtime.entries import Entry, Key, Known
from gatewright.runtime.followups import recall
from gatewright.runtime.kube import METADATA_ONLY, Kube, path
from gatewright.runtime.leader import Leader, Lost
from gatewright.runtime.lens import Lens
from gatewright.runtime.links import Links
from gatewright.runtime.notices import Notices
from gatewright.runtime.observe import body_of, look_again, observe, snapshots_of, until
from gatewright.runtime.outbox import Outbox
from gatewright.runtime.outside import Outside, claim
from gatewright.runtime.people import People
from gatewright.runtime.queue import KeyedQueue
from gatewright.runtime.sampler import Sampler
from gatewright.runtime.watch import Watch, watches

WORKERS = 16
SENDERS = 4
LAZY = 0.4
ROUNDS = 100
RELIST = 60.0
STALE = 45.0
READY_WITHIN = 3.0
RELEASES = ((API_VERSION, "releases", ""),)
FOLLOWED = (("apps/v1", "deployments", ""), ("apps/v1", "statefulsets", ""), ("batch/v1", "jobs", RELEASE))
"""What Releases work on: API, plural, label selector."""
RETRY_AT_MOST = 2.0
"""Seconds, while a run is being undone."""
RETRY_DELAYS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

log = logging.getLogger("gatewright.reconcile")


class Reconciler:
    """All Releases of this process."""

    def __init__(
        self, kube: Kube, leader: Leader, instance: str, namespaces: frozenset[str], trust: bool = False
    ) -> None:
        self.kube = kube
        self.leader = leader
        self.queue: KeyedQueue[Key] = KeyedQueue()
        self.lens = Lens(kube)
        self.links = Links(kube)
        self.outbox = Outbox(kube, instance)
        self.notices = Notices(self.links, self._delivered)
        self.people = People(kube, self.queue.add, trust)
        self.sampler = Sampler(self.links, self.queue.add)
        self.outside = Outside(self.links, leader.fence, self.queue.add)
        self.entries: dict[Key, Entry] = {}
        self._namespaces = namespaces
        self._tasks: list[asyncio.Task[None]] = []
        self._watches: list[Watch] = []
        self._acting = False
        self._background: set[asyncio.Task[None]] = set()
        self._missed: dict[Key, float] = {}
        self._states: dict[Key, str] = {}

    # What the watches tell

    def release_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """A watch event of a Release."""
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        entry = self.entries.get(key)
        if kind == "DELETED":
            if entry is not None and entry.obj["metadata"]["uid"] == body["metadata"]["uid"]:
                self._forget(entry)
                self._orphaned(key[0])
                self.people.refuse(key, "the Release was deleted")
            return
        self._missed.pop(key, None)
        if entry is not None and entry.obj["metadata"]["uid"] != body["metadata"]["uid"]:
            self._forget(entry)
            entry = None
        if entry is None:
            self.entries[key] = Entry.of(body)
            self.queue.add(key)
        elif self._differs(entry, body):
            self.queue.add(key)

    def connection_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """A watch event of a Connection; a new one is checked at once."""
        if self.links.event(kind, body) and self._acting:
            self.links.used(body["metadata"]["namespace"], body["metadata"]["name"], None)

    def intervention_event(self, kind: str | None, body: dict[str, Any]) -> None:
        """A watch event of an Intervention: somebody asks something of a Release, or was answered."""
        key = self.people.event(kind, body)
        if key is not None and self._acting:
            self._asked(key)

    def _asked(self, key: Key) -> None:
        if key in self.entries:
            self.queue.add(key)
        else:
            self._aside(self._stranger(key))

    async def _stranger(self, key: Key) -> None:
        """Of a Release that was not told of: the watch may be late, or there is none."""
        for delay in RETRY_DELAYS:
            try:
                await self.kube.get(path(API_VERSION, "releases", *key))
            except NotFound:
                self.people.refuse(key, f"there is no Release {key[1]} in namespace {key[0]}")
                return
            except (Retryable, Permanent) as error:
                log.warning("%s/%s cannot be read: %s", *key, error)
                await asyncio.sleep(delay)
                continue
            await self._reread(key)
            self.queue.add(key)
            return

    def object_event(self, api_path: str, kind: str, body: dict[str, Any]) -> None:
        """A watch event of a workload or Job: of interest to those who wait for one."""
        for key in self.lens.event(api_path, kind, body):
            entry = self.entries.get(key)
            if entry is not None and entry.waits:
                self.queue.add(key)

    def _release_told(self, api_path: str, kind: str, body: dict[str, Any]) -> None:
        self.release_event(kind, body)

    def _doubt_releases(self, part: str) -> None:
        """The watch of Releases had a gap: what has vanished or changed meanwhile is found by listing."""
        if self._acting:
            self._aside(self._relist_safely())

    def _doubt(self, part: str) -> None:
        for key in self.lens.doubt(part):
            self.queue.add(key)

    def _differs(self, entry: Entry, body: dict[str, Any]) -> bool:
        """Whether an event tells more than the echo of our own write."""
        before = _outside(entry.obj), entry.persisted
        return entry.see(body) and (_outside(entry.obj), entry.persisted) != before

    # Life

    async def start(self) -> None:
        """Take over: list everything, then act. The list comes first, so that no two runs can claim one target."""
        loop = asyncio.get_running_loop()
        own = watches(self.kube, self._namespaces, RELEASES, self._release_told, self._doubt_releases)
        self._watches = own + watches(self.kube, self._namespaces, FOLLOWED, self.object_event, self._doubt)
        self._tasks = [loop.create_task(watch.run()) for watch in self._watches]
        # what is read before a watch has begun may have changed unseen; an API server that refuses is not waited for
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_WITHIN):
                await asyncio.gather(*(watch.ready.wait() for watch in self._watches))
        await self.relist(first=True)
        self._acting = True
        for namespace in self._namespaces or {""}:
            self._orphaned(namespace)
        self._aside(self.people.announce(sorted(self._namespaces) or [self.leader.namespace]))
        for key in self.people.waiting():
            self._asked(key)
        self._tasks += [loop.create_task(self._work()) for _ in range(WORKERS)]
        self._tasks += [loop.create_task(self.outbox.run()) for _ in range(SENDERS)]
        self._tasks.append(loop.create_task(self._relisting()))

    async def stop(self) -> None:
        """Stop acting; what is under way is abandoned where it stands, as in a crash."""
        self._acting = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self.sampler.close()
        await self.outside.close()
        await self.notices.close()
        await self.people.close()
        self.entries.clear()

    def dead_watch(self) -> str | None:
        """What a watch has not told in time, if anything: the liveness probe fails then."""
        now = time.monotonic()
        silent = next((found for found in map(Watch.dead, self._watches) if found), None)
        return silent or next(
            (f"{key[0]}/{key[1]}" for key, since in self._missed.items() if now - since > STALE), None
        )

    async def relist(self, first: bool = False) -> None:
        """Find what the watch did not tell: vanished Releases, and (by metadata alone) unseen changes."""
        accept = "application/json" if first else METADATA_ONLY
        found: dict[Key, dict[str, Any]] = {}
        if first:
            self.entries.clear()
            await self._list_connections()
            await self.people.relist(self._namespaces or {""}, first=True)
        before = set(self.entries)  # one that is made while the list is read is not in it
        for namespace in self._namespaces or {""}:
            for item in await self.kube.list(path(API_VERSION, "releases", namespace), accept=accept):
                found[item["metadata"]["namespace"], item["metadata"]["name"]] = item
        for key in (before - set(found)) & set(self.entries):
            self._forget(self.entries[key])
        for key, item in found.items():
            entry = self.entries.get(key)
            if first:
                entry = self.entries[key] = Entry.of(item)
                self.notices.resume(item)
                entry.unwatched = self.leader.unwatched if entry.claims is None else 0.0
                self._count(key, entry.working.get("state"))
                self.queue.add(key)
            elif entry is None or entry.version < int(item["metadata"]["resourceVersion"]):
                self._missed.setdefault(key, time.monotonic())
                await self._reread(key)
                self.queue.add(key)

    async def _list_connections(self) -> None:
        """Before the first measurement: a Connection that was not told of yet would look like one that is not there."""
        for namespace in self._namespaces or {""}:
            for item in await self.kube.list(path(API_VERSION, "connections", namespace)):
                self.links.event(None, item)

    async def _relisting(self) -> None:
        while True:
            await asyncio.sleep(RELIST)
            await self._relist_safely()

    async def _relist_safely(self) -> None:
        try:
            await self.relist()
            for key in await self.people.relist(self._namespaces or {""}):
                self._asked(key)
        except (Retryable, Permanent) as error:
            log.warning("the list of Releases could not be read: %s", error)

    def _orphaned(self, namespace: str) -> None:
        """A Release is gone: its Jobs are let go in the background."""
        if self._acting:
            self._aside(self._release_orphans(namespace))

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _release_orphans(self, namespace: str) -> None:
        try:
            await jobs.release_orphans(self.kube, namespace, {e.obj["metadata"]["uid"] for e in self.entries.values()})
        except (Retryable, Permanent) as error:
            log.warning("Jobs of deleted Releases are held for now: %s", error)

    def _forget(self, entry: Entry) -> None:
        key = entry.key
        if self.entries.get(key) is entry:
            del self.entries[key]
        self.sampler.watch(key, ())
        self.lens.follow(key, set())
        self.queue.forget(key)
        self._count(key, None)
        self._unblock(key[0])

    # Passes

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            metrics.queued.set(len(self.queue))
            try:
                entry = self.entries.get(key)
                if entry is not None:
                    await self._safely(entry)
                    self.notices.take(entry)
            finally:
                self.queue.done(key)

    async def _safely(self, entry: Entry) -> None:
        """A pass that fails is tried again, sooner at first; a bug in it must not stop the others."""
        metrics.passes.inc()
        after = 0.0
        try:
            await self.reconcile(entry)
            entry.failures = 0
            return
        except NotFound as error:
            log.info("%s/%s: %s", *entry.key, error)
            await self._reread(entry.key)
        except Conflict as error:
            log.debug("%s/%s: %s", *entry.key, error)
            await self._reread(entry.key)
        except Lost as error:
            log.warning("%s", error)
        except (Retryable, Permanent) as error:
            log.warning("%s/%s: %s", *entry.key, error)
            after = min(error.after, RETRY_DELAYS[-1]) if isinstance(error, Retryable) else 0.0
            await self._reread(entry.key)
        except Exception:
            metrics.errors.inc()
            log.exception("%s/%s: the pass failed", *entry.key)
        delay = RETRY_DELAYS[min(entry.failures, len(RETRY_DELAYS) - 1)]
        if (entry.working.get("run") or {}).get("phase") in ("RollingBack", "Verifying"):
            delay = min(delay, RETRY_AT_MOST)
        entry.failures += 1
        self.queue.add_after(entry.key, max(delay, after))

    def _delivered(self, key: Key, uid: str, notice: tuple[str, str], delivery: Delivery) -> None:
        """A notice was delivered, or given up; the status says so with its next write."""
        entry = self.entries.get(key)
        if entry is not None and entry.obj["metadata"]["uid"] == uid:
            entry.deliveries[notice] = delivery
            self.queue.add(key)

    async def _reread(self, key: Key) -> None:
        """The object as it is now."""
        try:
            found = await self.kube.get(path(API_VERSION, "releases", *key))
        except NotFound:
            if key in self.entries:
                self._forget(self.entries[key])
            return
        except (Retryable, Permanent) as error:
            log.warning("%s/%s cannot be read: %s", *key, error)
            return
        entry = self.entries.get(key)
        if entry is None or entry.obj["metadata"]["uid"] != found["metadata"]["uid"]:
            self.entries[key] = Entry.of(found)
        else:
            entry.see(found)

    async def reconcile(self, entry: Entry) -> None:
        """Decide and act until nothing changes any more. Raises Retryable, Permanent, Lost."""
        decision: Decision | None = None
        for _ in range(ROUNDS):
            view = replace(entry.view(), acts=self.people.pending(entry.key))
            if entry.tampered:
                log.error("%s/%s: its status cannot be read; it is treated as new", *entry.key)
            if view.run is not None and entry.body is None:
                entry.body = await body_of(self.kube, entry, view)
            await recall(self.kube, entry, view)
            self._claim(entry, view)
            wants = self._needs(entry, view)
            self.sampler.watch(entry.key, wants.measures, rebuild=entry.resumed or view.run is None)
            entry.resumed = entry.resumed and view.run is not None and entry.body is None
            rival = self._rival(entry, view) if wants.sights else None
            seen, copies = await observe(self.kube, self.lens, self.outside, self.sampler, entry, view, wants, rival)
            decision = decide(view, seen)
            again = await self._carry_out(entry, view, decision, copies)
            entry.unwatched = 0.0
            self.people.tell(entry.key, entry.persisted)
            if not again:
                break
        else:
            log.error("%s/%s: no rest after %d rounds", *entry.key, ROUNDS)
        await self._rest(entry, decision)

    def _needs(self, entry: Entry, view: View) -> Needs:
        return needs(view, entry.body if view.run is not None else None, datetime.now(UTC), entry.kept)

    async def _carry_out(self, entry: Entry, view: View, decision: Decision, copies: list[dict[str, Any]]) -> bool:
        """Do what was decided, in its order; True if the next decision may be another one."""
        if decision.finalize and view.run is None:
            rival = self._rival(entry, view)
            if rival is not None:
                raise Retryable(f"release {rival} has taken a target first")
            assert decision.revision is not None
            entry.claims = _targets(view.namespace, subjects(unpin(decision.revision.data["body"])))
        if decision.finalize and not view.finalized:
            await self._finalize(entry, view)
        for copy in copies if decision.revision is not None else ():
            await self._keep_copy(copy)
        if decision.revision is not None:
            await revisions.keep_revision(self.kube, view, decision.revision)
        changed = entry.work_on(decision.status)
        if not decision.lazy and entry.dirty:
            await self._write(entry, view, decision)
            self._remember(entry, view, decision)
        elif entry.dirty and entry.flush_at is None:
            entry.flush_at = time.monotonic() + LAZY
        for note in decision.notes:
            metrics.transitions.labels(note.reason).inc()
            self.outbox.put(view, note)
        if decision.effects and entry.body is not None:  # guards begin with the first change, however long that takes
            self.sampler.watch(entry.key, self._needs(entry, entry.view()).measures)
        performed = await self._perform(entry, view, decision.effects)
        if decision.release and view.finalized and not entry.dirty:
            await self._release(entry)
        if decision.prune is not None:
            await self._prune(entry, decision.prune)
        return changed or performed

    def _remember(self, entry: Entry, view: View, decision: Decision) -> None:
        """What the write that has just succeeded makes true in memory."""
        if decision.revision is not None and "body" in decision.revision.data:
            entry.begins(decision.revision.data)
            if decision.finalize:
                entry.operations.clear()

    async def _write(self, entry: Entry, view: View, decision: Decision) -> None:
        if decision.urgent and view.run is not None and view.run.phase not in ("RollingBack", "Verifying"):
            answered = self.sampler.answered(entry.key)
            if answered:
                metrics.decided.observe(time.monotonic() - answered)
        body = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": entry.basis},
            {"op": "add", "path": "/status", "value": entry.working},
        ]
        try:
            where = path(API_VERSION, "releases", *entry.key, "status")
            entry.wrote(await self.kube.patch_for_metadata(where, body, "json"), entry.working)
        except Exception:
            metrics.writes.labels("failed").inc()
            entry.working = entry.persisted
            entry.flush_at = None
            raise
        metrics.writes.labels("written").inc()
        entry.working = entry.persisted
        entry.flush_at = None
        self._count(entry.key, decision.status.state)

    async def _perform(self, entry: Entry, view: View, effects: list[Operation]) -> bool:
        if not effects:
            return False
        if entry.dirty:
            raise Retryable("an effect was decided whose intent is not written; the pass is repeated")
        snapshots = (
            await snapshots_of(self.kube, entry, view) if any(item.kind == "restore" for item in effects) else {}
        )
        for item in effects:
            self.lens.follow_too(
                entry.key, actions.paths_or_none(view.namespace, item.subject, actions.config_of(item))
            )
        results = await asyncio.gather(
            *(self._one(view, item, snapshots.get(item.subject)) for item in effects), return_exceptions=True
        )
        for operation, result in zip(effects, results, strict=True):
            if isinstance(result, Progress):
                entry.operations[operation.id] = Known(result, time.monotonic())
            elif isinstance(result, Permanent):
                entry.operations[operation.id] = Known(Progress("Failed", str(result)), time.monotonic())
            else:
                entry.operations.pop(operation.id, None)  # nobody knows: the next pass looks before it tries again
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Permanent):
                raise result
        return True

    async def _one(self, view: View, operation: Operation, snapshot: Any) -> Progress:
        if is_outside(operation.subject, operation.config):
            return await self.outside.perform(view, operation, snapshot)
        return await actions.perform(self.lens, view, operation, snapshot)

    async def _keep_copy(self, copy: dict[str, Any]) -> None:
        try:
            await self.kube.create(path("v1", "secrets", copy["metadata"]["namespace"]), copy)
        except Conflict:
            return  # its name holds the hash of its content and our UID; whoever restores it compares both

    async def _finalize(self, entry: Entry, view: View) -> None:
        meta = entry.obj["metadata"]
        body = {
            "metadata": {
                "finalizers": [*meta.get("finalizers", []), FINALIZER],
                "resourceVersion": meta["resourceVersion"],
            }
        }
        entry.wrote(await self.kube.patch_for_metadata(path(API_VERSION, "releases", *entry.key), body, "merge"))

    async def _release(self, entry: Entry) -> None:
        """Let go: first of the Jobs, whose results are all written, then of the Release."""
        if entry.body is None or has_jobs(entry.body):
            await jobs.release_jobs(self.kube, entry.view())
        meta = entry.obj["metadata"]
        rest = [item for item in meta.get("finalizers", []) if item != FINALIZER]
        body = {"metadata": {"finalizers": rest, "resourceVersion": entry.basis}}
        try:
            entry.wrote(await self.kube.patch_for_metadata(path(API_VERSION, "releases", *entry.key), body, "merge"))
        except NotFound:
            self._forget(entry)

    async def _prune(self, entry: Entry, keep: str) -> None:
        """Old revisions go when a run begins: in one request, those that neither this run nor last good needs."""
        status = entry.persisted
        needed = {keep, (status.get("lastGood") or {}).get("snapshot")}
        needed |= {row.get("revision") for row in status.get("followUps", ())}
        collection = path("apps/v1", "controllerrevisions", entry.key[0])
        try:
            for found in await self.kube.list(collection, f"{RELEASE}={entry.key[1][:63]}", accept=METADATA_ONLY):
                owners = [owner.get("uid") for owner in found["metadata"].get("ownerReferences", [])]
                if found["metadata"]["name"] not in needed and entry.obj["metadata"]["uid"] in owners:
                    await self.kube.delete(f"{collection}/{found['metadata']['name']}")
        except (Retryable, Permanent) as error:
            log.info("%s/%s: old revisions stay for now: %s", *entry.key, error)

    async def _rest(self, entry: Entry, decision: Decision | None) -> None:
        """Nothing more to do now: write what has waited long enough, and say when to look again."""
        if entry.dirty and entry.flush_at is not None and time.monotonic() >= entry.flush_at and decision is not None:
            await self._write(entry, entry.view(), decision)
            self.queue.add(entry.key)  # what had to wait for the write (taking the finalizer away) can be done now
        if decision is None:
            return
        delays = [until(decision.wake)] if decision.wake is not None else []
        delays += [entry.flush_at - time.monotonic()] if entry.flush_at is not None and entry.dirty else []
        again = look_again(entry)
        delays += [again] if again is not None else []
        if decision.status.state == "Waiting":
            delays.append(LOOK_AGAIN.total_seconds())
        if delays:
            self.queue.add_after(entry.key, max(0.001, min(delays)))

    # Which run has which target

    def _claim(self, entry: Entry, view: View) -> None:
        if view.run is None:
            if entry.claims:
                entry.claims = frozenset()
                self._unblock(entry.key[0])
            entry.claims = frozenset()
            entry.resumed = False
        elif entry.body is not None and not entry.claims:
            entry.claims = _targets(view.namespace, subjects(entry.body))
            self._unblock(entry.key[0])

    def _rival(self, entry: Entry, view: View) -> str | None:
        """Another Release whose run has one of our targets; as long as it is not known which it has, it may."""
        entry.blocked = False
        if view.run is not None or view.spec is None or view.problems:
            return None
        try:
            mine = _targets(view.namespace, subjects(pin(view.spec, view.status.runs + 1, None)))
        except Unknown:
            return None
        for key, other in self.entries.items():
            if key[0] == entry.key[0] and other is not entry and (other.claims is None or other.claims & mine):
                entry.blocked = True
                return key[1]
        return None

    def _unblock(self, namespace: str) -> None:
        for key, entry in self.entries.items():
            if key[0] == namespace and entry.blocked:
                self.queue.add(key)

    def _count(self, key: Key, state: str | None) -> None:
        old = self._states.pop(key, None)
        if old is not None:
            metrics.releases.labels(old).dec()
        if state is not None:
            self._states[key] = state
            metrics.releases.labels(state).inc()


def _outside(obj: dict[str, Any]) -> tuple[Any, ...]:
    """What others may change about a Release."""
    meta = obj["metadata"]
    return meta.get("generation"), meta.get("annotations"), meta.get("deletionTimestamp"), meta.get("finalizers")


def _targets(namespace: str, found: dict[str, Any]) -> frozenset[str]:
    claimed: set[str] = set()
    for subject, config in found.items():
        try:
            if is_outside(subject, config):
                claimed |= claim(subject, config)
            elif subject.startswith("target/"):
                target, checked = target_of(config)
                claimed |= set(target.paths(namespace, checked))
            else:
                claimed.add(subject)
        except Permanent:
            continue
    return frozenset(claimed)
