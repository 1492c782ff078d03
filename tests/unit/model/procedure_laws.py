"""What holds of procedures after every pass, as docs/procedures.md promises it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from gatewright.api.status import OPEN_PROCEDURES, ProcedureStatus
from gatewright.core.model.intervention import Intervention
from gatewright.core.model.operation import Operation
from gatewright.core.run.clocks import parse_time
from gatewright.core.run.decide import decide
from gatewright.core.run.procedure_run import procedure_under_way
from gatewright.core.run.procedures import operations_to_follow
from tests.unit.model.world import (
    FORWARD,
    Seen,
    Told,
    Wild,
    changed_by_procedure,
    claimed,
    of_procedure,
)


def notes_procedures(world: Wild, seen: Seen) -> None:
    """Not a law: notes who has to approve what has begun, who has, and what runs are to change."""
    for row in _begun_now(world, seen):
        spec = seen.view.spec
        known = spec.procedures if spec is not None else []
        approval = next((one.approval for one in known if one.name == row.name), None)
        world.procedures[row.id] = Told(asks=approval.count if approval is not None else 0)

    open_row = procedure_under_way(seen.view.status)
    for act in _accepted_now(world, seen):
        if act.action == "Approve" and open_row is not None and act.procedure == open_row.name:
            told = world.procedures[open_row.id]
            if len(told.approved) < told.asks:
                told.approved.add(act.by)

    run = world.status.run
    for operation in seen.decision.operations:
        if operation.kind in ("apply", "set") and not of_procedure(operation) and run is not None:
            world.intended.setdefault(run.id, set()).add(operation.subject)


def one_procedure_at_a_time(world: Wild, seen: Seen) -> None:
    """One procedure of a Release is under way at a time, and only its steps act."""
    under_way = [row.id for row in world.status.procedures if row.state in OPEN_PROCEDURES]
    assert under_way in ([], [row.id for row in world.status.procedures[:1]]), (
        f"procedures {under_way} are under way"
    )
    numbers = [row.id for row in world.status.procedures]
    assert numbers == sorted(set(numbers), reverse=True), f"procedures {numbers}"
    for operation in _begun_by_procedure(world, seen):
        assert [_number(operation)] == under_way, (
            f"{operation.id} begins, and {under_way} is under way"
        )
        beside = [
            other.id
            for other in world.jobs_running.values()
            if of_procedure(other) and other.id != operation.id
        ]
        assert not beside, f"{operation.id} begins while {beside} run"


def each_step_acts_once(world: Wild, seen: Seen) -> None:
    """An operator that is killed at any moment does no step twice."""
    for operation in _begun_by_procedure(world, seen):
        keys = world.procedures[_number(operation)].keys
        key = keys.setdefault(_step_of(operation), operation.key)
        assert key == operation.key, f"{operation.id} begins, and {key} has acted"


def begins_only_what_may(world: Wild, seen: Seen) -> None:
    """A procedure begins because a person or a failed guard asks for it, in a Release whose spec
    says what it does and lets anything be done."""
    spec = seen.view.spec
    for row in _begun_now(world, seen):
        assert spec is not None and not seen.view.problems, "the spec says nothing"
        assert spec.mode == "Enforce", "a procedure begins in mode Observe"
        assert not seen.view.deleting, "a procedure begins while the Release is deleted"
        assert row.name in [one.name for one in spec.procedures]
        if row.intervention is not None:
            asked = [act for act in _accepted_now(world, seen) if act.name == row.intervention]
            assert [act.action for act in asked] == ["Run"], f"nobody asks for {row.name}"
        else:
            before = seen.view.status.procedures[0]
            assert before.id == row.id and before.state == "Asked" and row.by.startswith("guard ")


def leaves_runs_alone(world: Wild, seen: Seen) -> None:
    """A procedure never changes what the run under way has to itself."""
    run, row = world.status.run, procedure_under_way(world.status)
    if run is None or run.outcome is not None or row is None or row.state == "Asked":
        return
    body, own = world.pinned_body(run), world.procedure_body()
    if body is None or own is None:
        return
    both = claimed(body) & changed_by_procedure(own)
    assert not both, f"run {run.id} and procedure {row.name} are both at work on {sorted(both)}"


def asks_before_it_acts(world: Wild, seen: Seen) -> None:
    """Nothing is done before people have approved, and each step waits for those before it."""
    for operation in _begun_by_procedure(world, seen):
        told = world.procedures[_number(operation)]
        assert len(told.approved) >= told.asks, (
            f"{operation.id} begins, and {told.approved} of {told.asks} have approved"
        )
        row = world.status.procedures[0]
        names = [step.name for step in row.steps]
        earlier = row.steps[: names.index(_step_of(operation))]
        undone = [step.name for step in earlier if step.state != "Succeeded"]
        assert not undone, f"{operation.id} begins before {undone}"


def goes_on_or_waits(world: Wild, seen: Seen) -> None:
    """A procedure under way has something that goes on, or somebody who is waited for."""
    row = procedure_under_way(world.status)
    if row is None or seen.decision.operations or seen.decision.status != seen.view.status:
        return
    waits = "waits for a person" in (row.message or "")
    follows = operations_to_follow(seen.view, world.pinned())
    going_on = any(operation.kind != "ask" for operation in follows)
    assert waits or going_on or seen.decision.requeue_at is not None, (
        f"procedure {row.name} is {row.state}, and nothing goes on: {row.message}"
    )


def rollbacks_wait_for_none(world: Wild, seen: Seen) -> None:
    """A rollback is decided as if there were no procedure."""
    run, act = seen.view.run, seen.view.next_intervention
    if run is None or not run.is_returning or procedure_under_way(seen.view.status) is None:
        return
    if act is not None and act.procedure is not None:
        return
    alone = seen.view.status.model_copy(update={"procedures": []})
    decision = decide(replace(seen.view, status=alone, memo={}), seen.observation)
    assert world.status.run == decision.status.run, "a procedure keeps a rollback waiting"
    wanted = {one.id for one in decision.operations if not of_procedure(one)}
    found = {one.id for one in seen.decision.operations if not of_procedure(one)}
    assert found == wanted, f"{wanted - found} do not begin beside a procedure"


def runs_once_for_each_intervention(world: Wild, seen: Seen) -> None:
    """Whoever asks for a procedure is answered once, and it is run once."""
    asked = [row.intervention for row in world.status.procedures if row.intervention is not None]
    assert len(set(asked)) == len(asked), f"procedures of {asked}"
    told = {line.uid for line in seen.view.status.interventions}
    for line in world.status.interventions:
        if line.uid not in told:
            assert line.uid not in world.answered, f"{line.name} is answered again"
            world.answered.add(line.uid)
    for act in _accepted_now(world, seen):
        if act.action == "Run":
            assert act.name in asked[:1], f"{act.name} is accepted, and nothing is run"


def returns_only_what_runs_changed(world: Wild, seen: Seen) -> None:
    """What a procedure has changed is not returned by a run that has not changed it."""
    run = world.status.run
    for operation in world.begun(seen):
        if operation.kind != "restore":
            continue
        assert run is not None
        changed: set[str] = set()
        for number in (run.id, *run.undoes):
            changed |= world.intended.get(number, set())
        # Configuration that is captured with a target returns with it.
        captured = "target/web" in changed and operation.subject == "configmap/web-env"
        assert operation.subject in changed or captured, (
            f"{operation.id} returns what run {run.id} has not changed"
        )


def guards_run_theirs(world: Wild, seen: Seen) -> None:
    """A guard that fails asks for its procedure once for each fault, as the run has pinned it; where
    nothing is asked for, that is told."""
    spec = seen.view.spec
    if seen.view.deleting or (spec is not None and spec.mode == "Observe"):
        return
    known = {row.id for row in seen.view.status.procedures}
    asked = [row.by for row in world.status.procedures if row.id not in known]
    refused = [one.message for one in seen.decision.events if one.reason == "ProcedureRefused"]
    before = {(row.run, row.name): row.state for row in seen.view.status.atRest}
    for row in world.status.atRest:
        if row.state != "Failed" or before.get((row.run, row.name)) in ("Failed", None):
            continue
        body = seen.observation.kept.get(row.revision)
        guards = body.spec.guards if body is not None else []
        runs = [one.procedure for one in guards if one.name == row.name and one.action == "Run"]
        told = [message for message in refused if message.startswith(f"guard {row.name} asks")]
        found = asked.count(f"guard {row.name}") + len(told)
        assert found == len(runs), f"guard {row.name} is to run {runs}, and {found} are asked for"


def counts_only_watched_time(world: Wild, seen: Seen) -> None:
    """The time in which no operator watched ends no step."""
    row, unwatched = procedure_under_way(seen.view.status), seen.observation.unwatched
    after = world.status.procedures[:1]
    if row is None or not unwatched or not after or "step" not in row.timers:
        return
    late = any("not done in" in (step.message or "") for step in after[0].steps)
    due = row.timers["step"].due
    if not late or due is None or any("not done in" in (one.message or "") for one in row.steps):
        return
    watched = (seen.observation.now - parse_time(due)).total_seconds() - unwatched
    assert watched >= 0, f"procedure {row.name} is ended by time in which nobody watched"


LAWS: tuple[Callable[[Wild, Seen], None], ...] = (
    notes_procedures,
    one_procedure_at_a_time,
    each_step_acts_once,
    begins_only_what_may,
    leaves_runs_alone,
    asks_before_it_acts,
    goes_on_or_waits,
    rollbacks_wait_for_none,
    runs_once_for_each_intervention,
    returns_only_what_runs_changed,
    guards_run_theirs,
    counts_only_watched_time,
)


def _begun_now(world: Wild, seen: Seen) -> Iterator[ProcedureStatus]:
    """The procedure that has begun in this very pass."""
    before = {row.id: row.state for row in seen.view.status.procedures}
    for row in world.status.procedures[:1]:
        if row.state != "Asked" and row.steps and before.get(row.id, "Asked") == "Asked":
            yield row


def _accepted_now(world: Wild, seen: Seen) -> Iterator[Intervention]:
    told = {line.uid for line in seen.view.status.interventions}
    accepted = {
        line.uid
        for line in world.status.interventions
        if line.uid not in told and line.result == "Accepted"
    }
    yield from (act for act in seen.view.open_interventions if act.uid in accepted)


def _begun_by_procedure(world: Wild, seen: Seen) -> Iterator[Operation]:
    for operation in world.begun(seen):
        if of_procedure(operation) and operation.kind in FORWARD:
            yield operation


def _number(operation: Operation) -> int:
    return int(operation.key.partition(".")[0].removeprefix("p"))


def _step_of(operation: Operation) -> str:
    return operation.key.split(".")[2]
