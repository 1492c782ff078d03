"""Procedures: what people do at any time, and what is left of it."""

from __future__ import annotations

from typing import Any

import pytest

from gatewright.api.release import ReleaseSpec
from gatewright.api.status import Answered, ProcedureStatus, dump
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.operation import Progress
from gatewright.core.report import size
from gatewright.core.spec.problems import find_problems
from gatewright.providers.validate import spec_problems
from tests.unit.sim import World, spec

CACHE: dict[str, Any] = {
    "name": "clear-cache",
    "steps": [{"name": "flush", "job": {"image": "redis:7"}}],
}
VOICE: dict[str, Any] = {
    "name": "voice-off",
    "steps": [{"name": "off", "flags": {"configMap": "web-flags", "set": {"VOICE": "off"}}}],
    "undo": [{"name": "on", "flags": {"configMap": "web-flags", "set": {"VOICE": "on"}}}],
}
TWO: dict[str, Any] = {
    "name": "scale",
    "steps": [
        {"name": "first", "job": {"image": "psql:16"}, "produces": "size"},
        {
            "name": "second",
            "requires": ["size"],
            "job": {"image": "psql:16", "args": ["$(steps.first.outputs.id)", "$(version)"]},
        },
    ],
}
ASKED: dict[str, Any] = {
    "name": "restore",
    "approval": {"groups": ["on-call"]},
    "steps": CACHE["steps"],
}


def at_rest(*procedures: dict[str, Any], **changes: Any) -> World:
    """A Release that has promoted 2.0."""
    world = World(spec=spec(procedures=list(procedures), **changes))
    world.settle().later(120)
    assert world.status.run is not None and world.status.run.outcome == "Promoted"
    world.performed.clear()
    return world


def run(world: World, name: str = "clear-cache", **more: Any) -> Answered | None:
    return world.act("Run", procedure=name, **{"reason": "pages are slow"} | more)


def row(world: World) -> ProcedureStatus:
    return world.status.procedures[0]


def accepted(answer: Answered | None) -> str:
    assert answer is not None and answer.result == "Accepted", answer
    return answer.message


def refused(answer: Answered | None) -> str:
    assert answer is not None and answer.result == "Refused", answer
    return answer.message


def test_its_steps_are_run_in_order_although_no_run_is_under_way() -> None:
    world = at_rest(TWO)
    runs, state = world.status.runs, world.status.state
    assert accepted(run(world, "scale")) == "procedure scale begins, as number 1"
    assert world.done() == ["job job/first", "job job/second"]
    second = world.performed[1]
    assert second.config.args == ["first-1", "2.0"]
    assert second.key.startswith("p1.scale.second.1-")

    found = row(world)
    assert (found.state, found.by, found.reason) == ("Succeeded", "ana", "pages are slow")
    assert [step.state for step in found.steps] == ["Succeeded", "Succeeded"]
    assert found.finishedAt and found.revision is None and not world.finalized
    assert (world.status.runs, world.status.state) == (runs, state), "no run, and nothing else"
    assert [note.reason for note in world.notes[-2:]] == [
        "ProcedureStarted",
        "ProcedureSucceeded",
    ]


def test_the_intent_of_its_first_step_stands_with_the_answer() -> None:
    world = at_rest(CACHE)
    world.slow.add("flush")
    writes = world.writes
    run(world)
    assert world.writes == writes + 1
    assert row(world).steps[0].key and row(world).state == "Running" and world.finalized


def test_a_second_time_it_is_done_again_under_another_number() -> None:
    world = at_rest(CACHE)
    accepted(run(world))
    accepted(run(world))
    assert [operation.key[:2] for operation in world.performed] == ["p1", "p2"]
    assert [item.id for item in world.status.procedures] == [2, 1]
    assert world.status.procedures[1].steps == [], "only the latest keeps its steps"


def test_one_at_a_time() -> None:
    world = at_rest(CACHE, VOICE)
    world.slow.add("flush")
    accepted(run(world))
    said = refused(run(world, "voice-off"))
    assert "clear-cache by ana is under way" in said and "--procedure clear-cache" in said


def test_what_takes_it_back_is_run_when_somebody_asks_for_it() -> None:
    world = at_rest(VOICE)
    accepted(run(world, "voice-off"))
    assert accepted(run(world, "voice-off", undo=True)).startswith("procedure voice-off is taken")
    assert [item.config["set"] for item in world.performed] == [{"VOICE": "off"}, {"VOICE": "on"}]
    assert row(world).undo


