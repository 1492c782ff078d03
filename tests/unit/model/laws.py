"""What holds after every pass, whatever has happened. A law raises AssertionError, and its
docstring says what it protects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from gatewright.api.status import ReleaseStatus, Run
from gatewright.core.model.operation import Operation
from gatewright.core.run.procedure_run import procedure_under_way
from gatewright.core.subject import traits_of
from tests.unit.model import procedure_laws
from tests.unit.model.world import FORWARD, Change, Seen, Wild, is_way_back, part, stage_of
from tests.unit.test_kstatus import EXPECTED, kstatus

MOST = 100 * 1024
UNKNOWN = "fromTheFuture"
Law = Callable[[Wild, Seen], None]


def wakes_later(world: Wild, seen: Seen) -> None:
    """No timer of the past wakes anybody."""
    wake = seen.decision.requeue_at
    assert wake is None or wake > world.now, f"wakes at {wake}, it is {world.now}"


def stays_small_and_readable(world: Wild, seen: Seen) -> None:
    """What is written is small, is read again, and says the same."""
    text = json.dumps(world.raw, ensure_ascii=False)
    assert len(text.encode()) < MOST, f"{len(text)} characters"


def keeps_what_it_does_not_know(world: Wild, seen: Seen) -> None:
    """A field that a newer operator wrote stays for as long as what it stands in."""
    if UNKNOWN in seen.raw:
        assert UNKNOWN in world.raw, "the status forgets what it does not know"
    before, after = seen.raw.get("run") or {}, world.raw.get("run") or {}
    if UNKNOWN in before and before.get("id") == after.get("id"):
        assert UNKNOWN in after, "the run forgets what it does not know"
    if UNKNOWN in (before.get("stages") or [{}])[0] and before.get("id") == after.get("id"):
        assert UNKNOWN in after["stages"][0], "the stage forgets what it does not know"


def starts_only_what_may(world: Wild, seen: Seen) -> None:
    """Rejected versions, unverified states, deletion, suspension and errors of the spec keep a run
    from starting."""
    before, after, spec = seen.view.status, world.status, seen.view.spec
    if after.runs == before.runs:
        return
    assert after.runs == before.runs + 1 and after.run is not None
    assert not seen.view.deleting, "a run starts in a Release that is being deleted"
    if after.run.kind == "Undo":
        # The way back is open in any state, but only to a person, or to a guard in its time.
        assert seen.person or _may_undo_by_guard(seen), "nobody has asked for the way back"
        assert seen.observation.rival is None and before.unverified is None
        return

    assert spec is not None
    assert not seen.view.problems and not spec.suspend and seen.observation.rival is None
    frozen = [one for one in seen.observation.freezes if one.until is None or one.until > world.now]
    assert not frozen or _is_hotfix(seen), "a run starts while a Freeze is in force"
    assert not seen.observation.unconnected
    rejected = after.run.version in [item.version for item in before.rejected]
    assert seen.person or not rejected, f"{after.run.version} is rejected and starts"
    left = before.unverified
    assert seen.person or left is None or seen.view.generation > left.generation, (
        "a run starts on what is not verified"
    )
    # No way back in between, and no number of them, lets it start again.
    aborted = world.brought == (after.run.version, "Aborted")
    assert seen.person or not aborted, "an aborted version starts by itself"


def _is_hotfix(seen: Seen) -> bool:
    act = seen.view.next_intervention
    return act is not None and act.action == "Hotfix" and bool(act.reason.strip())


def _may_undo_by_guard(seen: Seen) -> bool:
    """Whether a guard at rest has failed within its time after the latest promotion."""
    status = seen.view.status
    return any(
        row.state == "Failed" and row.run == status.kept[0].run and row.rollbackUntil is not None
        for row in status.atRest
        if status.kept
    )


def watches_what_is_served(world: Wild, seen: Seen) -> None:
    """A guard at rest is of a version that was promoted, and stands by while a run changes
    something."""
    status, run = world.status, world.status.run
    if not status.atRest:
        return
    assert run is not None
    numbers = {row.run for row in status.atRest}
    assert len(numbers) == 1 and max(numbers) <= status.runs
    under_way = run.outcome is None and run.phase != "Preflight" and not run.observe
    for row in status.atRest:
        assert not under_way or row.state == "Unknown", f"guard {row.name} is judged in a run"
        assert row.state != "Passing" or row.faultSince is None
        assert row.rollbackUntil is None or row.run == run.id or run.observe or not under_way


def promotes_what_runs(world: Wild, seen: Seen) -> None:
    """What is promoted was live, every stage of it passed, and what did not was passed over by its
    own rule or a person."""
    run = _ended_now(world, seen)
    if run is None or run.outcome != "Promoted":
        return
    last = {change.subject: change.wanted for change in _changes_kept(world, run.id)}
    for subject, wanted in last.items():
        assert subject not in world.dark or not subject.startswith("target/"), (
            f"{subject} was not looked at"
        )
        if subject.startswith("target/") or subject in _set_well(world, seen, run):
            assert world.value(subject) == wanted, (
                f"{subject} has {world.value(subject)}, the run wants {wanted}"
            )
    body = seen.observation.body
    assert body is not None
    stages = zip(run.stages, body.spec.stages, strict=True)
    deploys = [
        step.deploy
        for row, stage in stages
        for step in stage.steps
        if step.deploy is not None
        and row.unmet is None
        and (run.id, stage.name) not in world.undone
    ]
    for name in {name for deploy in deploys for name in deploy.targets}:
        found = world.value(f"target/{name}")
        assert found == run.version, f"target/{name} has {found}, and {run.version} is promoted"
    for stage in run.stages:
        undone = (run.id, stage.name) in world.undone
        assert undone == (stage.state == "RolledBack"), f"stage {stage.name} is {stage.state}"
        assert undone or stage.state in ("Passed", "Failed", "Skipped"), (
            f"promoted with stage {stage.name} {stage.state}"
        )
        if stage.state == "Failed":
            assert stage.name in world.passed_over, f"promoted over the failed stage {stage.name}"
        if stage.state == "Skipped":
            assert stage.skippedBy or stage.unmet, f"nobody has skipped {stage.name}"
    assert not _running(world, run), f"promoted while {[*_running(world, run)]} run"


def notes_answers(world: Wild, seen: Seen) -> None:
    """Not a law: notes for which body people have said go."""
    run, before = world.status.run, seen.view.status.run
    if run is None or before is None or before.id != run.id:
        world.said_to.clear()
    if run is None or run.outcome is not None:
        return
    was = _answered(world, before) if before is not None and before.id == run.id else set()
    world.said_to |= dict.fromkeys(_answered(world, run) - was, run.bodyHash)


def runs_only_what_was_approved(world: Wild, seen: Seen) -> None:
    """No step runs under an approval that was given for another body, and none that was given is
    taken away."""
    run = world.status.run
    forward = [
        item
        for item in seen.decision.operations
        if item.kind in FORWARD and part(item) in ("step", "stages")
    ]
    if not forward or run is None:
        return
    for question, body in world.said_to.items():
        assert body == run.bodyHash, (
            f"{[item.id for item in forward]} run, and {question} was said to body {body}"
        )
    open_ = {row.name for row in run.preflight} - {
        name for stage, name in world.said_to if stage is None
    }
    assert not open_ & {"go"}, f"{[item.id for item in forward]} run, and nobody has said go"


def _answered(world: Wild, run: Run) -> set[tuple[str | None, str]]:
    """Approvals that people have given, or gone past."""
    found: set[tuple[str | None, str]] = {
        (None, row.name) for row in run.preflight if row.name == "go" and row.state == "Passing"
    }
    body = world.pinned_body(run)
    for stage, wanted in zip(
        run.stages, body.spec.stages if body is not None else (), strict=False
    ):
        if stage.unmet is not None:
            continue
        for step, asked in zip(stage.steps, wanted.steps, strict=False):
            if asked.kind == "approval" and step.state in ("Succeeded", "Skipped"):
                found.add((stage.name, step.name))
    return found


def notes_what_was_brought(world: Wild, seen: Seen) -> None:
    """Not a law: notes how the last run that brought a version has ended."""
    run = _ended_now(world, seen)
    if run is not None and run.kind == "Release":
        world.brought = (run.version, run.outcome)


def passes_over_no_failure(world: Wild, seen: Seen) -> None:
    """The walk goes on past a failed stage only by the stage's own `onFailure: Continue`; who
    paused it is not forgotten."""
    run, before = world.status.run, seen.view.run
    if run is None or run.observe or run.outcome is not None:
        return
    old = (
        {stage.name: (stage.state, stage.attempt) for stage in before.stages}
        if before is not None
        else {}
    )
    if before is None or before.id != run.id:
        world.passed_over.clear()
    body = world.pinned_body(run)
    for stage, wanted in zip(
        run.stages, body.spec.stages if body is not None else (), strict=False
    ):
        if stage.state != "Failed":
            world.passed_over.discard(stage.name)
        elif (
            old.get(stage.name) != ("Failed", stage.attempt)
            and wanted.onFailure == "Continue"
            and run.phase != "Paused"
        ):
            world.passed_over.add(stage.name)
    if run.phase in ("Progressing", "Guarding"):
        forgotten = [
            stage.name
            for stage in run.stages
            if stage.state == "Failed" and stage.name not in world.passed_over
        ]
        assert not forgotten, f"{forgotten} have failed, and the run is {run.phase}"


def compensates_in_order(world: Wild, seen: Seen) -> None:
    """A compensation starts only when everything before it is over, and nothing of the run goes on
    beside it."""
    run = world.status.run
    for operation in seen.decision.operations:
        if operation.kind in ("stop", "restore") or not is_way_back(operation):
            continue
        assert run is not None and run.rollback is not None
        lines = run.rollback.undo
        own = next(number for number, line in enumerate(lines) if line.key == operation.key)
        for line in lines[:own]:
            assert line.state in ("Succeeded", "Failed", "Skipped"), (
                f"{operation.id} starts before {line.subject} is over"
            )
            assert not line.unended, f"{operation.id} starts while {line.subject} may be going on"
    # What is true, whatever the lines say.
    for operation in world.begun(seen):
        if operation.kind == "job" and is_way_back(operation):
            assert run is not None
            beside = [other for other in _running(world, run) if other.id != operation.id]
            assert not beside, f"{operation.id} starts while {[item.id for item in beside]} run"


def one_job_at_a_time(world: Wild, seen: Seen) -> None:
    """Two attempts of a stage never run side by side: two migrations are no migration."""
    run = world.status.run
    for operation in world.begun(seen):
        if operation.kind != "job" or part(operation) != "step":
            continue
        assert run is not None
        beside = [
            other.id
            for other in _running(world, run)
            if other.id != operation.id
            and part(other) == "step"
            and stage_of(other) == stage_of(operation)
        ]
        assert not beside, f"{operation.id} starts while {beside} run"


def one_effect_for_a_subject(world: Wild, seen: Seen) -> None:
    """Effects of one pass are done side by side: two on the same subject have no order."""
    subjects = [item.subject for item in seen.decision.operations if item.kind != "ask"]
    assert len(set(subjects)) == len(subjects), (
        f"{[item.id for item in seen.decision.operations]} at once"
    )


def acts_only_where_it_may(world: Wild, seen: Seen) -> None:
    """Observe acts on nothing; a rollback does nothing forward; who stands still begins nothing."""
    run = world.status.run
    forward = [
        item
        for item in seen.decision.operations
        if item.kind in FORWARD
        and part(item) not in ("verify", "procedure")
        and not is_way_back(item)
    ]
    if not forward:
        return
    assert run is not None
    assert not run.observe, f"{[item.id for item in forward]} in mode Observe"
    steps = [item.id for item in forward if part(item) == "step"]
    still = (
        seen.view.spec is None
        or seen.view.spec.suspend
        or (run.paused is not None and not seen.person)
    )
    assert not (steps and still), f"{steps} begin while the walk stands still"
    assert run.phase in ("Preflight", "Progressing", "Guarding", "Done", "Paused", "RollingBack"), (
        run.phase
    )
    assert not (steps and run.phase in ("Paused", "RollingBack")), (
        f"{steps} begin in phase {run.phase}"
    )


def returns_what_it_changed(world: Wild, seen: Seen) -> None:
    """A rollback that is called done has returned everything, and every compensation that was due
    has run."""
    run = _ended_now(world, seen)
    if run is None or run.rollback is None or run.outcome == "RollbackFailed":
        return
    body = seen.observation.body
    if body is None:
        # It began in this very pass, and had nothing to undo.
        assert run.kind == "Undo" and not run.rollback.undo
        return
    taken = world.data[run.revision]["snapshots"]
    changed = (
        change for number in (run.id, *run.undoes) for change in _last_changes(world, number)
    )
    for change in changed:
        wanted = (taken.get(change.subject) or {"of": "old"})["of"]
        assert world.value(change.subject) == wanted, (
            f"{change.subject} has {world.value(change.subject)}, not {wanted}"
        )
    good = {
        f"{line.stage}/{line.subject}" for line in run.rollback.undo if line.state == "Succeeded"
    }
    good |= {
        f"{line.stage}/{line.subject}"
        for line in run.rollback.undo
        if "nothing produced" in (line.message or "")
    }
    for stage, wanted_stage in zip(run.stages, body.spec.stages, strict=True):
        due = wanted_stage.rollback.reach == "Release" or stage.state == "Failed"
        # The database stays, unless a person has asked for it as well.
        if run.kind == "Undo":
            due = run.database and wanted_stage.rollback.reach == "Release"
        if stage.startedAt is None or not due or (run.id, stage.name) in world.undone:
            continue
        for step in wanted_stage.rollback.steps:
            assert f"{stage.name}/step/{step.name}" in good, (
                f"compensation {step.name} of {stage.name} did not run"
            )
    for check, row in zip(body.spec.rollback.verify, run.rollback.verify, strict=True):
        if check.provider[0] == "job":
            assert run.id in world.verified_after, (
                f"verification {row.name} did not run after the rollback"
            )


def notes_verifications(world: Wild, seen: Seen) -> None:
    """Not a law: notes which runs have started a Job to verify their rollback, once they had turned
    around."""
    run = world.status.run
    if run is not None and run.rollback is not None:
        if any(item.kind == "job" and part(item) == "verify" for item in seen.decision.operations):
            world.verified_after.add(run.id)


def undoes_one_stage_alone(world: Wild, seen: Seen) -> None:
    """A stage that is undone alone leaves what earlier stages have made; its compensations have
    run, and none of its Jobs goes on."""
    run, before = world.status.run, seen.view.run
    if run is None or before is None or before.id != run.id:
        return
    for stage, was in zip(run.stages, before.stages, strict=False):
        if run.is_returning or stage.state != "RolledBack" or was.state == "RolledBack":
            continue
        world.undone.add((run.id, stage.name))
        if before.rollback is None:
            # It began in this very pass, and had nothing to undo.
            changed = [
                entry.subject
                for entry in run.journal
                if entry.stage == stage.name and traits_of(entry.subject).restored
            ]
            assert not changed, f"{changed} of {stage.name} were not undone"
            continue
        assert before.stage_undone == stage.name
        for line in before.rollback.undo:
            assert line.state != "Failed", f"{line.subject} was not undone"
        beside = [one.id for one in _running(world, run) if stage_of(one) == stage.name]
        assert not beside, f"{beside} go on"

    for restored in world.stage_restores:
        own = [
            change
            for change in world.changes
            if (change.run, change.stage, change.subject)
            == (restored.run, restored.stage, restored.subject)
        ]
        assert own and restored.wanted == own[0].before, (
            f"{restored.subject} goes back to {restored.wanted}, not to what {restored.stage} found"
        )
    world.stage_restores.clear()


def forgets_no_failed_rollback(world: Wild, seen: Seen) -> None:
    """What is not verified stays so until a version is promoted, a rollback has returned it, or a
    person has said so."""
    before, after, run = seen.view.status.unverified, world.status.unverified, world.status.run
    if _ended_now(world, seen) is not None and run is not None and run.outcome == "RollbackFailed":
        assert after is not None and after.run == run.id, "a failed rollback is forgotten at once"
    if before is None or after is not None:
        return
    assert run is not None
    act = seen.view.next_intervention
    confirmed = act is not None and act.action == "Confirm" and act.follow_up is None
    repeated = (
        act is not None
        and act.action == "Rollback"
        and run.phase in ("RollingBack", "Verifying", "Done")
    )
    if confirmed or repeated or run.outcome == "Promoted":
        return
    assert run.rollback is not None and run.outcome is not None, "what is not verified is forgotten"
    broken = next((past for past in world.status.history if past.id == before.run), None)
    taken = world.data[(broken.revision if broken else None) or run.revision]["snapshots"]
    for change in _last_changes(world, before.run):
        wanted = (taken.get(change.subject) or {"of": "old"})["of"]
        now = world.value(change.subject)
        assert now == wanted, (
            f"{change.subject} has {now}, not {wanted}, and run {before.run} is forgotten"
        )


def ready_is_what_is_live(world: Wild, seen: Seen) -> None:
    """Ready is True only for the wanted version, live and seen to be, in a run that is over or
    guards it."""
    status, run, spec = world.status, world.status.run, seen.view.spec
    said = _conditions(world)
    if said.get("Ready") != "True" or _unread(seen) or seen.view.deleting:
        return
    assert spec is not None and not seen.view.problems, "Ready with a spec that cannot be"
    assert status.live is not None and status.live.version == spec.version, (
        f"{status.live} is not {spec.version}"
    )
    assert run is None or run.outcome is not None or run.phase == "Guarding", (
        f"Ready in {run.phase}"
    )
    adopted = not _same_live(seen.view.status, status) and run == seen.view.status.run
    for subject, standing in seen.observation.standings.items():
        # What was promoted before is compared until this very pass.
        if subject.startswith("target/") and adopted:
            assert world.value(subject) == spec.version, (
                f"{spec.version} is taken over, but {standing}"
            )
        elif subject.startswith("target/"):
            assert not standing.difference and not standing.unknown, f"Ready, but {standing}"
    if run is not None and run.version == spec.version and run.outcome in (None, "Promoted"):
        last = {change.subject: change.wanted for change in _changes_kept(world, run.id)}
        for subject, wanted in last.items():
            assert not subject.startswith("target/") or world.value(subject) == wanted, (
                f"Ready, but {subject} has no {wanted}"
            )


def conditions_follow_kstatus(world: Wild, seen: Seen) -> None:
    """Argo CD, Flux and kubectl wait understand every state."""
    if _unread(seen):
        return
    said, state = _conditions(world), world.status.state or ""
    assert not {"Reconciling", "Stalled"} <= set(said), "both Reconciling and Stalled"
    assert set(said) >= {"Ready"}
    found = kstatus({"metadata": {"generation": seen.view.generation}, "status": world.raw})
    reason = next(item.reason for item in world.status.conditions if item.type == "Ready")
    allowed = {EXPECTED.get(reason, "InProgress")}
    if state in ("Guarding", "Promoted"):
        allowed |= {"InProgress"} if said["Ready"] == "Unknown" else set()
    if world.status.run is not None and (world.status.run.paused or "").startswith("guard "):
        allowed |= {"Failed"}
    assert found in allowed, f"state {state} ({reason}) is {found} to kstatus"
    if said["Ready"] == "Unknown" and "Failed" not in allowed:
        assert "Reconciling" in said, f"state {state} is Unknown, and nothing says that it goes on"
    if said["Ready"] == "True":
        assert "Stalled" not in said and "Reconciling" not in said
    if (
        world.status.waitingFor is not None
        and "waits for a person" in world.status.waitingFor.message
    ):
        assert found == "InProgress" or seen.view.deleting, (
            "whoever is asked is told that it has failed"
        )


def normally_is_verified(world: Wild, seen: Seen) -> None:
    """`serving 1.0 normally` is said only where a verification has passed."""
    message, run = world.status.message or "", world.status.run
    if "normally" in message:
        assert run is not None and run.rollback is not None and run.rollback.verify
        assert all(row.state == "Passing" for row in run.rollback.verify)


def clocks_are_whole(world: Wild, seen: Seen) -> None:
    """A clock ticks or stands; while something holds the run only the hold's own clock ticks; over
    is over."""
    run = world.status.run
    if run is None:
        return
    for name, timer in run.timers.items():
        assert (timer.due is None) != (timer.remaining is None), f"clock {name}: {timer}"
        assert run.holdReason is None or name == "difference" or timer.due is None, (
            f"clock {name} ticks while {run.holdReason}"
        )
    if run.outcome is not None:
        assert not run.timers and run.paused is None and run.phase == "Done" and run.finishedAt
    # A pass in which a stage fails stops its clocks, and the next one starts them; one that answers
    # a person only answers.
    settled = run == seen.view.run and seen.view.next_intervention is None
    if (
        settled
        and run.phase == "Progressing"
        and run.differences
        and run.holdReason
        and "is not as the run wants it" in run.holdReason
    ):
        assert "difference" in run.timers, "a hold that nothing ends"


def answers_once(world: Wild, seen: Seen) -> None:
    """An Intervention is answered once."""
    uids = [item.uid for item in world.status.interventions]
    assert len(set(uids)) == len(uids)


def goes_back_first(world: Wild, seen: Seen) -> None:
    """What was asked before a Rollback or Abort that was done does nothing after it."""
    before = seen.view.status
    told = {item.uid for item in before.interventions}
    made = {act.uid: act for act in seen.view.open_interventions}
    last = before.overtaking
    for item in world.status.interventions:
        act = made.get(item.uid)
        if item.uid in told or act is None or last is None or item.result == "Refused":
            continue
        later = act.made > (last.madeAt, last.version)
        assert act.urgent or act.follow_up or later, f"{act.action} {act.name} after {last.name}"


def lets_go(world: Wild, seen: Seen) -> None:
    """A finalizer stands only while a run or a procedure is under way."""
    run = world.status.run
    ended = run is None or run.outcome is not None
    # It goes once the end of the procedure is written; one may end in the pass that begins it.
    # A pass that answers a person only answers.
    began = seen.decision.procedure_revision is not None
    if began or seen.person or procedure_under_way(seen.view.status) is not None:
        return
    procedure = procedure_under_way(world.status)
    if procedure is not None:
        kept = world.finalized or seen.view.deleting or procedure.state == "Asked"
        assert kept, "nothing keeps the Release of a procedure"
        return
    if ended and seen.view.run is None and world.finalized and not _unread(seen):
        assert seen.decision.remove_finalizer, "the finalizer stays at rest"


def records_history(world: Wild, seen: Seen) -> None:
    """A run that ends stands in the history, with its outcome."""
    run = _ended_now(world, seen)
    if run is not None:
        past = world.status.history[0]
        assert (past.id, past.outcome, past.version) == (run.id, run.outcome, run.version)
        failed = (
            [stage.name for stage in run.stages if stage.state == "Failed"]
            if run.outcome == "Promoted"
            else []
        )
        assert past.passedOver == failed
        assert not failed or "failed and passed over" in (past.reason or "")


LAWS: tuple[Law, ...] = (
    undoes_one_stage_alone,
    notes_answers,
    runs_only_what_was_approved,
    passes_over_no_failure,
    notes_verifications,
    wakes_later,
    stays_small_and_readable,
    keeps_what_it_does_not_know,
    starts_only_what_may,
    notes_what_was_brought,
    watches_what_is_served,
    promotes_what_runs,
    compensates_in_order,
    one_job_at_a_time,
    one_effect_for_a_subject,
    acts_only_where_it_may,
    returns_what_it_changed,
    forgets_no_failed_rollback,
    ready_is_what_is_live,
    conditions_follow_kstatus,
    normally_is_verified,
    clocks_are_whole,
    answers_once,
    goes_back_first,
    lets_go,
    records_history,
    *procedure_laws.LAWS,
)


def check(world: Wild) -> None:
    """Every law, on the pass that was just made. Raises AssertionError with the law that is
    broken."""
    seen = world.last
    if seen is None:
        return
    world.last = None
    for law in LAWS:
        try:
            law(world, seen)
        except AssertionError as error:
            raise AssertionError(f"{law.__name__}: {error}") from error


def _same_live(before: ReleaseStatus, after: ReleaseStatus) -> bool:
    was, now = before.live, after.live
    return (was and (was.version, was.snapshot)) == (now and (now.version, now.snapshot))


def _ended_now(world: Wild, seen: Seen) -> Run | None:
    run, before = world.status.run, seen.view.status.run
    if run is None or run.outcome is None:
        return None
    return run if before is None or before.id != run.id or before.outcome is None else None


def _last_changes(world: Wild, run: int) -> Iterator[Change]:
    """What a run has changed, but for what its own compensations have set since."""
    compensated = {
        item.subject for item in world.performed if item.kind == "set" and is_way_back(item)
    }
    last = {change.subject: change for change in _changes_kept(world, run)}
    return (change for subject, change in last.items() if subject not in compensated)


def _changes_kept(world: Wild, run: int) -> Iterator[Change]:
    """What a run has changed, but for its stages that were undone alone."""
    for change in world.changes:
        if change.run == run and (run, change.stage) not in world.undone:
            yield change


def _conditions(world: Wild) -> dict[str, str]:
    return {item.type: item.status for item in world.status.conditions}


def _unread(seen: Seen) -> bool:
    """Whether this pass could not say anything: something has to be read first."""
    return seen.decision.status.observedGeneration != seen.view.generation


def _set_well(world: Wild, seen: Seen, run: Run) -> Iterator[str]:
    """Configuration whose last change belongs to a step that has succeeded."""
    entries = {entry.subject: (entry.stage, entry.step) for entry in run.journal}
    states = {(stage.name, step.name): step.state for stage in run.stages for step in stage.steps}
    return (subject for subject, where in entries.items() if states.get(where) == "Succeeded")


def _running(world: Wild, run: Run) -> list[Operation]:
    """Jobs of a run whose pods run."""
    return [item for item in world.jobs_running.values() if item.key.startswith(f"{run.id}.")]
