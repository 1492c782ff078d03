"""The machine: rules that let anything happen to a Release, a pass after each, and the laws after
each pass."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gatewright.api.status import OPEN_FOLLOW_UPS, Run
from gatewright.core.model.freeze import Freeze
from gatewright.core.model.needs import Needs
from gatewright.core.run.position import current_stage_index
from gatewright.core.run.procedure_run import procedure_under_way
from tests.unit.model import laws, specs
from tests.unit.model.world import GONE, Kill, Wild, name_of
from tests.unit.sim import CheckState
from tests.unit.test_kstatus import kstatus

SUBJECTS = (
    "target/web",
    "target/worker",
    "configmap/flags",
    "configmap/web-env",
    "flags/deploy.one",
)
FATES = (
    "Succeeded",
    "Failed",
    "Failed",
    "Running",
    "Stuck",
    "Failed",
    "Refused",
    "Hopeless",
    "Mute",
    "Unread",
)
THINGS = (*specs.NAMES, *specs.CHECKS, "undo0", "undo1", *SUBJECTS)
ACTIONS = (
    "Approve",
    "Reject",
    "Confirm",
    "Retry",
    "Skip",
    "Promote",
    "Rollback",
    "Abort",
    "Pause",
    "Resume",
    "Hotfix",
    "Notify",
)
USUAL = (
    *ACTIONS,
    "Retry",
    "Retry",
    "Skip",
    "Skip",
    "Rollback",
    "Rollback",
    "Confirm",
    "Promote",
    "Resume",
)
PLACES = ("stage", "step", "gate", "run", "follow_up", "doubt")
count = 0
"""Steps of all walks so far."""


class Walk(RuleBasedStateMachine):
    """One Release and what happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Wild()
        self.passes = 100
        self.broken = False
        self.aborts = False

    @initialize(
        spec=specs.specs(),
        mood=st.sampled_from(["Succeeded", "Succeeded", "Running"]),
        aborts=st.booleans(),
        begins=st.sampled_from(["edited", "taken away", "failing twice", "", "", "", ""]),
    )
    def apply(self, spec: dict[str, Any], mood: str, aborts: bool, begins: str) -> None:
        made = {"": spec, "failing twice": specs.failing_twice(spec)}
        self.world.spec, self.world.mood = made.get(begins) or specs.asking(spec), mood
        self.aborts = aborts
        self._go()
        if begins == "failing twice":
            self.two_stages_fail()
        elif begins:
            self.what_people_have_approved_is_edited(away=begins == "taken away")

    # --- time and operators

    @rule(seconds=st.sampled_from([0.5, 1, 5, 31, 61, 125, 400, 700, 1900, 7300, 90000]))
    def wait(self, seconds: float) -> None:
        self.world.now += timedelta(seconds=seconds)
        self._go()

    @rule(answers=st.sampled_from([True, True, False]))
    def wait_for_what_is_due(self, answers: bool) -> None:
        if answers:
            self._answer()
        self._until_due()

    @rule()
    def time_goes_on(self) -> None:
        self._answer()
        self._until_due()

    @rule(answers=st.booleans())
    def and_on(self, answers: bool) -> None:
        self._answer() if answers else None
        self._until_due()

    @rule()
    def go_on(self) -> None:
        self._go(100)

    @rule(passes=st.sampled_from([1, 2, 100]))
    def pace(self, passes: int) -> None:
        self.passes = passes
        self._go()

    @rule(kill=st.sampled_from([None, "before", "after"]), seconds=st.sampled_from([0, 3, 700]))
    def restart(self, kill: Kill | None, seconds: float) -> None:
        with self._watched():
            self.world.tick(kill)
            self._look()
            self.world.restart(seconds)
        self._go()

    @rule()
    def passes_fail(self) -> None:
        with self._watched():
            self.world.fail_passes("KeyError: 'body'; " * 40)
            self._look()
        self._go()

    @rule(there=st.sampled_from([True, True, False]))
    def api_server(self, there: bool) -> None:
        self.world.blind = not there
        self._go()

    @rule(hours=st.sampled_from([None, None, 1, 24]))
    def somebody_freezes(self, hours: int | None) -> None:
        until = self.world.now + timedelta(hours=hours or 0)
        self.world.freezes = (Freeze("audit", "audit", until),) if hours else ()
        self._go()

    @rule(looking=st.sampled_from([None, None, "", "target/web: no answer within 10s"]))
    def a_vendor_is_looked_at(self, looking: str | None) -> None:
        self.world.looking = looking
        self._go()

    # --- how things go

    @rule(
        name=st.sampled_from(specs.CHECKS),
        state=st.sampled_from(["Breaching", "Holding", "Failed", "Silent", "Unknown"]),
    )
    def measure(self, name: str, state: CheckState) -> None:
        self.world.gates[name] = state
        self._go()

    @rule()
    def measures_are_good(self) -> None:
        self.world.gates.clear()
        self._go()

    @rule(name=st.sampled_from(THINGS), fate=st.sampled_from(FATES))
    def operations_go(self, name: str, fate: str) -> None:
        self.world.fates[name] = fate
        self._go()

    @rule(number=st.integers(0, 2), fate=st.sampled_from(FATES))
    def what_is_under_way_goes(self, number: int, fate: str) -> None:
        under_way = [item for item in self._wants().operations if item.kind not in ("ask", "stop")]
        if under_way:
            self.world.fates[name_of(under_way[number % len(under_way)])] = fate
        self._go()

    @rule(
        number=st.integers(0, 2),
        state=st.sampled_from(["Breaching", "Holding", "Failed", "Failed", "Silent"]),
    )
    def what_is_measured_is(self, number: int, state: CheckState) -> None:
        measured = [item.check.name for item in self._wants().measures]
        if measured:
            self.world.gates[measured[number % len(measured)]] = state
        self._go()

    @rule()
    def the_stage_fails(self) -> None:
        wants = self._wants()
        self.world.fates |= {
            name_of(item): "Failed" for item in wants.operations if item.kind not in ("ask", "stop")
        }
        self.world.gates |= {
            item.check.name: "Failed" for item in wants.measures if "/stages/" in item.path
        }
        self._go()

    @rule()
    def two_stages_fail(self) -> None:
        """One after the other, until people decide; then the last one is repeated, and all goes
        well."""
        for _ in range(10):
            run = self.world.status.run
            if run is None or run.phase not in ("Preflight", "Progressing"):
                break
            if not self._answer():
                self.the_stage_fails()
                self._until_due()
            self._go(100)
        if self.world.status.state == "Paused":
            self.world.fates.clear()
            self.world.gates.clear()
            self.world.intervene("Retry")
        self._go()

    @rule(fate=st.sampled_from(["Running", "Stuck", "Failed", "Mute"]), turn=st.booleans())
    def compensations_go(self, fate: str, turn: bool) -> None:
        self.world.fates["undo0"] = fate
        if turn:
            self.world.intervene("Rollback")
        self._go()

    @rule(number=st.integers(0, 2), value=st.sampled_from(["hotfix", GONE]))
    def others_change_what_is_held(self, number: int, value: str) -> None:
        held = [item.subject for item in self._wants().holdings]
        if held:
            self.world.things[held[number % len(held)]] = value
        self._go()

    @rule(mood=st.sampled_from(["Succeeded", "Running"]))
    def operations_go_well(self, mood: str) -> None:
        self.world.fates.clear()
        self.world.mood = mood
        self._go()

    @rule(unstoppable=st.booleans())
    def stops(self, unstoppable: bool) -> None:
        self.world.unstoppable = unstoppable
        self._go()

    @rule(subject=st.sampled_from(SUBJECTS), value=st.sampled_from(["hotfix", "1.0", "2.0", GONE]))
    def others_change(self, subject: str, value: str) -> None:
        self.world.things[subject] = value
        self._go()

    @rule()
    def others_put_back(self) -> None:
        with self._watched():
            self.world.put_back()
        self._go()

    @rule(times=st.integers(1, 4))
    def others_undo_and_all_else_goes_well(self, times: int) -> None:
        self.world.gates.clear()
        self.world.fates.clear()
        self.world.mood = "Succeeded"
        for holding in self._wants().holdings:
            self.world.things[holding.subject] = "1.0"
        for _ in range(times):
            self._until_due()

    @rule(
        fate=st.sampled_from(["Stuck", "Running"]),
        number=st.sampled_from([0, 0, 1]),
        times=st.integers(1, 3),
    )
    def a_rollback_takes_too_long(self, fate: str, number: int, times: int) -> None:
        self.world.fates[f"undo{number}"] = fate
        self.world.intervene("Rollback")
        self._go(100)
        for _ in range(times):
            self.world.now += timedelta(seconds=1900)
            self._go(100)

    @rule(subject=st.sampled_from(SUBJECTS[:2]), trouble=st.sampled_from(["", "pods crash"]))
    def runs(self, subject: str, trouble: str) -> None:
        self.world.troubles[subject] = trouble
        self._go()

    @rule(subject=st.sampled_from(SUBJECTS), dark=st.booleans())
    def look_at(self, subject: str, dark: bool) -> None:
        (self.world.dark.add if dark else self.world.dark.discard)(subject)
        self._go()

    @rule(
        rival=st.sampled_from([None, None, None, "other"]),
        unconnected=st.sampled_from([(), (), (), ("spec.guards[0]: no connection",)]),
    )
    def neighbours(self, rival: str | None, unconnected: tuple[str, ...]) -> None:
        self.world.rival, self.world.unconnected = rival, unconnected
        self._go()

    # --- people

    @rule(action=st.sampled_from(USUAL), by=st.sampled_from(["ana", "bo"]))
    def somebody_asks(self, action: str, by: str) -> None:
        self.world.intervene(action, by, reason=f"because {'of it ' * 200}")
        self._go()

    @rule(actions=st.lists(st.sampled_from(ACTIONS), min_size=2, max_size=4))
    def many_ask_at_once(self, actions: list[str]) -> None:
        for action in actions:
            self.world.intervene(action)
        self._go()

    @rule(action=st.sampled_from(ACTIONS), where=st.sampled_from(PLACES), number=st.integers(0, 4))
    def somebody_asks_for(self, action: str, where: str, number: int) -> None:
        names = {
            "stage": specs.STAGES,
            "step": specs.NAMES,
            "gate": specs.CHECKS,
            "follow_up": ("log", "rate-24h"),
        }
        more: dict[str, Any] = (
            {"run": number}
            if where == "run"
            else {"doubt": "nobody knows"}
            if where == "doubt"
            else {}
        )
        if where in names and not (where == "follow_up" and action not in ("Confirm", "Reject")):
            more = {where: names[where][number % len(names[where])]}
        self.world.intervene(action, **more)
        self._go()

    @rule()
    def all_is_well(self) -> None:
        self.world.make_benign(answered=False)
        self._go()

    @rule()
    def whoever_is_asked_says_yes(self) -> None:
        self._answer()
        self._go()

    @rule(told=st.booleans())
    def answers_reach_their_interventions(self, told: bool) -> None:
        self.world.told = told
        self._go()

    # --- edits

    @precondition(lambda self: self._may_pause())
    @rule(away=st.sampled_from([False, False, True]))
    def what_people_have_approved_is_edited(self, away: bool) -> None:
        """People say yes until a stage has failed; then somebody edits the body, and has it go
        on."""
        self.world.make_benign()
        for _ in range(15):
            if not self._may_pause() or self.world.status.state == "Paused":
                break
            if self._answer():
                self._go(100)
                continue
            index, body = current_stage_index(self._run()), self.world.pinned_body(self._run())
            if (
                index is not None
                and body is not None
                and body.spec.stages[index].onFailure == "Pause"
            ):
                self.the_stage_fails()
            self._until_due()
        if self.world.status.state == "Paused":
            self.world.fates.clear()
            self.world.gates.clear()
            self.edit_and_retry(away)

    @precondition(lambda self: self.world.status.state == "Paused")
    @rule(away=st.sampled_from([False, False, True]))
    def edit_and_retry(self, away: bool) -> None:
        """`away`: the edit makes waits of the approvals."""
        spec = self.world.spec
        changes: dict[str, Any] = {"vars": {"edit": f"v{self.world.generation}"}}
        if away:
            changes["preflight"] = [check for check in spec["preflight"] if "approval" not in check]
            changes["stages"] = [
                stage | {"steps": [_harmless(step) for step in stage["steps"]]}
                for stage in spec["stages"]
            ]
        self.world.ask(**changes)
        self.world.intervene("Retry", "mallory")
        self._go()

    def _may_pause(self) -> bool:
        """Whether people are asked in a run that is under way, and decide when a stage of it has
        failed."""
        run = self.world.status.run
        body = self.world.pinned_body(run) if run is not None else None
        if run is None or body is None or run.phase not in ("Preflight", "Progressing", "Paused"):
            return False
        steps = [step for stage in body.spec.stages for step in stage.steps]
        asks = any(step.approval for step in steps) or any(
            row.name == "go" for row in run.preflight
        )
        return asks and any(stage.onFailure == "Pause" for stage in body.spec.stages)

    def _run(self) -> Run:
        assert self.world.status.run is not None
        return self.world.status.run

    @rule(version=st.sampled_from(["1.0", "2.0", "3.0", "4.0"]))
    def ask_for(self, version: str) -> None:
        self.world.ask(version)
        self._go()

    @rule(at_once=st.sampled_from([False, False, True]))
    def ask_for_the_next(self, at_once: bool) -> None:
        if at_once or self.world.status.run is None or self.world.status.run.outcome is not None:
            self.world.ask(f"{self.world.generation + 4}.0")
        self._go()

    @rule(stages=specs.stages())
    def edit_stages(self, stages: list[dict[str, Any]]) -> None:
        self.world.ask(stages=stages)
        self._go()

    @rule(failure=st.sampled_from(["Rollback", "Pause", "Continue"]), number=st.integers(0, 2))
    def edit_failure(self, failure: str, number: int) -> None:
        found = self.world.spec["stages"]
        number %= len(found)
        self.world.ask(
            stages=[
                item | ({"onFailure": failure} if n == number else {})
                for n, item in enumerate(found)
            ]
        )
        self._go()

    @rule(
        supersede=st.sampled_from(["Queue", "Replace", "Reject"]),
        suspend=st.sampled_from([False, False, True]),
        adopt=st.sampled_from(["First", "Always"]),
    )
    def edit_what_counts_at_once(self, supersede: str, suspend: bool, adopt: str) -> None:
        self.world.ask(supersede=supersede, suspend=suspend, adopt=adopt)
        self._go()

    @rule(mode=st.sampled_from(["Enforce"] * 5 + ["Observe"]))
    def edit_mode(self, mode: str) -> None:
        self.world.ask(mode=mode)
        self._go()

    @rule(
        invalid=st.booleans(),
        unreadable=st.sampled_from([False, False, True]),
        version=st.sampled_from(["2.0", "3.0"]),
    )
    def edit_badly(self, invalid: bool, unreadable: bool, version: str) -> None:
        self.world.invalid, self.world.unreadable = invalid, unreadable
        self.world.ask(version)
        self._go()

    @rule()
    def mend_the_edit(self) -> None:
        self.world.invalid = self.world.unreadable = False
        self.world.ask()
        self._go()

    @rule(place=st.sampled_from(["status", "run", "stage"]))
    def newer_operator(self, place: str) -> None:
        raw = dict(self.world.raw)
        run = raw.get("run")
        if place == "status" or run is None:
            raw[laws.UNKNOWN] = {"a": [1]}
        elif place == "run":
            raw["run"] = {**run, laws.UNKNOWN: "b"}
        else:
            raw["run"] = {
                **run,
                "stages": [{**run["stages"][0], laws.UNKNOWN: 3}, *run["stages"][1:]],
            }
        self.world.raw = raw
        self._go()

    @precondition(lambda self: not self.world.deleting and self.world.passes > 60)
    @rule()
    def delete(self) -> None:
        self.world.deleting = True
        self._go()

    @precondition(lambda self: self.world.deleting and not self.world.finalized)
    @rule()
    def make_anew(self) -> None:
        self.world.make_anew()
        self._go()

    # --- procedures

    @precondition(lambda self: self.world.spec.get("procedures"))
    @rule(
        number=st.integers(0, 1),
        undo=st.sampled_from([False, False, False, True]),
        by=st.sampled_from(["ana", "bo"]),
        slow=st.sampled_from(["", "", "Running", "Stuck", "Failed"]),
    )
    def somebody_runs_a_procedure(self, number: int, undo: bool, by: str, slow: str) -> None:
        self._run_procedure(number, undo, by, slow)
        self._go()

    @precondition(lambda self: self.world.spec.get("procedures"))
    @rule(
        number=st.integers(0, 1),
        kills=st.lists(st.sampled_from(["before", "after", None]), min_size=1, max_size=8),
        seconds=st.sampled_from([0, 3, 700]),
    )
    def the_operator_is_killed_in_a_procedure(
        self, number: int, kills: list[Kill | None], seconds: float
    ) -> None:
        """Before or after any of its writes; people answer what it asks."""
        self._run_procedure(number, undo=False, by="ana", slow="")
        with self._watched():
            for kill in kills:
                self.world.tick(kill)
                self._look()
                self._answer_procedure()
                self.world.restart(seconds)
        self._go()

    @precondition(lambda self: self.world.spec.get("procedures"))
    @rule(
        number=st.integers(0, 1),
        undo=st.sampled_from([False, False, True]),
        then=st.sampled_from(
            ["edit", "version", "version", "Rollback", "Abort", "Retry", "guard", "delete"]
        ),
        at_once=st.booleans(),
    )
    def in_the_middle_of_a_procedure(
        self, number: int, undo: bool, then: str, at_once: bool
    ) -> None:
        """The Release is edited, a run begins or turns around, or the Release is deleted."""
        self._run_procedure(number, undo, "ana", "Running")
        self._go() if not at_once else None
        if then == "edit":
            self.world.ask(vars={"edit": f"v{self.world.generation}"})
        elif then == "version":
            self.world.ask(f"{self.world.generation + 4}.0")
        elif then == "guard":
            self.world.gates |= dict.fromkeys(specs.CHECKS, "Failed")
        elif then == "delete":
            self.world.deleting = self.world.deleting or self.world.passes > 60
        else:
            self.world.intervene(then)
        self._go()

    @precondition(lambda self: procedure_under_way(self.world.status) is not None)
    @rule(
        action=st.sampled_from(["Approve", "Approve", "Reject", "Confirm", "Abort"]),
        by=st.sampled_from(["ana", "bo", "cy"]),
        times=st.sampled_from([1, 1, 2]),
    )
    def somebody_answers_the_procedure(self, action: str, by: str, times: int) -> None:
        row = procedure_under_way(self.world.status)
        assert row is not None
        for _ in range(times):
            self.world.intervene(action, by, procedure=row.name)
        self._go()

    @precondition(lambda self: self.world.spec.get("procedures"))
    @rule(procedures=specs.procedures())
    def edit_procedures(self, procedures: list[dict[str, Any]]) -> None:
        self.world.ask(procedures=procedures)
        self._go()

    def _run_procedure(self, number: int, undo: bool, by: str, slow: str) -> None:
        """Somebody asks for one, and says yes to what it asks to be confirmed."""
        known = self.world.spec["procedures"]
        procedure = known[number % len(known)]
        if slow:
            steps = procedure["undo"] if undo and "undo" in procedure else procedure["steps"]
            self.world.fates |= {step["name"]: slow for step in steps}
        served = self.world.status.live or self.world.status.lastGood
        version = served.version if served is not None else None
        sentence = procedure.get("confirm", "").replace(
            "$(version)", version or self.world.spec["version"]
        )
        self.world.intervene(
            "Run",
            by,
            procedure=procedure["name"],
            undo=undo,
            confirmed=sentence or None,
            reason="pages are slow",
        )

    def _answer_procedure(self) -> bool:
        """A person answers what the procedure under way asks, if anything."""
        row = procedure_under_way(self.world.status)
        for action in ("Approve", "Confirm"):
            if row is not None and f"kubectl release {action.lower()}" in (row.message or ""):
                by = f"person-{self.world.people}"
                self.world.intervene(action, by, procedure=row.name)
                return True
        return False

    # --- the end

    def teardown(self) -> None:
        if self.broken or not self.world.passes:
            return
        try:
            self._end()
        except AssertionError as error:
            if not self.broken:
                raise AssertionError(f"every_run_can_end: {error}") from error
            raise

    def _end(self) -> None:
        """Every run can end, once all goes well and people answer; and at rest nothing claims to be
        under way."""
        world = self.world
        world.make_benign()
        aborted = False
        for _ in range(150):
            self._go(100)
            run = world.status.run
            under_way = run is not None and run.outcome is None
            under_way = under_way or procedure_under_way(world.status) is not None
            if world.deleting and not under_way:
                assert not world.finalized, "a Release that is being deleted is not let go"
                return
            if under_way and self.aborts and not aborted:
                aborted = True
                world.intervene("Abort")
            elif not self._answer():
                if self._rests():
                    return
                self._until_due()
            world.put_back()
        raise AssertionError(
            f"the run does not end: {world.status.state}: {world.status.waitingFor}; "
            f"{world.status.procedures[:1]}"
        )

    def _rests(self) -> bool:
        world, run = self.world, self.world.status.run
        if run is not None and run.outcome is None:
            return False
        if procedure_under_way(world.status) is not None:
            return False
        assert not world.open_interventions, f"{world.open_interventions} are never answered"
        found = kstatus({"metadata": {"generation": world.generation}, "status": world.raw})
        assert found != "InProgress", (
            f"{world.status.state} ({world.status.message}) at rest is InProgress for ever"
        )
        return True

    def _answer(self) -> bool:
        """A person answers what is asked, if anything is."""
        world, run = self.world, self.world.status.run
        if self._answer_procedure():
            return True
        for row in world.status.followUps if run is None or run.outcome is not None else ():
            if row.state in OPEN_FOLLOW_UPS and row.gate is None and row.state != "Overdue":
                world.intervene("Confirm", follow_up=row.name, run=row.run)
                return True
        if run is None or run.outcome is not None:
            return False
        if run.paused is not None:
            world.intervene("Resume")
        elif run.phase == "Paused":
            world.intervene(
                "Retry" if run.stages and max(stage.attempt for stage in run.stages) < 4 else "Skip"
            )
        elif "kubectl release confirm" in (
            world.status.waitingFor.message if world.status.waitingFor else ""
        ):
            world.intervene("Confirm")
        elif "kubectl release approve" in (
            world.status.waitingFor.message if world.status.waitingFor else ""
        ):
            world.intervene("Approve", by=f"person-{world.people}", **_question(run))
        else:
            return False
        return True

    def _until_due(self) -> None:
        world = self.world
        with self._watched():
            wake = world.tick().requeue_at
            self._look()
        if wake is not None:
            world.now = max(wake, world.now)
        else:
            world.now += timedelta(seconds=30)
        self._go()

    def _wants(self) -> Needs:
        with self._watched():
            return self.world.wants(self.world.view())

    def _go(self, passes: int | None = None) -> None:
        global count  # the count of all walks is what `make model` prints
        count += 1
        with self._watched():
            if (passes or self.passes) < 100:
                for _ in range(passes or self.passes):
                    self.world.tick()
                    self._look()
            else:
                self.world.rest(lambda world: laws.check(world))

    def _look(self) -> None:
        laws.check(self.world)

    def _watched(self) -> _Watched:
        return _Watched(self)


def _harmless(step: dict[str, Any]) -> dict[str, Any]:
    return {"name": step["name"], "wait": "0s"} if "approval" in step else step


def _question(run: Run) -> dict[str, str]:
    """What is asked first."""
    if any(row.name == "go" and row.state != "Passing" for row in run.preflight):
        return {"gate": "go"}
    running = [
        (stage, step) for stage in run.stages for step in stage.steps if step.state == "Running"
    ]
    return {"stage": running[0][0].name, "step": running[0][1].name} if running else {}


class _Watched:
    """Remembers that a law was broken, so that the end of the walk does not hide it."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._walk.broken = self._walk.broken or error is not None