@pytest.mark.parametrize(
    ("procedure", "more", "words"),
    [
        ("other", {}, "there is no procedure other (known: clear-cache)"),
        ("clear-cache", {"undo": True}, "does not say what takes it back"),
        ("clear-cache", {"reason": " "}, "say why"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(
    procedure: str, more: dict[str, Any], words: str
) -> None:
    world = at_rest(CACHE)
    assert words in refused(run(world, procedure, **more))
    assert not world.status.procedures and not world.performed


def test_nothing_is_run_where_nobody_can_know_whose_doing_it_is() -> None:
    world = at_rest(CACHE)
    world.doubt = "the policy on Releases is not in force"
    assert refused(run(world)) == world.doubt
    world.doubt = ""
    world.ask(mode="Observe")
    assert "mode: Observe" in refused(run(world))
    world.deleting = True
    assert "being deleted" in refused(run(world))


def test_what_another_run_is_at_work_on_is_left_alone() -> None:
    world = at_rest(VOICE)
    world.procedure_rival = "the run of release shop"
    assert "the run of release shop is at work on what" in refused(run(world, "voice-off"))


def test_a_failed_step_ends_it_and_nothing_follows() -> None:
    world = at_rest(TWO)
    world.jobs["first"] = Progress("Failed", "exit code 2")
    accepted(run(world, "scale"))
    assert world.done("job") == ["job job/first"]
    assert row(world).state == "Failed" and "exit code 2" in (row(world).message or "")
    assert world.status.run is not None and world.status.run.outcome == "Promoted"
    assert not world.finalized


def test_its_clock_ends_what_hangs_and_its_job_is_stopped_first() -> None:
    world = at_rest(
        {"name": "hang", "steps": [{"name": "hang", "job": {"image": "a:1", "timeout": "10s"}}]}
    )
    world.slow.add("hang")
    world.unstoppable = True
    accepted(run(world, "hang"))
    world.later(75)
    assert row(world).state == "Stopping" and world.finalized
    world.unstoppable = False
    world.later(2)
    assert row(world).state == "Failed" and world.done() == ["job job/hang", "stop job/hang"]


def test_an_abort_stops_it() -> None:
    world = at_rest(CACHE)
    world.slow.add("flush")
    accepted(run(world))
    accepted(world.act("Abort", procedure="clear-cache", by="bo", reason="wrong one"))
    assert row(world).state == "Aborted" and row(world).message == "aborted by bo: wrong one"
    assert world.done() == ["job job/flush", "stop job/flush"]
    assert world.status.run is not None and world.status.run.outcome == "Promoted"
    assert "not under way" in refused(world.act("Abort", procedure="clear-cache"))


def test_people_approve_before_its_first_step() -> None:
    world = at_rest(ASKED)
    accepted(run(world, "restore"))
    assert not world.done("job")
    assert "kubectl release approve web --procedure restore" in (row(world).message or "")
    assert "asks for a member of on-call" in refused(
        world.act("Approve", procedure="restore", by="eve")
    )
    on_call = frozenset({"on-call"})
    accepted(world.act("Approve", procedure="restore", by="bo", groups=on_call))
    assert row(world).state == "Succeeded" and world.done("job") == ["job job/flush"]


def test_who_runs_it_may_not_approve_it_where_the_approval_says_so() -> None:
    world = at_rest(ASKED | {"approval": {"notBy": "Requester"}})
    accepted(run(world, "restore", by="ana"))
    (step,) = [step for step in row(world).steps if step.state == "Running"]
    assert "not by ana, who has asked for it" in (row(world).message or step.message or "")
    said = refused(world.act("Approve", procedure="restore", by="ana"))
    assert said.startswith("ana has asked for it, and ") and "requestedBy" not in said
    accepted(world.act("Approve", procedure="restore", by="bo"))
    assert row(world).state == "Succeeded"


def test_anybody_may_approve_what_a_guard_asks_for() -> None:
    guard = {"name": "hits", "prometheus": {"query": "hits"}, "max": "1%", "atRest": True}
    guard |= {"action": "Run", "procedure": "restore"}
    world = at_rest(ASKED | {"approval": {"notBy": "Requester"}}, guards=[guard])
    world.gates["hits"] = "Failed"
    world.later(3)
    assert "None" not in (row(world).message or "")
    accepted(world.act("Approve", procedure="restore", by="ana"))
    assert row(world).state == "Succeeded"


def test_a_rejected_approval_ends_it() -> None:
    world = at_rest(ASKED)
    accepted(run(world, "restore"))
    accepted(world.act("Reject", procedure="restore", by="bo", reason="not now"))
    assert row(world).state == "Failed" and not world.done("job")
    assert "rejected by bo: not now" in (row(world).message or "")


def test_who_runs_it_repeats_what_it_asks_to_be_confirmed() -> None:
    lossy = CACHE | {"confirm": "Everything since $(vars.backup) is lost."}
    world = at_rest(lossy, vars={"backup": "09:00"})
    said = refused(run(world))
    assert '"Everything since 09:00 is lost."' in said
    assert "repeat" in refused(run(world, confirmed="Everything since 08:00 is lost."))
    accepted(run(world, confirmed="Everything since 09:00 is lost."))
    assert row(world).state == "Succeeded"


def test_what_nobody_knows_is_refused_before_anything_is_done() -> None:
    named = {
        "name": "scale",
        "steps": [{"name": "go", "job": {"image": "a:1", "args": ["$(steps.backup.outputs.id)"]}}],
    }
    world = at_rest(named)
    accepted(run(world, "scale"))
    assert world.performed[0].config.args == ["backup-1"]

    world = World(spec=spec(procedures=[named]))
    world.slow.add("backup")
    world.settle()
    assert "nobody knows $(steps.backup.outputs.id) now" in refused(run(world, "scale"))


def test_the_version_is_the_one_that_is_served() -> None:
    world = at_rest(TWO)
    world.gates["errors"] = "Failed"
    world.ask("3.0").settle().later(60)
    assert world.status.live is not None and world.status.live.version == "2.0"
    accepted(run(world, "scale"))
    assert world.performed[-1].config.args[1] == "2.0"


def test_it_goes_on_beside_a_run() -> None:
    world = World(spec=spec(procedures=[CACHE]))
    world.slow.add("deploy")
    world.settle()
    assert world.status.run is not None and world.status.run.phase == "Progressing"
    accepted(run(world))
    assert row(world).state == "Succeeded" and world.status.run.outcome is None
    assert world.finalized, "the run still needs it"
    world.slow.clear()
    world.later(120)
    assert world.status.run.outcome == "Promoted"


def test_a_run_ends_and_the_procedure_beside_it_goes_on() -> None:
    world = World(spec=spec(procedures=[CACHE]))
    world.slow.update({"deploy", "flush"})
    world.settle()
    accepted(run(world))
    world.slow.discard("deploy")
    world.later(120)
    assert world.status.run is not None and world.status.run.outcome == "Promoted"
    assert row(world).state == "Running" and world.finalized
    world.slow.clear()
    world.later(2)
    assert row(world).state == "Succeeded" and not world.finalized


def test_an_edit_of_a_procedure_is_no_edit_of_the_run() -> None:
    world = at_rest(CACHE)
    before = world.status.run
    world.slow.add("flush")
    accepted(run(world))
    world.ask(procedures=[CACHE | {"steps": [{"name": "flush", "job": {"image": "evil:1"}}]}])
    world.later(5)
    assert world.performed[-1].config.image == "redis:7", "what was pinned is run"
    assert world.status.run == before


def test_a_release_that_is_deleted_waits_for_its_job_to_stop() -> None:
    world = at_rest(CACHE)
    world.slow.add("flush")
    accepted(run(world))
    world.deleting = True
    world.unstoppable = True
    world.later(3)
    assert world.finalized
    world.unstoppable = False
    world.later(3)
    assert not world.finalized and world.done("stop") == ["stop job/flush"]


def test_what_it_was_to_do_is_gone() -> None:
    world = at_rest(CACHE)
    world.slow.add("flush")
    accepted(run(world))
    world.revisions.clear()
    world.later(1)
    assert row(world).state == "Failed" and "cannot be read any more" in (row(world).message or "")


def test_the_status_keeps_a_few_and_folds_them() -> None:
    world = at_rest(CACHE)
    for _ in range(8):
        accepted(run(world, reason="x" * 300))
    assert [item.id for item in world.status.procedures] == [8, 7, 6, 5, 4]
    status = world.status.model_copy(deep=True)
    status.history = [status.history[0]] * 10
    for past in status.history:
        past.people = ["y" * 1000] * 20
    size.fit(status)
    assert len(str(dump(status))) < 100_000


BAD = [
    ([CACHE | {"name": "web"}], "spec.procedures[0].name"),
    ([CACHE, CACHE], "spec.procedures[1].name"),
    ([CACHE | {"steps": [{"name": "d", "deploy": {"targets": ["web"]}}]}], "brings no version"),
    ([VOICE | {"undo": [{"name": "w", "wait": "5s"}]}], "wait cannot undo"),
    ([VOICE | {"undo": [{**VOICE["undo"][0], "name": "off"}]}], "spec.procedures[0].steps[1].name"),
    ([TWO | {"steps": [TWO["steps"][1]]}], 'no earlier step produces "size"'),
    (
        [CACHE | {"steps": [{"name": "f", "job": {"image": "$(steps.none.outputs.x)"}}]}],
        'names the step "none"',
    ),
    ([CACHE | {"confirm": "$(nothing)"}], "spec.procedures[0].confirm: $(nothing) is not known"),
    (
        [ASKED | {"steps": [{"name": "approval", "job": {"image": "a:1"}}]}],
        "is the step that asks for the approval",
    ),
]


@pytest.mark.parametrize(("procedures", "words"), BAD, ids=[words for _, words in BAD])
def test_what_is_wrong_with_procedures_is_said(
    procedures: list[dict[str, Any]], words: str
) -> None:
    raw = spec(procedures=procedures)
    raw["stages"][0]["name"] = "web"
    problems = list(find_problems(ReleaseSpec.model_validate(raw)))
    assert any(words in problem for problem in problems), problems


def test_the_providers_of_procedures_are_judged_as_those_of_stages() -> None:
    steps = [{"name": "r", "redis": {"flush": {"prefix": ""}}}]
    parsed = ReleaseSpec.model_validate(spec(procedures=[CACHE | {"steps": steps}]))
    assert any("spec.procedures[0].steps[0].redis" in line for line in spec_problems(parsed))
    steps = [{"name": "r", "redis": {"flush": {"prefix": "page:"}}}]
    bare = ReleaseSpec.model_validate(spec(procedures=[CACHE | {"steps": steps}]))
    assert any("somebody has to approve it" in line for line in spec_problems(bare))
    asked = ReleaseSpec.model_validate(spec(procedures=[ASKED | {"steps": steps}]))
    assert not any("somebody has to approve it" in line for line in spec_problems(asked))


# --- who is told


def told(*events: str) -> dict[str, Any]:
    return {"notify": [{"events": list(events), "slack": {"channel": "#ops"}}]}


def notices(world: World) -> list[str]:
    return [notice.id for notice in world.status.notices]


def test_its_start_its_question_and_its_end_are_told() -> None:
    events = ("ProcedureStarted", "ProcedureEnded", "ProcedureFailed", "ApprovalNeeded")
    world = at_rest(ASKED, **told(*events))
    accepted(run(world, "restore"))
    assert notices(world) == [
        "1.ProcedureStarted.restore.1",
        "1.ApprovalNeeded.restore.1.approval",
    ]
    assert "kubectl release approve web --procedure restore" in world.status.notices[1].text
    accepted(world.act("Approve", procedure="restore", groups=frozenset({"on-call"})))
    assert notices(world)[2:] == ["1.ProcedureEnded.restore.1"]

    world.jobs["flush"] = Progress("Failed", "exit code 2")
    accepted(run(world, "restore"))
    accepted(world.act("Approve", procedure="restore", groups=frozenset({"on-call"})))
    assert notices(world)[-1] == "1.ProcedureFailed.restore.2"
    assert "exit code 2" in world.status.notices[-1].text


# --- a guard runs one


def watched(**guard: Any) -> World:
    """A Release at rest with a guard that runs a procedure."""
    one = {
        "name": "hits",
        "prometheus": {"query": "hits"},
        "max": "1%",
        "action": "Run",
        "procedure": "clear-cache",
        "atRest": True,
        **guard,
    }
    return at_rest(CACHE, guards=[one])


def test_a_guard_that_fails_at_rest_runs_its_procedure_once() -> None:
    world = watched()
    world.gates["hits"] = "Failed"
    world.later(5)
    assert (row(world).state, row(world).by) == ("Succeeded", "guard hits")
    assert "hits" in (row(world).reason or "") and world.done() == ["job job/flush"]
    world.later(60)
    assert len(world.status.procedures) == 1, "once for each fault"

    world.gates["hits"] = "Passing"
    world.later(5)
    world.gates["hits"] = "Failed"
    world.later(5)
    assert len(world.status.procedures) == 2 and not world.finalized


def test_a_guard_that_fails_in_a_run_runs_its_procedure_and_undoes_nothing() -> None:
    guard = {"name": "hits", "prometheus": {"query": "hits"}, "max": "1%"}
    guard |= {"action": "Run", "procedure": "clear-cache"}
    world = World(spec=spec(procedures=[CACHE], guards=[guard], guardFor="1h")).settle()
    world.later(30)
    world.gates["hits"] = "Failed"
    world.later(5)
    assert row(world).state == "Succeeded" and world.phase() == "Guarding"


def test_what_stands_against_the_procedure_of_a_guard_is_said() -> None:
    world = watched()
    world.procedure_rival = "the run of release shop"
    world.gates["hits"] = "Failed"
    world.later(5)
    assert row(world).state == "Failed" and "the run of release shop" in (row(world).message or "")
    assert not world.done() and not world.finalized


def test_a_guard_that_fails_while_another_procedure_is_under_way_is_told() -> None:
    world = watched()
    world.slow.add("flush")
    accepted(run(world))
    world.gates["hits"] = "Failed"
    world.later(5)
    assert len(world.status.procedures) == 1
    assert "ProcedureRefused" in [note.reason for note in world.notes]


@pytest.mark.parametrize(
    ("procedure", "words"),
    [("other", "is not in spec.procedures"), ("lossy", "a guard cannot say yes")],
)
def test_what_a_guard_may_run_is_judged(procedure: str, words: str) -> None:
    guard = {"name": "hits", "prometheus": {"query": "hits"}, "max": "1%"}
    guard |= {"action": "Run", "procedure": procedure}
    lossy = CACHE | {"name": "lossy", "confirm": "all is lost"}
    raw = spec(procedures=[CACHE, lossy], guards=[guard])
    problems = list(find_problems(ReleaseSpec.model_validate(raw)))
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize("change", ["Observe", "deleting", "invalid"])
def test_a_guard_runs_nothing_where_nothing_may_be_done(change: str) -> None:
    world = watched()
    if change == "Observe":
        world.ask(mode="Observe")
    elif change == "invalid":
        world.ask(vars={"version": "3"}, procedures=[CACHE, CACHE])
    world.deleting = change == "deleting"
    world.gates["hits"] = "Failed"
    world.later(5)
    assert not world.done() and not world.finalized
    states = [one.state for one in world.status.procedures]
    assert states in ([], ["Failed"]), states


def test_what_a_guard_does_is_pinned_as_what_it_measures_is() -> None:
    world = watched()
    world.ask(guards=[])
    world.gates["hits"] = "Failed"
    world.later(5)
    assert (row(world).state, row(world).by) == ("Succeeded", "guard hits")


# --- beside runs

FLAGS_STAGE: dict[str, Any] = {
    "name": "beta",
    "steps": [{"name": "set", "flags": {"configMap": "web-flags", "set": {"VOICE": "beta"}}}],
}


def changing_flags(**changes: Any) -> World:
    """A Release at rest whose stage and whose procedure change one ConfigMap."""
    return at_rest(VOICE, stages=[*spec()["stages"], FLAGS_STAGE], **changes)


def beside(world: World) -> World:
    """The world that the runtime sees while the procedure is at work on the same."""
    world.procedure_at_work = True
    world.rival = "web (by a procedure that is under way)"
    return world


def test_a_run_does_not_begin_in_the_pass_in_which_a_procedure_does() -> None:
    world = changing_flags()
    world.slow.add("web-flags")
    world.open_interventions.append(
        Intervention("i-1", "web-run", "Run", "ana", procedure="voice-off", reason="noise")
    )
    world.ask("3.0")
    runs = world.status.runs
    world.tick()
    while not world.status.procedures:
        world.tick()
    assert row(world).state == "Running" and world.status.runs == runs
    beside(world).later(1)
    assert world.status.runs == runs and world.status.state == "Waiting"


def test_a_procedure_of_a_guard_does_not_begin_in_the_pass_in_which_a_run_does() -> None:
    guard = {"name": "hits", "prometheus": {"query": "hits"}, "max": "1%", "atRest": True}
    guard |= {"action": "Run", "procedure": "voice-off"}
    world = changing_flags(guards=[guard])
    world.gates["hits"] = "Failed"
    while not world.status.procedures:
        world.tick()
    world.ask("3.0")
    runs = world.status.runs
    while world.status.runs == runs:
        world.tick()
    assert row(world).state in ("Asked", "Failed") and not row(world).steps


def test_the_way_back_at_rest_ends_a_procedure_that_is_at_work_on_the_same() -> None:
    world = changing_flags()
    world.slow.add("web-flags")
    accepted(run(world, "voice-off"))
    accepted(world.act("Rollback", by="bo", reason="P0"))
    assert row(world).state == "Aborted"
    assert "Rollback by bo" in (row(world).message or "")
    assert world.status.run is not None and world.status.run.kind == "Undo"
    world.slow.clear()
    world.later(60)
    assert world.outcome() == "RolledBack" and world.live == "1.0"


def test_the_way_back_at_rest_leaves_alone_what_is_at_work_on_something_else() -> None:
    world = at_rest(CACHE)
    world.slow.add("flush")
    accepted(run(world))
    accepted(world.act("Rollback", by="bo", reason="P0"))
    assert row(world).state == "Running"


def test_the_way_back_waits_until_the_job_of_a_procedure_has_stopped() -> None:
    first = {"name": "first", "job": {"image": "psql:16"}}
    prepare = {"name": "prepare", "steps": [first, VOICE["steps"][0]]}
    world = at_rest(prepare, stages=[*spec()["stages"], FLAGS_STAGE])
    world.slow.add("first")
    accepted(run(world, "prepare"))
    runs = world.status.runs
    asked = world.act("Rollback", by="bo", reason="P0")
    assert asked is None or asked.result == "Accepted"
    world.later(60)
    assert row(world).state == "Aborted" and world.status.runs == runs + 1
    assert world.status.run is not None and world.status.run.kind == "Undo"
    assert [item for item in world.status.interventions if item.action == "Rollback"] != []


def test_what_a_guard_undoes_at_rest_ends_a_procedure_that_is_at_work_on_the_same() -> None:
    guard = {"name": "errors", "prometheus": {"query": "errors"}, "max": "1%", "atRest": True}
    world = changing_flags(guards=[guard | {"rollbackFor": "1h"}])
    world.slow.add("web-flags")
    accepted(run(world, "voice-off"))
    world.gates["errors"] = "Failed"
    world.later(3)
    assert row(world).state == "Aborted" and "guard errors" in (row(world).message or "")
    assert world.status.run is not None and world.status.run.kind == "Undo"


def test_what_a_guard_undoes_at_rest_leaves_alone_what_is_at_work_on_something_else() -> None:
    guard = {"name": "errors", "prometheus": {"query": "errors"}, "max": "1%", "atRest": True}
    world = at_rest(CACHE, guards=[guard | {"rollbackFor": "1h"}])
    world.slow.add("flush")
    accepted(run(world))
    world.gates["errors"] = "Failed"
    world.later(3)
    assert row(world).state == "Running"
    assert world.status.run is not None and world.status.run.kind == "Undo"


def test_an_edit_does_not_count_that_adds_what_a_procedure_is_at_work_on() -> None:
    stages = [stage | {"onFailure": "Pause"} for stage in spec()["stages"]]
    world = World(spec=spec(procedures=[VOICE], stages=stages))
    world.jobs["migrate"] = Progress("Failed", "exit code 2")
    world.settle()
    world.slow.add("web-flags")
    accepted(run(world, "voice-off"))
    world.jobs.clear()
    world.ask(stages=[*stages, FLAGS_STAGE])
    said = accepted(world.act("Retry"))
    assert "procedure voice-off is at work on what it adds" in said


def test_its_clock_does_not_tick_while_nobody_watches() -> None:
    hang = {"name": "hang", "steps": [{"name": "hang", "job": {"image": "a:1", "timeout": "2m"}}]}
    world = at_rest(hang)
    world.slow.add("hang")
    accepted(run(world, "hang"))
    world.unwatched = 700
    world.jump(700)
    assert row(world).state == "Running"
    world.later(185)
    assert row(world).state == "Failed" and "not done in" in (row(world).message or "")
