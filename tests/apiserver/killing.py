"""Killed at any write, a run ends as if it had not been: no step twice, no rollback lost (R1).

Two scenarios (five stages to the end; a rollback out of the third stage with flags, deployment and
database) are run once without a fault, which counts their writes. Then each is run once for every
write: the operator is killed there by SIGKILL, started again, and the oracle reads what happened
from the API server's own records. GATEWRIGHT_CRASH=all takes each write in all three positions;
otherwise the position goes round with the number of the write.

Two laboratories work side by side, each with an API server of its own: most of a run is waiting.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.apiserver.walking import intervene
from tests.harness import scenarios
from tests.harness.lab import Lab, Late, Site, everything
from tests.harness.proxy import POSITIONS, Fault, Position, kill_at

LANES = 2
CONVERGED = 10.0
"""Seconds from the restarted process' first request within which a run must have ended, beside the
time that the same run takes without a fault on this machine as busy as it is."""


@dataclass(frozen=True)
class Scenario:
    """A Release, what the stand-in answers, and how it must end."""

    name: str
    spec: Callable[[str], dict[str, Any]]
    outcome: str
    effects: Mapping[str, int]
    """How often each Job's container is started."""
    undo: bool = False
    """First it is promoted without a fault; then somebody asks for the way back, and only writes
    from then on count."""
    by_guard: bool = False
    """With `undo`: nobody asks, a guard at rest fails."""

    @property
    def run(self) -> int:
        """Number of the run whose end is looked at."""
        return 2 if self.undo else 1

    def prepare(self, site: Site) -> None:
        site.deployment()
        site.configmap("web-flags", {"VOICE": "off", "KEPT": "yes"})
        site.lab.standin.number(scenarios.query("errors", site.name), 0.001)
        site.lab.standin.number(scenarios.query("broken", site.name), 0.2)
        site.lab.standin.number(scenarios.query("uptime", site.name), 0.001)
        follow_beta(site)


def follow_beta(site: Site) -> None:
    """Let the beta fail for as long as its flag is on."""
    site.lab.standin.follow(
        scenarios.query("beta", site.name),
        lambda: 0.2 if site.data("web-flags").get("VOICE") == "on" else 0.001,
    )


SUCCESS = Scenario("success", scenarios.crash_success, "Promoted", {"migrate": 1})
ROLLBACK = Scenario(
    "rollback",
    scenarios.crash_rollback,
    "RolledBack",
    {"backup": 1, "migrate": 1, "restore": 1, "smoke": 1},
)
UNDO = Scenario(
    "undo",
    scenarios.crash_undo,
    "RolledBack",
    {"backup": 1, "migrate": 1, "restore": 1, "smoke": 1},
    undo=True,
)
AT_REST = Scenario(
    "at rest",
    scenarios.crash_at_rest,
    "RolledBack",
    {"backup": 1, "migrate": 1, "smoke": 1},
    undo=True,
    by_guard=True,
)
STAGE = Scenario("stage", scenarios.crash_stage, "Promoted", {"announce": 1, "tidy": 1, "smoke": 1})
PATIENT = Scenario(
    "patient", lambda namespace: scenarios.simple(namespace, bake="2s"), "Promoted", {}
)


@dataclass(frozen=True)
class Point:
    """Where to kill."""

    number: int
    position: Position


@dataclass
class Result:
    """What a run left behind."""

    point: Point | None
    killed: bool
    converged: float
    problems: list[str]
    ending: dict[str, Any]
    writes: int
    where: str = ""

    @property
    def has_come(self) -> bool:
        """Whether the write came that was to kill."""
        return self.point is not None and self.writes >= self.point.number

    def __str__(self) -> str:
        return f"{self.point} {self.where}: {'; '.join(self.problems)}"


@dataclass
class Summary:
    """All runs of a scenario."""

    results: list[Result] = field(default_factory=list)

    def bad(self) -> list[Result]:
        return [one for one in self.results if one.problems]

    def __str__(self) -> str:
        killed = [one for one in self.results if one.killed]
        slowest = max(killed, key=lambda one: one.converged)
        return (
            f"{len(self.results)} runs, {len(killed)} killed, "
            f"{sum(len(one.problems) for one in self.results)} violations,"
            f" slowest convergence {slowest.converged:.1f}s (killed "
            f"{slowest.point and slowest.point.position}"
            f" {slowest.where})"
        )


def run(lab: Lab, scenario: Scenario, point: Point | Fault | None, plain: float = 0.0) -> Result:
    """One run from start to end, killed at a point or not at all."""
    if not lab.operator.alive:
        lab.operator.start()
    site = lab.namespace()
    scenario.prepare(site)
    if scenario.undo:
        lab.proxy.number("no-namespace-yet")
        site.apply(scenario.spec(site.name))
        site.ended("Promoted", 40)
    lab.proxy.number(site.name)
    began = time.monotonic()
    fault = kill_at(point.number, point.position) if isinstance(point, Point) else point
    with lab.proxy.fault(*([fault] if fault else [])):
        if scenario.by_guard:
            site.lab.standin.number(scenarios.query("uptime", site.name), 0.5)
        elif scenario.undo:
            intervene(site, "Rollback", withDatabase=True, reason="data is broken")
        else:
            site.apply(scenario.spec(site.name))
        number = point.number if isinstance(point, Point) else None
        killed = _restart_when_killed(lab, site, scenario, number)
        if killed:
            lab.operator.reap()
            lab.operator.start(wait=False)
        problems = _ending_problems(site, scenario)
    ended = time.monotonic()
    if killed:
        # Killed after its last write was taken, a run has ended before the new process asks for
        # anything.
        began = next(
            (one.arrived for one in lab.proxy.calls if one.instance == lab.operator.lives), ended
        )
    converged = ended - began
    if killed and converged > CONVERGED + plain:
        problems.append(f"converged only {converged:.1f}s after the restart")
    problems += [str(one) for one in site.examine().violations]
    problems += _effect_problems(site, scenario)
    writes = lab.proxy.writes(site.name)
    known = isinstance(point, Point) and len(writes) >= point.number
    where = (f"{point.position} {writes[point.number - 1]}") if known else ""  # type: ignore[union-attr]
    return Result(
        point if isinstance(point, Point) else None,
        killed,
        converged,
        problems,
        _ending(site),
        len(writes),
        where,
    )


