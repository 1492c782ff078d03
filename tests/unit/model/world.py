"""The world of the model: targets and configuration that others change too, Jobs that hang,
operators that are killed.

What is true stands here, and not only what the core believes of it: which Jobs still run, who
changed a target, what was there before a run began to change it. The laws compare both.

    status      is kept as the API server does (`raw`), read anew for each pass, with fields that nobody knows
    operations  go as `fates` says, by the name of their step, check or subject; what is over stays over
    killed      before the write (nothing was decided), or after it (only some effects were done), then restarted
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from gatewright.api.release import ReleaseSpec
from gatewright.api.status import ReleaseStatus, Run, dump
from gatewright.core.checks.window import Sample, Verdict
from gatewright.core.model.decision import Decision
from gatewright.core.model.holding import Holding, Standing
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.needs import Measure, Needs
from gatewright.core.model.observation import LiveState, Observation
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run.clocks import format_time
from gatewright.core.run.decide import decide
from gatewright.core.run.operations import subjects_of
from gatewright.core.run.procedure_run import procedure_under_way
from gatewright.core.run.rescue import decide_stuck
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.pinned_spec import pin_spec, unpin_spec
from gatewright.core.spec.problems import find_problems
from gatewright.core.steps import changed_by
from gatewright.runtime import parse
from tests.unit.sim import World

Kill = Literal["before", "after"]
GONE = "gone"
FORWARD = ("apply", "set", "act", "job")
AGAIN = timedelta(seconds=5)
"""After this a restore that others have overwritten is made once more."""
LONG = "it says much about it; " * 60


@dataclass(slots=True)
class Change:
    """What a run did to a subject."""

    run: int
    subject: str
    wanted: str
    before: str
    stage: str = ""


@dataclass(slots=True)
class Told:
    """What is true of one time that a procedure was run."""

    asks: int = 0
    """How many people have to approve it."""
    approved: set[str] = field(default_factory=set)
    """Who has."""
    keys: dict[str, str] = field(default_factory=dict)
    """Under which key each of its steps has acted."""


@dataclass(slots=True)
class Seen:
    """One pass, as the laws look at it."""

    view: View
    observation: Observation
    decision: Decision
    raw: dict[str, Any]
    """The status before it."""
    person: bool = False
    """Whether a person had asked for something that this pass could answer."""


@dataclass
class Wild(World):
    """A Release, and everything that may happen around it."""

    raw: dict[str, Any] = field(default_factory=dict)
    things: dict[str, str] = field(
        default_factory=lambda: {"target/web": "1.0", "target/worker": "1.0"}
    )
    fates: dict[str, str] = field(default_factory=dict)
    over: dict[str, Progress] = field(default_factory=dict)
    jobs_running: dict[str, Operation] = field(default_factory=dict)
    """By subject: Jobs whose pods run, whatever anybody knows of them."""
    mood: str = "Succeeded"
    """How everything goes of which `fates` says nothing."""
    uid: str = "uid-1"
    troubles: dict[str, str] = field(default_factory=dict)
    dark: set[str] = field(default_factory=set)
    """Subjects that nobody can look at now."""
    blind: bool = False
    """Whether operations cannot be looked at now."""
    overwritten: dict[str, datetime] = field(default_factory=dict)
    """When what others have overwritten is restored once more, by operation."""
    changes: list[Change] = field(default_factory=list)
    stage_restores: list[Change] = field(default_factory=list)
    """What was returned to what an earlier stage had left."""
    undone: set[tuple[int, str]] = field(default_factory=set)
    """Stages that were undone alone, by run."""
    done_ids: set[str] = field(default_factory=set)
    invalid: bool = False
    passes: int = 0
    last: Seen | None = None
    passed_over: set[str] = field(default_factory=set)
    """Stages of the run that have failed where `onFailure: Continue` was what counted."""
    verified_after: set[int] = field(default_factory=set)
    """Runs that have started a Job to verify their rollback."""
    said_to: dict[tuple[str | None, str], str] = field(default_factory=dict)
    """For which body of the run a question was answered, by stage (None: preflight) and name."""
    started: list[Operation] = field(default_factory=list)
    """What the last pass has really begun."""
    brought: tuple[str, str | None] = ("", None)
    """The version of the last run that brought one, and how that run has ended."""
    procedures: dict[int, Told] = field(default_factory=dict)
    """What is true of procedures, by their number."""
    answered: set[str] = field(default_factory=set)
    """Interventions that were answered, by uid."""
    intended: dict[int, set[str]] = field(default_factory=dict)
    """What each run was to change."""
    _parsed: tuple[int, ReleaseSpec, tuple[str, ...]] | None = None
    _bodies: dict[str, PinnedSpec] = field(default_factory=dict)
    _status: tuple[dict[str, Any], ReleaseStatus] | None = None
    _left: tuple[dict[str, Any], dict[str, Any]] | None = None

    # --- what the core is given

    def view(self) -> View:
        """The Release as the API server has it."""
        if self._parsed is None or self._parsed[0] != self.generation:
            spec = ReleaseSpec.model_validate(self.spec)
            self._parsed = (self.generation, spec, tuple(find_problems(spec)))
        _, spec, wrong = self._parsed
        self.status = self._read()
        self.body = self._body(self.status.run)
        return View(
            "shop",
            "web",
            self.uid,
            self.generation,
            None if self.unreadable else spec,
            self.status,
            ("spec: cannot be read",)
            if self.unreadable
            else ("spec.vars: wrong",)
            if self.invalid
            else wrong,
            self.deleting,
            self.finalized,
            tuple(self.open_interventions),
        )

    def _read(self) -> ReleaseStatus:
        """The status as an operator reads what the API server has; once for each write."""
        if self._status is None or self._status[0] is not self.raw:
            status = parse.status_of(self.raw)
            assert status is not None, "the status cannot be read any more"
            self._status = (self.raw, status)
        return self._status[1]

    def left(self) -> dict[str, Any]:
        """At rest: what a ControllerRevision says; read once, as it never changes."""
        live = self.status.live
        if (
            live is None
            or live.snapshot is None
            or (self.status.run and self.status.run.outcome is None)
        ):
            return {}
        data = self.data[live.snapshot]
        if self._left is None or self._left[0] is not data:
            self._left = (data, super().left())
        return self._left[1]

    def pinned_body(self, run: Run) -> PinnedSpec | None:
        """What a run under way has pinned."""
        return self._body(run)

    def _body(self, run: Run | None) -> PinnedSpec | None:
        if run is None or run.outcome is not None:
            return None
        if run.revision not in self._bodies:
            self._bodies[run.revision] = unpin_spec(self.data[run.revision]["body"])
        return self._bodies[run.revision]

    def observe(self, wants: Needs) -> Observation:
        """Everything that was asked for, as it is now."""
        found = super().observe(replace(wants, live_states={}))
        # Half a look outside the cluster is none.
        seen = wants.live_states if self.looking is None else ()
        sights = {subject: self._sight(subject) for subject in seen}
        run = self.status.run
        broken = (
            sights and self.body is None and self.status.unverified is not None and run is not None
        )
        inherited = self.data[run.revision]["snapshots"] if broken and run is not None else None
        looking = (self.looking or "") if wants.live_states else ""
        return replace(
            found,
            live_states=sights,
            inherited=inherited,
            looking=looking,
            rival=self.rival or self._rival_of_run(wants),
            procedure_rival=self._rival_of_procedure(wants),
            procedure_at_work=self._is_procedure_at_work(),
        )

    # --- who has what to himself, as `runtime.claims` tells it

    def _rival_of_run(self, wants: Needs) -> str | None:
        """Its own procedure, where that is at work on what its next run has to itself."""
        begins = bool(wants.live_states) and self.body is None
        in_way = begins and self._is_procedure_at_work()
        return "web (by a procedure that is under way)" if in_way else None

    def _is_procedure_at_work(self) -> bool:
        """Whether it changes what a run of the spec as it is now would have to itself."""
        mine = self._claimed_by_procedure()
        if not mine or self._parsed is None or self.unreadable or self._parsed[2]:
            return False
        return bool(mine & claimed(pin_spec(self._parsed[1], self.status.runs + 1, None)))

    def _rival_of_procedure(self, wants: Needs) -> str | None:
        if wants.procedure is None or self.body is None:
            return None
        shared = changed_by_procedure(wants.procedure) & claimed(self.body)
        return "its own run" if shared else None

    def _claimed_by_procedure(self) -> set[str]:
        body = self.procedure_body()
        return changed_by_procedure(body) if body is not None else set()

    def procedure_body(self) -> PinnedSpec | None:
        """What the procedure under way has pinned."""
        row = procedure_under_way(self.status)
        return self.revisions.get(row.revision or "") if row is not None else None

    def _sight(self, subject: str) -> LiveState:
        value = self.value(subject)
        if value == GONE and subject.startswith("target/"):
            return LiveState(None, problem=f"{subject} is not there")
        version = value if subject.startswith("target/") else None
        return LiveState({"of": value, "hash": value}, value == self.spec["version"], version)

    def value(self, subject: str) -> str:
        """What something is now."""
        return self.things.setdefault(subject, "old")

    def _standing(self, holding: Holding) -> Standing:
        subject = holding.subject
        if subject in self.dark:
            return Standing(unknown=f"no answer about {subject}")
        value, wanted = self.value(subject), self.wanted(holding)
        different = f"{subject} has {value} instead of {wanted}" if value != wanted else ""
        trouble = self.troubles.get(subject, "")
        at = self.now if trouble and holding.window is not None else None
        return Standing(different, version=value, trouble=trouble, troubled_at=at)

    def wanted(self, holding: Holding) -> str:
        """What something is to be, by what was done to it."""
        found = self.value(holding.subject)
        for operation in holding.operations:
            found = self.result_of(operation)
        return found

    def result_of(self, operation: Operation) -> str:
        """What an operation makes of its subject."""
        if operation.kind == "restore":
            run, live = self.status.run, self.status.live
            name = (
                run.revision
                if run is not None and run.outcome is None
                else live.snapshot
                if live
                else ""
            )
            taken = self.data[name or ""]["snapshots"].get(operation.snapshot_name)
            taken = taken or {"of": "old"}
            return str(taken["of"])
        if operation.kind == "apply":
            return str(operation.config["workload"]["images"]["app"].rpartition(":")[2])
        return json.dumps(operation.config, sort_keys=True)

    def _verdict(self, measure: Measure) -> Verdict:
        if measure.check.name in self.gates:
            return super()._verdict(measure)
        return Verdict("Passing", 0.0, Sample(1.0, "Good", 0.001))

    def _progress(self, operation: Operation) -> Progress:
        if self.blind or operation.subject in self.dark:
            return Progress("Unknown", "the API server does not answer")
        if operation.kind == "ask":
            return Progress("Running")
        if operation.id in self.over:
            return self.over[operation.id]
        fate = self.fate(operation)
        if operation.id in self.turned_down and fate == "Refused":
            returning = is_way_back(operation)
            return Progress("Refused" if returning else "Failed", f"quota exceeded; {LONG}")
        if operation.id not in self.done_ids:
            return Progress("Absent")
        if operation.kind == "stop":
            return self._stop(operation)
        return self._way(operation, fate)

    def _stop(self, operation: Operation) -> Progress:
        if operation.subject in self.jobs_running and self.unstoppable:
            return Progress("Running", "its pods are still ending")
        self.jobs_running.pop(operation.subject, None)
        return Progress("Succeeded")

    def _way(self, operation: Operation, fate: str) -> Progress:
        """What was begun, on its way."""
        is_job = operation.kind == "job"
        if is_job and operation.subject not in self.jobs_running:
            return Progress("Failed", "it was stopped")
        if fate == "Hopeless":
            if is_way_back(operation):
                return Progress("Running", "ImagePullBackOff", stuck=True, hopeless=True)
            return Progress("Failed", "ImagePullBackOff")
        if fate in ("Running", "Stuck"):
            return Progress("Running", LONG if fate == "Stuck" else "", stuck=fate == "Stuck")
        if operation.kind in ("apply", "set", "restore") and self.value(
            operation.subject
        ) != self.result_of(operation):
            if operation.kind == "restore" and self._is_due(operation):
                return Progress("Absent", f"{operation.subject} is something else")
            return Progress("Running", f"{operation.subject} is something else", stuck=True)
        if fate == "Failed":
            found = Progress("Failed", f"exit code 1; {LONG}")
        elif is_job:
            published = {} if fate in ("Mute", "Unread") else {"id": "b-1"}
            found = Progress(
                "Succeeded", outputs=published, unread="its pod is gone" if fate == "Unread" else ""
            )
        else:
            found = Progress("Succeeded")
        if is_job:
            self.over[operation.id] = found
            self.jobs_running.pop(operation.subject, None)
        return found

    def _is_due(self, operation: Operation) -> bool:
        """Whether a restore that others have overwritten is made once more."""
        if self.now < self.overwritten.setdefault(operation.id, self.now + AGAIN):
            return False
        del self.overwritten[operation.id]
        self.done_ids.discard(operation.id)
        return True

    def fate(self, operation: Operation) -> str:
        """How an operation goes."""
        return self.fates.get(name_of(operation), self.mood)

    # --- passes

    def tick(self, kill: Kill | None = None) -> Decision:
        """One decision, carried out, or as far as the operator lived."""
        view = self.view()
        wants = self.wants(view)
        seen = self.observe(wants)
        given = parse.status_of(self.raw) if self.passes % 8 == 7 else None
        decision = decide(view, seen)
        self.passes += 1
        if given is not None:
            assert dump(view.status) == dump(given), "decide changes what it is given"
            assert dump(decide(view, seen).status) == dump(decision.status), "decide is pure"
        return self._carry_out(view, seen, decision, kill)

    def fail_passes(self, why: str) -> Decision:
        """Passes have failed again and again: what is done then."""
        view = self.view()
        return self._carry_out(view, Observation(self.now), decide_stuck(view, why, self.now), None)

    def _carry_out(
        self, view: View, seen: Observation, decision: Decision, kill: Kill | None
    ) -> Decision:
        before = self.raw
        if decision.add_finalizer:
            self.finalized = True
        if decision.revision is not None:
            self.data[decision.revision.name] = json.loads(json.dumps(decision.revision.data))
            if "body" in decision.revision.data:
                self.revisions[decision.revision.name] = unpin_spec(
                    self.data[decision.revision.name]["body"]
                )
        procedure = decision.procedure_revision
        if procedure is not None:
            self.revisions[procedure.name] = unpin_spec(
                json.loads(json.dumps(procedure.data["body"]))
            )
        if kill == "before":
            return decision
        self.raw = json.loads(json.dumps(dump(decision.status)))
        self.status = self._read()
        self.unwatched = 0.0
        done = (
            decision.operations
            if kill is None
            else decision.operations[: len(decision.operations) // 2]
        )
        self.last = Seen(view, seen, decision, before, view.next_intervention is not None)
        self.started = []
        for operation in done:
            self._perform(operation)
        if decision.remove_finalizer and kill is None:
            self.finalized = False
        answered = {item.uid for item in self.status.interventions}
        self.open_interventions = [
            act for act in self.open_interventions if not self.told or act.uid not in answered
        ]
        return decision

    def _perform(self, operation: Operation) -> None:
        assert operation.kind == "stop" or operation.id not in self.done_ids, (
            f"{operation.id} twice"
        )
        if self.fate(operation) == "Refused" and operation.kind not in ("stop", "ask"):
            self.turned_down.add(operation.id)
            return
        self.done_ids.add(operation.id)
        self.performed.append(operation)
        self.started.append(operation)
        if operation.kind == "job":
            self.jobs_running[operation.subject] = operation
        if operation.kind in ("apply", "set", "restore"):
            self._change(operation)

    def _change(self, operation: Operation) -> None:
        before, wanted = self.value(operation.subject), self.result_of(operation)
        if of_procedure(operation):
            self.things[operation.subject] = wanted
            return
        run = self.status.run
        assert run is not None
        if operation.kind != "restore" and not is_way_back(operation):
            stage = stage_of(operation)
            self.changes.append(Change(run.id, operation.subject, wanted, before, stage))
        if operation.snapshot:
            self.stage_restores.append(
                Change(run.id, operation.subject, wanted, before, stage_of(operation))
            )
        if before != GONE or not operation.subject.startswith("target/"):
            self.things[operation.subject] = wanted

    def begun(self, seen: Seen) -> list[Operation]:
        """What a pass has really begun."""
        return self.started if seen.decision.operations else []

    def rest(self, look: Callable[[Wild], None] | None = None, most: int = 100) -> None:
        """Decide until nothing changes at this moment."""
        for _ in range(most):
            before = (
                self.raw,
                len(self.performed),
                self.finalized,
                len(self.open_interventions),
                len(self.turned_down),
            )
            self.tick()
            if look is not None:
                look(self)
            if before == (
                self.raw,
                len(self.performed),
                self.finalized,
                len(self.open_interventions),
                len(self.turned_down),
            ):
                return
        raise AssertionError(f"no rest in {most} passes at one moment")

    def restart(self, seconds: float) -> None:
        """Nobody watches for a while."""
        self._bodies.clear()
        self._parsed = None
        self.now += timedelta(seconds=seconds)
        self.unwatched += seconds

    # --- what people do

    def intervene(self, action: Any, by: str = "ana", **more: Any) -> None:
        """Somebody makes an Intervention."""
        self.people += 1
        more = {"made": (format_time(self.now), self.people)} | more
        self.open_interventions.append(
            Intervention(f"itv-{self.people}", f"web-{self.people}", action, by, **more)
        )

    def make_anew(self) -> None:
        """The Release was deleted and is gone; somebody applies it again."""
        assert self.deleting and not self.finalized
        self.people += 1
        self.raw, self.uid, self.generation = {}, f"uid-{self.people}", 1
        self.deleting, self.open_interventions, self.last = False, [], None
        self.restart(1)
        self.changes, self.jobs_running, self.procedures = [], {}, {}
        self.intended, self.brought = {}, ("", None)

    def put_back(self) -> None:
        """Others undo what they have done to everything that the Release holds."""
        view = self.view()
        for holding in self.wants(view).holdings:
            self.things[holding.subject] = self.wanted(holding)
        for subject, value in self.things.items():
            if value == GONE:
                self.things[subject] = "1.0"

    def make_benign(self, answered: bool = True) -> None:
        """Everything goes well from now on."""
        self.freezes = ()
        self.gates, self.fates, self.troubles, self.dark = {}, {}, {}, set()
        self.mood = "Succeeded"
        self.looking = None
        self.blind = self.unstoppable = self.invalid = self.unreadable = False
        self.told, self.rival, self.unconnected = self.told or answered, None, ()
        self.turned_down.clear()
        if self.spec.get("suspend"):
            self.ask(suspend=False)
        self.put_back()


def part(operation: Operation) -> str:
    """What an operation is for: `step`, `stages` (a gate), `preflight`, `verify`, `rollback`, or
    `procedure`."""
    if of_procedure(operation):
        return "procedure"
    parts = _parts(operation)
    return parts[1] if len(parts) > 4 else "step"


def of_procedure(operation: Operation) -> bool:
    """Whether a procedure does it, and no run."""
    return re.match(r"p\d+\.", operation.key) is not None


def claimed(body: PinnedSpec) -> set[str]:
    """What a run of a body has to itself."""
    try:
        return set(subjects_of(body))
    except UnknownReference:
        return set()


def changed_by_procedure(body: PinnedSpec) -> set[str]:
    """What a procedure has to itself."""
    stage = body.spec.stages[0]
    return {subject for step in stage.steps for subject in changed_by(stage, step)}


def is_way_back(operation: Operation) -> bool:
    """Whether an operation undoes a run, or a stage of it."""
    return part(operation) in ("rollback", "rollback-stage")


def stage_of(operation: Operation) -> str:
    """Name of the stage of a step or a gate."""
    parts = _parts(operation)
    return parts[2] if len(parts) > 4 else parts[1]


def name_of(operation: Operation) -> str:
    """Name of the step or check; the subject of a restore."""
    if operation.kind in ("restore", "apply", "set"):
        return operation.subject
    parts = _parts(operation)
    return parts[3] if len(parts) > 4 else parts[2]


def _parts(operation: Operation) -> list[str]:
    """The parts of a key; an Undo acts under the number of the run that it undoes."""
    run, *rest = operation.key.rpartition("-")[0].split(".")
    return [run, *rest[1:]] if re.fullmatch(r"undo\d+", rest[0]) else [run, *rest]
