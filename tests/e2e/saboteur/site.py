"""One draw, played in a namespace of its own: set up, start the run, act at the drawn moment, see
it end, go away."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.saboteur import acts, play, records
from tests.e2e.saboteur.draws import AT_REST, OLD, Draw
from tests.e2e.saboteur.ground import GATEWRIGHT, LABEL, Ground, Request
from tests.e2e.saboteur.oracle import SAY_GRACE, STORM, STORM_SECONDS, Case, Outage, examine
from tests.harness.api import ApiError
from tests.harness.lab import Late

SET_UP = 300.0
BOUND = 300.0
"""Seconds in which a run must have ended once nobody is disturbed any more."""
HOME = 240.0
"""Seconds in which a person must have brought a failed rollback home."""
GONE = 180.0
"""Seconds in which a namespace must have ended."""
SETTLES, SETTLES_AT_REST, QUIET = 8.0, SAY_GRACE + 2.0, 20.0
"""Seconds after the end in which something may still be said (more after an act at rest, which
nobody has asked for), and those in which nothing may be written."""
CALLED = 3.0
"""Seconds that a run is paused before a person comes."""


@dataclass
class Report:
    """What became of a draw."""

    draw: Draw
    namespace: str
    violations: list[str] = field(default_factory=list)
    outcome: str = "none"
    missed: str = ""
    """Why the act was not done at its moment."""
    timeline: list[str] = field(default_factory=list)
    quiet: tuple[float, float] = (0.0, 0.0)
    took: float = 0.0

    def __str__(self) -> str:
        lines = [
            (
                f"{self.draw}: {self.outcome} after "
                f"{self.took:.0f}s{f', {self.missed}' if self.missed else ''}"
            )
        ]
        lines += [f"  ✘ {item}" for item in self.violations]
        return "\n".join(
            lines + ([f"    {line}" for line in self.timeline] if self.violations else [])
        )


class Site:
    """A namespace, and what is done in it."""

    def __init__(self, ground: Ground, drawn: Draw, name: str) -> None:
        self.ground, self.draw, self.name = ground, drawn, name
        self.report = Report(drawn, name)
        self._notes: list[tuple[float, str]] = []
        self._began = time.time()
        self._acted: float | None = None
        self._over: float | None = None
        self._deleted = False

    # --- what is done here

    def path(self, collection: str) -> str:
        """API path of a collection in this namespace; `collection` as
        `/apis/apps/v1/deployments`."""
        group, _, plural = collection.rpartition("/")
        return f"{group}/namespaces/{self.name}/{plural}"

    def create(self, collection: str, body: Mapping[str, Any]) -> None:
        """Make an object."""
        self.ground.api.create(self.path(collection), body)

    def change(self, collection: str, name: str, patch: Mapping[str, Any]) -> None:
        """Merge into an object."""
        self.ground.api.merge(f"{self.path(collection)}/{name}", patch)

    def kubectl(self, *arguments: str) -> None:
        """As people do it."""
        self.ground.cluster.kubectl(*arguments, "--namespace", self.name)

    def gate(self, mode: str) -> None:
        """What the service answers from now on."""
        self.ground.gate.modes[self.name] = mode
        self.note(f"the gate is {mode}")

    def note(self, text: str) -> None:
        """A line of the timeline."""
        self._notes.append((time.time(), text))

    def pods(self, app: str) -> list[str]:
        """Names of a workload's pods that run."""
        found = self.ground.recording.histories.of("pods", self.name)
        newest = {name: versions[-1] for name, versions in found.items()}
        return [
            name
            for name, item in newest.items()
            if not item.gone
            and item.body["metadata"].get("labels", {}).get("app") == app
            and item.body.get("status", {}).get("phase") == "Running"
        ]

    def delete(self) -> None:
        """Delete the namespace, and wait until it is gone."""
        self._deleted, until = True, time.time()
        self.ground.api.delete(f"/api/v1/namespaces/{self.name}")
        self.note("the namespace is deleted")
        self._wait(self._is_gone, GONE, "I12: the namespace did not end")
        self.note(f"the namespace was gone after {time.time() - until:.0f}s")

    def _is_gone(self) -> bool:
        return self.ground.recording.newest("namespaces", "", self.name) is None

    # --- the play

    def play(self) -> Report:
        """All of it. What breaks the play itself is a violation, too: nobody may conclude from it
        that all is well."""
        try:
            self._set_up()
            self._walk()
        except Exception:
            self.report.violations.append(f"the play broke: {traceback.format_exc()}")
        until = time.time()
        if not self._deleted:
            self._go(until)
        self.report.took = time.time() - self._began
        self._judge(until)
        return self.report

    def _go(self, until: float) -> None:
        try:
            self.delete()
        except (ApiError, RuntimeError) as error:
            self.report.violations.append(f"the namespace could not be deleted: {error}")

    def _set_up(self) -> None:
        labels = {LABEL: str(self.draw.seed)}
        self.ground.api.create(
            "/api/v1/namespaces", {"metadata": {"name": self.name, "labels": labels}}
        )
        for plural, body in play.configuration():
            self.create(f"/api/v1/{plural}", body)
        for name, plural in play.PLURALS.items():
            self.create(f"/apis/apps/v1/{plural}", play.workload(name))
        self.create(
            f"{GATEWRIGHT}/connections", play.connection(f"{self.ground.gate.url}/{self.name}")
        )
        self.ground.wait(
            lambda: all(self._is_up(name) for name in play.KINDS),
            SET_UP,
            f"{self.name} to run {OLD}",
        )
        self.create(f"{GATEWRIGHT}/releases", play.release(OLD))
        self.ground.wait(
            self._is_adopted, SET_UP, f"{OLD} to be the last good version of {self.name}"
        )

    def _is_up(self, name: str) -> bool:
        found = self.ground.recording.newest(play.PLURALS[name], self.name, name) or {}
        return bool(found.get("status", {}).get("readyReplicas") == play.REPLICAS)

    def _is_adopted(self) -> bool:
        return bool((self._status.get("lastGood") or {}).get("version") == OLD)

    def _walk(self) -> None:
        self._began = time.time()
        self.change(
            f"{GATEWRIGHT}/releases", play.RELEASE, {"spec": {"version": self.draw.version}}
        )
        self.note(f"{self.draw.version} is wanted")
        if self.draw.phase in ("RollingBack", "RolledBack") and self.draw.breach:
            self._break_at(f"bake-{self.draw.breach_in}")
        reached = self._reach(self.draw.phase)
        if not reached:
            self.report.missed = f"{self.draw.phase} was never reached"
        self._act()
        if self._deleted:
            self.report.outcome = "deleted"
            return
        if self.draw.breach and self.draw.phase not in ("RollingBack", "RolledBack"):
            self._break_at("any")
        self._see_the_end()

    def _break_at(self, phase: str) -> None:
        """Let the gate fail once the run is there, or is over."""
        if self._reach(phase):
            time.sleep(0.5)
            self.gate("failing")

    def _act(self) -> None:
        self.note(f"ACT {self.draw.act} begins")
        self._acted = time.time()
        acts.perform(self)
        self._over = time.time()
        self.note(f"ACT {self.draw.act} is over")

    def _see_the_end(self) -> None:
        if not self._ends():
            return
        self.report.outcome = str(self._run["outcome"])
        if self.report.outcome == "RollbackFailed":
            self._bring_home()
        at_rest = self.draw.phase in AT_REST or self.report.missed
        time.sleep(SETTLES_AT_REST if at_rest else SETTLES)
        self.report.quiet = (time.time(), time.time() + QUIET)
        time.sleep(QUIET)

    def _ends(self) -> bool:
        """Wait for the end of the run. A run that asks for a person gets one."""
        paused = None
        while self._run.get("outcome") is None:
            calm = max(self._over or 0.0, self.ground.calm_since())
            if time.time() > calm + BOUND:
                self.report.violations.append(
                    f"I12: the run did not end within {BOUND:.0f}s of calm"
                )
                return False
            asked = self._run.get("phase") == "Paused" or "paused" in self._run
            paused = (paused or time.time()) if asked else None
            if paused and time.time() > paused + CALLED:
                self._intervene("Rollback" if self._run.get("phase") == "Paused" else "Resume")
                paused = time.time() + 10
            time.sleep(0.1)
        return True

    def _bring_home(self) -> None:
        self._intervene("Rollback")
        if self._wait(self._is_home, HOME, "I2: a person could not bring the rollback home"):
            self.report.outcome = "RollbackFailed, then RolledBack"

    def _is_home(self) -> bool:
        return bool((self._status.get("run") or {}).get("outcome") == "RolledBack")

    def _intervene(self, action: str) -> None:
        self.note(f"a person: {action}")
        self.create(f"{GATEWRIGHT}/interventions", play.intervention(action, self.ground.person))

    # --- where the run is

    @property
    def _status(self) -> Any:
        return (self.ground.recording.newest("releases", self.name, play.RELEASE) or {}).get(
            "status"
        ) or {}

    @property
    def _run(self) -> Any:
        """The run of the wanted version; empty before it has begun."""
        found = self._status.get("run") or {}
        return found if found.get("version") == self.draw.version else {}

    def _reach(self, phase: str) -> bool:
        """Wait until the run is, or was, somewhere; False where it ended otherwise."""
        while not self._was(phase):
            if self._run.get("outcome"):
                return self._was(phase)
            if time.time() > max(self._began, self.ground.calm_since()) + 2 * BOUND:
                return False
            time.sleep(0.1)
        return True

    def _was(self, phase: str) -> bool:
        found = list(
            self.ground.recording.histories.known.get(("releases", self.name, play.RELEASE), ())
        )
        runs = [
            (item.body.get("status") or {}).get("run") or {}
            for item in found
            if item.at >= self._since(phase)
        ]
        return any(_is_at(run, phase) for run in runs if run.get("version") == self.draw.version)

    def _since(self, phase: str) -> float:
        """`any` bake counts from the end of the act; all others from the beginning of the run."""
        return (self._over or 0.0) if phase == "any" else self._began

    def _wait(self, condition: Callable[[], Any], seconds: float, violation: str) -> bool:
        try:
            self.ground.wait(condition, seconds, violation)
        except Late:
            self.report.violations.append(f"{violation} within {seconds:.0f}s")
            return False
        return True

    # --- the judgement

    def _judge(self, until: float) -> None:
        found = records.Records(self.ground.recording.histories, self.name)
        outages = [
            Outage(item.began, item.ended or time.time())
            for item in list(self.ground.disturbances)
            if item.deaf
        ]
        case = Case(self.draw, found, self._began, self._acted, self._over, until, outages)
        self.report.violations += examine(case)
        if self.report.violations:
            from tests.e2e.saboteur.timeline import lines

            self.report.timeline = lines(
                found, self._notes, self.ground.disturbances, self._began, until
            )
        self.ground.forget(self.name)


