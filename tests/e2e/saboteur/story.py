"""A recording that nobody has made: a good run told in a few lines, for tests of the oracle, which
then spoil it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from gatewright.api import KEY
from tests.e2e.saboteur import play
from tests.e2e.saboteur.draws import NEW, OLD, STAGES, Draw
from tests.e2e.saboteur.oracle import Case
from tests.e2e.saboteur.records import JOB, Records
from tests.harness.recording import Histories

NAMESPACE = "story"
END = 60.0
BACK = {"cause": "Gate", "reason": "the gate failed"}
ENDED = 40.0
"""When the run of the stories below ends."""


class Story:
    """What was written, in any order: resource versions are made of the times."""

    def __init__(self, act: str = "undo", acted: float = 30.0) -> None:
        self._written: list[tuple[float, str, dict[str, Any], bool]] = []
        self.draw = Draw(0, "bake-4", act, "web", OLD, NEW, False, 2)
        self.acted = acted

    def case(self) -> Case:
        """The story as the oracle gets it."""
        histories = Histories()
        for number, (at, resource, body, gone) in enumerate(
            sorted(self._written, key=lambda one: one[0]), 1
        ):
            body["metadata"] |= {"namespace": NAMESPACE, "resourceVersion": str(number)}
            histories.add(resource, body, at, gone)
        return Case(
            self.draw, Records(histories, NAMESPACE), 0.0, self.acted, self.acted + 0.1, END
        )

    def workload(
        self, at: float, name: str, version: str, key: str = "", gone: bool = False, **fields: Any
    ) -> None:
        """A workload; `fields` are those of a second container, or of the first one's
        `resources`."""
        body = play.workload(name, version)
        containers = body["spec"]["template"]["spec"]["containers"]
        containers[0] |= {field: value for field, value in fields.items() if field == "resources"}
        containers += [{"name": fields["sidecar"], "image": "any"}] if "sidecar" in fields else []
        self._add(at, play.PLURALS[name], name, body, key, gone)

    def config(
        self, at: float, name: str, data: Mapping[str, str], key: str = "", gone: bool = False
    ) -> None:
        """A ConfigMap, or the Secret."""
        secret = name == play.KEYS
        coded = (
            {one: base64.b64encode(value.encode()).decode() for one, value in data.items()}
            if secret
            else data
        )
        self._add(at, "secrets" if secret else "configmaps", name, {"data": dict(coded)}, key, gone)

    def job(self, at: float, name: str, key: str) -> None:
        """A Job that has just been made."""
        self._add(at, "jobs", name, {"spec": {}}, key)

    def pod(
        self, at: float, name: str, labels: Mapping[str, str], image: str = "any", **state: Any
    ) -> None:
        """A pod that runs, or stands as `state` says."""
        runs: dict[str, Any] = {"state": {"running": {}}, "restartCount": 0}
        status = {"phase": "Running", "containerStatuses": [runs], **state}
        body: dict[str, Any] = {"metadata": {"labels": dict(labels)}, "status": status}
        body["spec"] = {"containers": [{"image": image}]}
        self._add(at, "pods", name, body)

    def release(
        self, at: float, version: str, ready: str, run: Mapping[str, Any], **status: Any
    ) -> None:
        """The Release; `live`, `lastGood` are plain versions, `conditions` further types that are
        True."""
        conditions = [{"type": "Ready", "status": ready}]
        conditions += [{"type": kind, "status": "True"} for kind in status.pop("conditions", ())]
        served: dict[str, Any] = {
            field: {"version": status[field]} for field in ("live", "lastGood") if field in status
        }
        body: dict[str, Any] = {
            "spec": {"version": version},
            "status": {"conditions": conditions, "run": dict(run), **served},
        }
        self._add(at, "releases", play.RELEASE, body)

    def _add(
        self,
        at: float,
        resource: str,
        name: str,
        body: dict[str, Any],
        key: str = "",
        gone: bool = False,
    ) -> None:
        metadata: dict[str, Any] = {**body.get("metadata", {}), "name": name}
        metadata |= {"annotations": {KEY: key}} if key else {}
        self._written.append((at, resource, {**body, "metadata": metadata}, gone))


def run(phase: str, outcome: str = "", passed: int = 0, **fields: Any) -> dict[str, Any]:
    """A run's status, with so many stages passed."""
    stages = [
        {"name": name, "state": "Passed" if index < passed else "Pending"}
        for index, name in enumerate(STAGES)
    ]
    found: dict[str, Any] = {"id": 1, "version": NEW, "phase": phase, "stages": stages, **fields}
    return found | ({"outcome": outcome} if outcome else {})


def _walked(story: Story) -> Story:
    for name in play.KINDS:
        story.workload(0, name, OLD)
    for name, data in (
        (play.SETTINGS, play.SETTING),
        (play.FLAGS, play.FLAG),
        (play.KEYS, play.KEY),
    ):
        story.config(0, name, data)
    story.release(1, OLD, "True", {}, live=OLD, lastGood=OLD)
    story.release(10, NEW, "Unknown", run("Progressing"), live=OLD, lastGood=OLD)
    story.job(10.1, "shop-migrate", "migrate.1")
    _pod_of_a_job(story, 10.2, "shop-migrate", "Running")
    _pod_of_a_job(story, 11, "shop-migrate", "Succeeded")
    story.workload(12, "web", NEW, "web.1")
    story.workload(16, "store", NEW, "store.1")
    story.config(20, play.FLAGS, play.WANTED, "beta.1")
    return story


def promoted(act: str = "undo", acted: float = 30.0) -> Story:
    """All went well."""
    story = _walked(Story(act, acted))
    story.release(28, NEW, "Unknown", run("Progressing", passed=3), live=OLD, lastGood=OLD)
    story.release(ENDED, NEW, "True", run("Done", "Promoted", 5), live=NEW, lastGood=NEW)
    return story


def rolled_back(act: str = "gate-fails", acted: float = 22.0, outcome: str = "RolledBack") -> Story:
    """The gate failed, and all is as it was."""
    story = _walked(Story(act, acted))
    story.release(31, NEW, "False", run("RollingBack", rollback=BACK), live=OLD, lastGood=OLD)
    story.config(32, play.FLAGS, play.FLAG, "beta.back")
    story.workload(33, "store", OLD, "store.back")
    story.workload(34, "web", OLD, "web.back")
    story.job(37, "shop-unmigrate", "unmigrate.1")
    _pod_of_a_job(story, 37.1, "shop-unmigrate", "Running")
    ended = run("Done", outcome, rollback=BACK, reason="the gate failed")
    story.release(ENDED, NEW, "False", ended, live=OLD, lastGood=OLD, conditions=["Stalled"])
    return story


def _pod_of_a_job(story: Story, at: float, job: str, phase: str) -> None:
    story.pod(at, f"{job}-pod", {JOB: job}, phase=phase)


def crashed() -> Sequence[Mapping[str, Any]]:
    """Container statuses of a pod that crashes again and again."""
    return [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3}]