def _restart_when_killed(lab: Lab, site: Site, scenario: Scenario, number: int | None) -> bool:
    """Wait for the end or the kill, whichever comes first.

    `number`: of the write that kills.
    """
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if lab.proxy.killed.is_set():
            return True
        meta = (site.release() or {}).get("metadata", {})
        over = site.run().get("outcome") and site.run()["id"] == scenario.run
        if over and not meta.get("finalizers"):
            # The last write's `after` still has to come, if that write has.
            has_come = number is not None and lab.proxy.count >= number
            return lab.proxy.killed.wait(10 if has_come else 0.1)
        lab.proxy.killed.wait(0.02)
    return False


def _ending_problems(site: Site, scenario: Scenario) -> list[str]:
    try:
        site.ended(scenario.outcome, 30, run=scenario.run)
    except (AssertionError, Late) as error:
        return [str(error).partition("\n")[0]]
    return []


def _effect_problems(site: Site, scenario: Scenario) -> list[str]:
    ran: dict[str, int] = {}
    for one in site.lab.world.runs(site.name):
        ran[one.command[0]] = ran.get(one.command[0], 0) + 1
    return (
        []
        if ran == dict(scenario.effects)
        else [f"containers were started {ran}, wanted {dict(scenario.effects)}"]
    )


def _ending(site: Site) -> dict[str, Any]:
    """What must be the same whether the operator was killed or not."""
    status, latest = site.status(), site.run()
    return {
        "image": site.image(),
        "flags": site.data("web-flags"),
        "outcome": latest.get("outcome"),
        "reason": latest.get("reason"),
        "stages": [
            (item["name"], item["state"], [step["state"] for step in item["steps"]])
            for item in latest.get("stages", ())
        ],
        "live": (status.get("live") or {}).get("version"),
        "lastGood": (status.get("lastGood") or {}).get("version"),
        "rejected": [item["version"] for item in status.get("rejected", ())],
        "history": [(item["version"], item["outcome"]) for item in status.get("history", ())],
        "conditions": {
            item["type"]: (item["status"], item["reason"]) for item in status.get("conditions", ())
        },
        "jobs": sorted(job["metadata"]["name"].rpartition("-")[0] for job in site.jobs()),
    }


def explore(
    lanes: list[Lab], scenario: Scenario, positions: Callable[[int], tuple[Position, ...]]
) -> Summary:
    """The fault-free run, then one run for each point, on all lanes."""
    plain = [run(lab, scenario, None) for lab in lanes]
    for result in plain:
        assert not result.problems, f"without any fault: {result}"
    wanted, writes = plain[0].ending, max(result.writes for result in plain)
    duration = max(result.converged for result in plain)
    todo: queue.SimpleQueue[Point] = queue.SimpleQueue()
    for number in range(1, writes + 1):
        for position in positions(number):
            todo.put(Point(number, position))
    summary = Summary(list(plain))
    broken: list[BaseException] = []

    def work(lab: Lab) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                point = todo.get_nowait()
                try:
                    result = run(lab, scenario, point, duration)
                except BaseException as error:
                    broken.append(error)
                    raise
                if result.ending != wanted:
                    result.problems.append(f"ended otherwise: {_difference(wanted, result.ending)}")
                summary.results.append(result)

    threads = [threading.Thread(target=work, args=(lab,)) for lab in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]
    return summary


def _difference(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {got[name]!r} instead of {wanted[name]!r}"
        for name in wanted
        if got[name] != wanted[name]
    )


def positions(number: int) -> tuple[Position, ...]:
    return POSITIONS if everything() else (POSITIONS[number % len(POSITIONS)],)


def killed_at_every_write(lanes: list[Lab], scenario: Scenario, capsys: Any) -> None:
    """The ending is the same wherever the operator is killed."""
    summary = explore(lanes, scenario, positions)
    with capsys.disabled():
        print(f"\nkilled at every write, {scenario.name}: {summary}")
    assert not summary.bad(), "\n\n".join(str(one) for one in summary.bad())
    # A status that may wait (`Decision.deferrable`) is written by itself where what follows takes
    # longer, as the first rollout of a laboratory does. So a run may have fewer writes than one
    # without a fault, and ends before the last numbers come. What came has killed.
    spared = [one for one in summary.results if one.point and not one.killed and one.has_come]
    assert not spared, "\n".join(
        f"{one.point}: its write came, and killed nobody" for one in spared
    )