def judge_requests(report: Report, requests: list[Request]) -> None:
    """I6, once the audit log was read: silence at rest, and no storm at any time."""
    if not requests:
        report.violations.append(
            "the audit log shows no request of the operator, so nothing is known of its silence"
        )
    start, end = report.quiet
    # A Connection says of itself whether it is answered, also where no Release uses it.
    late = [
        item
        for item in requests
        if item.writes and start < item.at < end and "connections/" not in str(item)
    ]
    report.violations += [
        f"I6: written {item.at - start:.0f}s into the rest: {item}" for item in late[:5]
    ]
    times = sorted(item.at for item in requests)
    for first, last in zip(times, times[STORM:], strict=False):
        if last - first < STORM_SECONDS:
            report.violations.append(f"I6: {STORM} requests within {last - first:.1f}s")
            return


def _is_at(run: Mapping[str, Any], phase: str) -> bool:
    kind, _, number = phase.partition("-")
    if kind in ("start", "bake"):
        stages = run.get("stages") or []
        state = stages[int(number) - 1]["state"] if len(stages) >= int(number) else ""
        return bool(
            run.get("phase") == "Progressing"
            and state == {"start": "Running", "bake": "Baking"}[kind]
        )
    if phase == "any":
        baking = any(stage["state"] == "Baking" for stage in run.get("stages") or [])
        return bool(
            run.get("phase") == "Guarding" or (run.get("phase") == "Progressing" and baking)
        )
    if phase in ("Promoted", "RolledBack"):
        return bool(run.get("outcome") == phase)
    return bool(run.get("phase") == phase)
