"""A Release in a simulated world: the pure core with a scripted clock, cluster and provider. No
I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from gatewright.api.intervention import Action
from gatewright.api.release import ReleaseSpec
from gatewright.api.run import Outcome, Phase, Rollback
from gatewright.api.status import (
    Answered,
    ReleaseStatus,
    Run,
    Served,
    Unverified,
    WaitingFor,
    dump,
)
from gatewright.core.checks import at_rest, followups
from gatewright.core.checks.window import Kind, Sample, State, Verdict
from gatewright.core.model.decision import Decision, KubernetesEvent
from gatewright.core.model.freeze import Freeze
from gatewright.core.model.holding import Holding, Standing
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.needs import Measure, Needs
from gatewright.core.model.observation import LiveState, Observation
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run import procedures, resting
from gatewright.core.run.clocks import format_time
from gatewright.core.run.decide import decide
from gatewright.core.run.needs import find_needs
from gatewright.core.spec.pinned_spec import unpin_spec
from gatewright.core.spec.problems import find_problems

START = datetime(2026, 1, 1, tzinfo=UTC)

CheckState = State | Literal["Silent"]
"""What a check is; `Silent` has failed because nothing answers."""

KINDS: dict[State, Kind] = {"Passing": "Good", "Holding": "NoData"}
"""What is measured while a check is in a state; a breach where nothing is said."""


def spec(version: str = "2.0", **changes: Any) -> dict[str, Any]:
    """A Release of two stages: migrate with a restore, then deploy with a gate and a bake."""
    target = {"kind": "Deployment", "name": "web", "images": {"app": "shop/web:$(version)"}}
    base: dict[str, Any] = {
        "version": version,
        "targets": [{"name": "web", "workload": target}],
        "stages": [
            {
                "name": "migrate",
                "steps": [
                    {"name": "backup", "job": {"image": "tools"}, "produces": "backup"},
                    {
                        "name": "migrate",
                        "job": {"image": "tools:$(version)"},
                        "requires": ["backup"],
                    },
                ],
                "rollback": {
                    "steps": [
                        {
                            "name": "restore",
                            "requires": ["backup"],
                            "job": {"image": "tools", "args": ["$(steps.backup.outputs.id)"]},
                        }
                    ]
                },
            },
            {
                "name": "deploy",
                "steps": [{"name": "deploy", "deploy": {"targets": ["web"]}}],
                "gates": [{"name": "errors", "prometheus": {"query": "errors"}, "max": "1%"}],
                "bake": "10s",
            },
        ],
    }
    return base | changes


@dataclass
class World:
    """What is outside of the core, scripted."""

    spec: dict[str, Any] = field(default_factory=spec)
    now: datetime = START
    live: str = "1.0"
    status: ReleaseStatus = field(default_factory=ReleaseStatus)
    body: PinnedSpec | None = None
    generation: int = 1
    deleting: bool = False
    finalized: bool = False
    rival: str | None = None
    no_room: str = ""
    unwatched: float = 0.0
    gates: dict[str, CheckState] = field(default_factory=dict)
    """State by check name, or by name and window (`rate#1`); Passing where nothing is said."""
    jobs: dict[str, Progress] = field(default_factory=dict)
    """How the Job of a step ends; Succeeded where nothing is said."""
    slow: set[str] = field(default_factory=set)
    """Steps whose operations stay Running."""
    performed: list[Operation] = field(default_factory=list)
    notes: list[KubernetesEvent] = field(default_factory=list)
    writes: int = 0
    missing: str | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    """Snapshots of the last revision."""
    revisions: dict[str, PinnedSpec] = field(default_factory=dict)
    """Bodies in ControllerRevisions that were not pruned."""
    open_interventions: list[Intervention] = field(default_factory=list)
    """Interventions whose own status tells no answer yet."""
    restore_hint: str = ""
    """How a target would be returned."""
    trouble: str = ""
    """Why what was deployed does not run."""
    ails: str = ""
    """Why what was returned does not run."""
    troubled: datetime | None = None
    """When there was trouble last, where there is none now."""
    unknown: str = ""
    """Why nobody can tell what a target is now."""
    unproved: str = ""
    """Why a deploy that failed or was skipped has not rolled out."""
    changed: dict[str, str] = field(default_factory=dict)
    """What others have made of other things than the target, by subject."""
    unready: str = ""
    """Why a target that has the version does not run it."""
    remark: str = ""
    """What people should know of a target although nothing is different."""
    unconnected: tuple[str, ...] = ()
    procedure_rival: str | None = None
    procedure_at_work: bool = False
    doubt: str = ""
    unstoppable: bool = False
    """Whether pods of a Job that is stopped go on."""
    refused: dict[str, str] = field(default_factory=dict)
    """Restores that the API server refuses, by subject, with its words."""
    refused_stops: bool = False
    """Whether the API server refuses to stop Jobs."""
    refused_jobs: dict[str, str] = field(default_factory=dict)
    """Jobs that the API server refuses, by step, with its words."""
    turned_down: set[str] = field(default_factory=set)
    rolled_out: datetime | None = None
    """When what was restored became ready."""
    unready_until: str = ""
    """What must have been performed before restored pods are ready."""
    lost: str = ""
    """Why the snapshots of a run whose rollback failed cannot be read any more."""
    unreadable: bool = False
    """Whether the spec cannot be parsed."""
    data: dict[str, Any] = field(default_factory=dict)
    """What ControllerRevisions hold, by name."""
    told: bool = True
    """Whether answers reach their Interventions at once."""
    people: int = 0
    freezes: tuple[Freeze, ...] = ()
    """Freezes of the namespace."""
    labels: dict[str, str] = field(default_factory=dict)
    looking: str | None = None
    """What is looked at and not seen yet, in words, or empty while that is no news; None where
    everything is seen."""

    @property
    def run(self) -> Run:
        """The run of the Release, where it must have one."""
        assert self.status.run is not None, "nothing has run"
        return self.status.run

    def outcome(self) -> Outcome | None:
        """How the run has ended; None while it is under way.

        A method, like `phase`: mypy would take an attribute to stay what a test has found once.
        """
        return self.run.outcome

    def phase(self) -> Phase:
        """How far the run is."""
        return self.run.phase

    @property
    def rollback(self) -> Rollback:
        """The way back of the run, where it has taken one."""
        assert self.run.rollback is not None, "nothing is rolled back"
        return self.run.rollback

    @property
    def unverified(self) -> Unverified:
        """What a rollback has left, where one has failed."""
        assert self.status.unverified is not None, "no rollback has failed"
        return self.status.unverified

    @property
    def served(self) -> Served:
        """What is live, where the status must know it."""
        assert self.status.live is not None, "the status names nothing as live"
        return self.status.live

    @property
    def last_good(self) -> Served:
        """What was promoted last, where something must have been."""
        assert self.status.lastGood is not None, "nothing was promoted"
        return self.status.lastGood

    @property
    def waiting_for(self) -> WaitingFor:
        """What is waited for, where something must be."""
        assert self.status.waitingFor is not None, "nothing is waited for"
        return self.status.waitingFor

    @property
    def message(self) -> str:
        """What the status says, where it must say something."""
        assert self.status.message is not None, "the status says nothing"
        return self.status.message

    def view(self) -> View:
        parsed = ReleaseSpec.model_validate(self.spec)
        if self.unreadable:
            return View(
                "shop",
                "web",
                "uid-1",
                self.generation,
                None,
                self.status.model_copy(deep=True),
                ("spec: cannot be read",),
                self.deleting,
                self.finalized,
                tuple(self.open_interventions),
            )
        return View(
            "shop",
            "web",
            "uid-1",
            self.generation,
            parsed,
            self.status.model_copy(deep=True),
            tuple(find_problems(parsed)),
            self.deleting,
            self.finalized,
            tuple(self.open_interventions),
            self.labels,
        )

    def observe(self, wants: Needs) -> Observation:
        sights = {
            subject: LiveState(
                {"of": self.live} | ({"hash": "h1"} if subject.startswith("configmap/") else {}),
                self.live == self.spec["version"],
                self.live,
                self.missing,
                self.unready,
                self.restore_hint,
            )
            for subject in (wants.live_states if self.looking is None else ())
        }
        run = self.status.run
        under_way = run is not None and run.outcome is None
        broken = sights and not under_way and self.status.unverified is not None and run is not None
        good = self.data.get(self.status.lastGood.snapshot or "") if self.status.lastGood else None
        return Observation(
            self.now,
            self.body if under_way else None,
            sights,
            {operation.id: self._progress(operation) for operation in wants.operations},
            {measure.path: self._verdict(measure) for measure in wants.measures},
            {holding.subject: self._standing(holding) for holding in wants.holdings},
            rival=self.rival,
            freezes=self.freezes,
            no_room=self.no_room,
            unwatched=self.unwatched,
            kept=self.pinned(),
            resting=None if under_way else self.left(),
            snapshots=self.data[run.revision]["snapshots"]
            if wants.snapshots and run is not None
            else None,
            promoted=good["snapshots"] if good else {},
            inherited=self.data[run.revision]["snapshots"]
            if broken and run is not None and not self.lost
            else None,
            lost=self.lost if broken else "",
            unconnected=self.unconnected,
            looking=(self.looking or "") if wants.live_states else "",
            doubt=self.doubt,
            procedure_rival=self.procedure_rival,
            procedure_at_work=self.procedure_at_work,
            records={name: self.data.get(name, "it is gone") for name in wants.records},
        )

    def left(self) -> dict[str, Any]:
        """At rest: what was promoted, or what a rollback has left."""
        live = self.status.live
        if (
            live is None
            or live.snapshot is None
            or (self.status.run and self.status.run.outcome is None)
        ):
            return {}
        return resting.left_subjects(self.data[live.snapshot])

    def _standing(self, holding: Holding) -> Standing:
        """A target beside what it is to be; everything else is as wanted."""
        if self.unknown:
            return Standing(unknown=self.unknown)
        if holding.subject != "target/web":
            return Standing(self.changed.get(holding.subject, ""))
        wanted = self._wanted(holding)
        different = (
            f"Deployment web runs {self.live} instead of {wanted}" if self.live != wanted else ""
        )
        if holding.unproved and self.unproved and not different:
            different = f"target/web has not rolled out what the run wants: {self.unproved}"
        trouble = (
            self.ails if "restore" in [item.kind for item in holding.operations] else self.trouble
        )
        at = (self.now if trouble else self.troubled) if holding.window is not None else None
        return Standing(
            different,
            version=self.live,
            trouble=trouble,
            troubled_at=at,
            remark=self.remark,
            rolled_out=self.rolled_out,
        )

    def _wanted(self, holding: Holding) -> str:
        wanted = self.live
        for operation in holding.operations:
            if operation.kind == "apply":
                wanted = operation.config["workload"]["images"]["app"].rpartition(":")[2]
            elif operation.kind == "restore":
                run = self.status.run
                under_way = run is not None and run.outcome is None
                name = (
                    run.revision
                    if under_way and run
                    else self.status.live.snapshot
                    if self.status.live
                    else ""
                )
                wanted = self.data[name or ""]["snapshots"]["target/web"]["of"]
        return wanted

    def pinned(self) -> dict[str, PinnedSpec | None]:
        """What follow-ups of earlier runs, guards at rest and the procedure under way need."""
        names = {
            *followups.revisions_in_use(self.status),
            *at_rest.revisions_in_use(self.status),
            *procedures.revisions_in_use(self.status),
        }
        return {name: self.revisions.get(name) for name in names}

    def wants(self, view: View) -> Needs:
        under_way = view.run is not None
        return find_needs(
            view, self.body if under_way else None, self.now, self.pinned(), self.left()
        )

    def tick(self) -> Decision:
        """One decision, carried out."""
        view = self.view()
        decision = decide(view, self.observe(self.wants(view)))
        assert decide(view, self.observe(self.wants(view))).status == decision.status, (
            "decide is pure"
        )
        if dump(decision.status) != dump(self.status):
            self.writes += not decision.deferrable
        self.unwatched = 0.0
        self.status = decision.status
        self.notes += decision.events
        self.finalized = self.finalized or decision.add_finalizer or decision.add_finalizer_beside
        if decision.taken_up is not None:
            assert self.data[decision.taken_up.name] == decision.taken_up.data
            self.kept = dict(decision.taken_up.data["snapshots"])
            self.body = unpin_spec(decision.taken_up.data["body"])
        if decision.revision is not None:
            self.kept = dict(decision.revision.data["snapshots"])
            self.data[decision.revision.name] = decision.revision.data
        if decision.revision is not None and "body" in decision.revision.data:
            self.body = self.revisions[decision.revision.name] = unpin_spec(
                decision.revision.data["body"]
            )
        procedure = decision.procedure_revision
        if procedure is not None:
            self.revisions[procedure.name] = unpin_spec(procedure.data["body"])
        if decision.prune_revisions:
            status = self.status
            needed = {
                status.run.revision if status.run else "",
                *followups.revisions_in_use(status),
                *procedures.revisions_in_use(status),
            }
            needed |= {past.revision for past in status.history if past.revision}
            needed |= {row.revision for row in status.atRest}
            needed |= {row.revision for row in status.kept}
            self.revisions = {name: body for name, body in self.revisions.items() if name in needed}
        for operation in decision.operations:
            self._perform(operation)
        if decision.remove_finalizer:
            self.finalized = False
        answered = {item.uid for item in self.status.interventions}
        self.open_interventions = [
            act for act in self.open_interventions if not self.told or act.uid not in answered
        ]
        return decision

    def settle(self) -> Self:
        """Decide until nothing changes at this moment."""
        for _ in range(2000):
            before = dump(self.status), len(self.performed), self.finalized
            self.tick()
            if before == (dump(self.status), len(self.performed), self.finalized):
                return self
        raise AssertionError("no rest")

    def later(self, seconds: float) -> Self:
        """Let time pass, second by second."""
        for _ in range(int(seconds)):
            self.now += timedelta(seconds=1)
            self.settle()
        return self

    def jump(self, seconds: float) -> Self:
        """Let much time pass in which nothing happens."""
        self.settle()
        self.now += timedelta(seconds=seconds)
        return self.settle()

    def ask(self, version: str | None = None, **changes: Any) -> Self:
        """Edit the spec."""
        self.spec = self.spec | ({"version": version} if version else {}) | changes
        self.generation += 1
        return self

    def act(self, action: Action, by: str = "ana", **more: Any) -> Answered | None:
        """Somebody makes an Intervention; what came of it, None where nothing did yet."""
        self.people += 1
        uid = f"itv-{self.people}"
        more = {"made": (format_time(self.now), self.people)} | more
        self.open_interventions.append(
            Intervention(uid, f"web-{action.lower()}-{self.people}", action, by, **more)
        )
        self.settle()
        return next((item for item in self.status.interventions if item.uid == uid), None)

    def answer(self, action: Action, by: str = "ana", **more: Any) -> Answered:
        """Somebody makes an Intervention, and is answered at once."""
        answer = self.act(action, by, **more)
        assert answer is not None, f"{action} is not answered"
        return answer

    def done(self, kind: str | None = None) -> list[str]:
        """What was performed, as `kind subject`, Job names shortened to their step."""
        return [
            f"{item.kind} {_short(item)}" for item in self.performed if kind in (None, item.kind)
        ]

    def _perform(self, operation: Operation) -> None:
        again = operation.kind not in ("stop", "restore") and operation.id in {
            item.id for item in self.performed
        }
        assert not again, f"{operation.id} twice"
        if operation.kind == "restore" and operation.subject in self.refused:
            self.turned_down.add(operation.id)
            return
        self.performed.append(operation)
        if operation.kind == "apply":
            self.live = operation.config["workload"]["images"]["app"].rpartition(":")[2]
        if operation.kind == "restore" and operation.subject == "target/web":
            self.live = self._returned(operation)

    def _returned(self, operation: Operation) -> str:
        assert self.status.run is not None
        snapshots = self.data[self.status.run.revision]["snapshots"]
        return str(snapshots[operation.snapshot_name]["of"])

    def _progress(self, operation: Operation) -> Progress:
        if operation.id in self.turned_down and operation.subject in self.refused:
            return Progress("Refused", self.refused[operation.subject])
        self.turned_down.discard(operation.id)
        if operation.kind == "stop" and self.refused_stops:
            return Progress("Refused", "403 policy")
        if _short(operation).partition("/")[2] in self.refused_jobs:
            return Progress("Refused", self.refused_jobs[_short(operation).partition("/")[2]])
        if operation.id not in {item.id for item in self.performed}:
            return Progress("Absent")
        if operation.kind == "stop":
            return (
                Progress("Running", "its pods are still ending")
                if self.unstoppable
                else Progress("Succeeded")
            )
        if (
            operation.kind == "restore"
            and operation.subject == "target/web"
            and self.live != self._returned(operation)
        ):
            # What others have overwritten, when it is time to restore it once more.
            return Progress("Absent", f"Deployment web runs {self.live}")
        if (
            operation.kind == "restore"
            and self.unready_until
            and self.unready_until not in " ".join(self.done())
        ):
            return Progress("Running", "0 of 1 replicas available")
        step = _short(operation).partition("/")[2]
        if step in self.slow or operation.kind == "ask":
            return Progress("Running")
        if operation.kind == "job":
            return self.jobs.get(step, Progress("Succeeded", outputs={"id": f"{step}-1"}))
        return self.jobs.get(step, Progress("Succeeded"))

    def _verdict(self, measure: Measure) -> Verdict:
        name, window = measure.check.name, measure.path.rpartition("/")[2]
        state = self.gates.get(f"{name}#{window}", self.gates.get(name, "Passing"))
        if state == "Silent":
            return Verdict("Failed", 0.0, Sample(1.0, "NoData"), "NoData")
        kind = KINDS.get(state, "Breach")
        sample = Sample(
            1.0, kind, 0.05 if kind == "Breach" else 0.001, "5% > 1%" if kind == "Breach" else ""
        )
        return Verdict(state, 0.0, sample, "NoData" if state == "Holding" else "Breach")


def _short(operation: Operation) -> str:
    if not operation.subject.startswith("job/"):
        return operation.subject
    return "job/" + operation.key.rpartition("-")[0].split(".")[-2]


__all__ = ["START", "World", "replace", "spec"]
