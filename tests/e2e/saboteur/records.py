"""What stood in one namespace at any moment, from the recording: resource versions order everything
that was written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewright.api import KEY
from tests.e2e.saboteur import play
from tests.harness.recording import Histories, Version

JOB = "batch.kubernetes.io/job-name"
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ending:
    """The write that said how a run ended."""

    outcome: str
    version: str
    run: int
    rv: int
    at: float
    status: Body

    def __str__(self) -> str:
        return f"run {self.run} was called {self.outcome}"


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which something did not change."""

    start: float
    end: float
    release: Body | None
    workloads: Mapping[str, Body | None]


class Records:
    """Of one namespace."""

    def __init__(self, histories: Histories, namespace: str) -> None:
        self._known = {
            resource: histories.of(resource, namespace)
            for resource in (
                "releases",
                "deployments",
                "statefulsets",
                "jobs",
                "pods",
                "configmaps",
                "secrets",
            )
        }

    def versions(self, resource: str, name: str) -> Sequence[Version]:
        """Every version of one object, in order."""
        return self._known[resource].get(name, [])

    def names(self, resource: str) -> Sequence[str]:
        """Of all objects that ever were."""
        return list(self._known[resource])

    @property
    def releases(self) -> Sequence[Version]:
        return [item for item in self.versions("releases", play.RELEASE) if not item.gone]

    def workload(self, name: str) -> Sequence[Version]:
        """Every version of `web` or `store`."""
        return self.versions(play.PLURALS[name], name)

    def endings(self) -> Iterator[Ending]:
        """The first write of each run's outcome."""
        seen = set()
        for item in self.releases:
            run = item.body.get("status", {}).get("run") or {}
            mark = (run.get("id"), run.get("outcome"))
            if run.get("outcome") and mark not in seen:
                seen.add(mark)
                yield Ending(
                    run["outcome"], run["version"], run["id"], item.rv, item.at, item.body["status"]
                )

    def before(self, name: str) -> Body | None:
        """A workload right before the operator changed it for the first time; None where it never
        has."""
        versions = self.workload(name)
        return next((old.body for old, new in _pairs(versions) if _changed(old, new)), None)

    def was_set(self, name: str) -> Body | None:
        """A ConfigMap right before the operator changed it for the first time; None where it never
        has."""
        versions = self.versions("configmaps", name)
        return next((old.body for old, new in _pairs(versions) if _changed(old, new)), None)

    def stood(
        self,
        resource: str,
        name: str,
        rv: int,
        at: float,
        grace: float,
        wrong: Callable[[Body | None], bool],
    ) -> bool:
        """Whether an object was wrong through the whole grace before a write; one that is not there
        is None."""
        states = self._states(resource, name, rv, at - grace)
        return all(wrong(state) for state in states)

    def _states(self, resource: str, name: str, rv: int, since: float) -> list[Body | None]:
        earlier = [item for item in self.versions(resource, name) if item.rv < rv]
        standing = [item for item in earlier if item.at <= since][-1:]
        found = [*standing, *(item for item in earlier if item.at > since)]
        return [None if item.gone else item.body for item in found] or [None]

    def newest(self, resource: str, name: str, rv: int) -> Body | None:
        """An object as it was when a write was made."""
        earlier = [item for item in self.versions(resource, name) if item.rv < rv]
        return None if not earlier or earlier[-1].gone else earlier[-1].body

    def spans(self, end: float) -> Iterator[Span]:
        """The Release and its workloads from change to change."""
        moments = [("release", item) for item in self.versions("releases", play.RELEASE)]
        moments += [(name, item) for name in play.KINDS for item in self.workload(name)]
        moments.sort(key=lambda one: one[1].rv)
        state: dict[str, Body | None] = {}
        for index, (name, item) in enumerate(moments):
            state[name] = None if item.gone else item.body
            until = moments[index + 1][1].at if index + 1 < len(moments) else end
            if item.at < end:
                found = {one: state.get(one) for one in play.KINDS}
                yield Span(item.at, min(until, end), state.get("release"), found)

    def started(self, job: str) -> dict[str, float]:
        """Pods of a Job in which a container was started, and when that was seen first."""
        found: dict[str, float] = {}
        for name in self.names("pods"):
            for item in self.versions("pods", name):
                if job_of(item.body) == job and _ran(item.body):
                    found.setdefault(name, item.at)
        return found

    def pods(self, rv: int) -> Iterator[Body]:
        """Pods that were there when a write was made."""
        for name in self.names("pods"):
            body = self.newest("pods", name, rv)
            if body is not None:
                yield body


def image_of(body: Body | None) -> str | None:
    """Version of the container `app` in a workload's template; None where the workload is not
    there."""
    if body is None:
        return None
    return next(
        (play.version_of(item["image"]) for item in containers(body) if item["name"] == "app"), None
    )


def containers(body: Body) -> Sequence[Body]:
    """Of a workload's template."""
    found: Sequence[Body] = body["spec"]["template"]["spec"]["containers"]
    return found


def job_of(pod: Body) -> str:
    """The Job that a pod belongs to."""
    return str(pod["metadata"].get("labels", {}).get(JOB, ""))


def key_of(body: Body) -> str:
    """Key of the operation that made or changed an object."""
    return str(body["metadata"].get("annotations", {}).get(KEY, ""))


def crashes(pod: Body) -> bool:
    """Whether a pod's container has crashed more than once, and does not run now."""
    for item in pod.get("status", {}).get("containerStatuses", ()):
        if item.get("restartCount", 0) > 1 and "running" not in item.get("state", {}):
            return True
    return False


def condition(status: Body, kind: str) -> Body:
    """One of a Release's conditions; empty where it is not there."""
    found = [item for item in status.get("conditions", ()) if item["type"] == kind]
    return found[0] if found else {}


def _pairs(versions: Sequence[Version]) -> Iterator[tuple[Version, Version]]:
    return itertools.pairwise(versions)


def _changed(old: Version, new: Version) -> bool:
    return not old.gone and not new.gone and key_of(new.body) not in ("", key_of(old.body))


def _ran(pod: Body) -> bool:
    states = [item.get("state", {}) for item in pod.get("status", {}).get("containerStatuses", ())]
    return any("running" in state or "terminated" in state for state in states)
