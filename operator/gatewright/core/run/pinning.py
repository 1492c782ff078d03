"""What a run pins: its body, its stages, and each subject's snapshot right before its first change.

    when            what is pinned                      where
    --------------  ----------------------------------  ----------------------------------------
    start           the body, and what every subject    a ControllerRevision, named in
                    is now                              `run.revision`
    a first change  what is looked at once more, if it  a new revision, with that snapshot in the
                    is something else by now            place of the old
    Retry           the body anew, the snapshots as     a new revision; people are asked again
                    they are                            (`approvals`)

So hours of waiting for an approval do not bring an old state back. Captured ConfigMaps and Secrets
return to what they were at the last promotion: GitOps may have changed them together with the
version, before the run could look. What they were right before the first change stands beside that
(`found`), to tell who has changed them since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatewright.api.status import Run, Served, StageStatus, StepStatus
from gatewright.core.fingerprints import fingerprint
from gatewright.core.model.decision import Revision
from gatewright.core.model.observation import LiveState, Observation
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.run import clocks
from gatewright.core.run.check_evaluation import fresh_statuses
from gatewright.core.run.context import Context
from gatewright.core.run.operations import subjects_of
from gatewright.core.run.run_end import known_live
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import changed_by
from gatewright.core.subject import is_stage_snapshot, name_of_subject, stage_snapshot, traits_of

INHERITED_MARK = "inherited"
"""Mark of a snapshot from before an earlier run, whose rollback failed: it is not taken anew."""
FOUND_FIELDS = ("found", "foundVersion")
"""Fields of a snapshot that say what was there when the run began: a hash, a resourceVersion."""
STAYED_MARK = "stayed"
"""Mark of a snapshot of what somebody has changed during an earlier run, and its rollback has left.

A rotated key is such a thing."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Whether everything that a step changes first has its snapshot; or why it cannot have one."""

    done: bool
    problem: str = ""


def fresh_stages(body: PinnedSpec) -> list[StageStatus]:
    """Return the stages of a body, nothing done yet."""
    return [
        StageStatus(
            name=stage.name,
            state="Pending",
            steps=[StepStatus(name=step.name, state="Pending") for step in stage.steps],
            gates=fresh_statuses(stage.gates),
        )
        for stage in body.spec.stages
    ]


def revision_of(ctx: Context, body: PinnedSpec, number: int) -> Revision:
    """Return what a run that begins now keeps."""
    inherited = {
        subject: {**snapshot, INHERITED_MARK: True}
        for subject, snapshot in (ctx.seen.inherited or {}).items()
        if snapshot and not is_stage_snapshot(subject)
    }
    snapshots = {
        subject: _take_snapshot(ctx.seen, body, subject, live_state, subject in ctx.seen.stayed)
        for subject, live_state in ctx.seen.live_states.items()
    }
    return make_revision(ctx, number, body, {**snapshots, **inherited}, ctx.seen.connections)


def first_changes(body: PinnedSpec, stage: int, step: int, journal: set[str]) -> list[str]:
    """Return the subjects that a step would be the first of its run to change.

    What is captured with a target counts with it.
    """
    first: list[str] = []
    for subject in changed_by(body.spec.stages[stage], body.spec.stages[stage].steps[step]):
        if subject in journal:
            continue
        first.append(subject)
        if traits_of(subject).captures_config:
            first += captured_configs(body, name_of_subject(subject))

    return first


def first_changes_of_stage(body: PinnedSpec, run: Run, stage: int, step: int) -> list[str]:
    """Return what a step is the first of its stage to change, and another stage has changed before.

    So that the stage can be undone alone; nothing where no guard asks for that.
    """
    if not may_undo_stages(body):
        return []

    name = run.stages[stage].name
    own = {entry.subject for entry in run.journal if entry.stage == name}
    others = {entry.subject for entry in run.journal if entry.stage != name}
    spec_stage = body.spec.stages[stage]
    changed = changed_by(spec_stage, spec_stage.steps[step])
    return [subject for subject in changed if subject in others and subject not in own]


def may_undo_stages(body: PinnedSpec) -> bool:
    """Return whether a guard may ask for a stage to be undone alone."""
    return any(guard.action == "RollbackStage" for guard in body.spec.guards)


def record_snapshots(ctx: Context, stage: int, step: int) -> Recorded:
    """Take the snapshots of what a step is about to change for the first time.

    They are taken now, and kept with the intent.
    """
    run = ctx.run
    journal = {entry.subject for entry in run.journal}
    first = first_changes(ctx.body, stage, step, journal)
    again = first_changes_of_stage(ctx.body, run, stage, step)
    # An earlier step was the first to change it: what there was before that is recorded.
    if not first and not again:
        return Recorded(done=True)

    # They are looked at before the next decision.
    if any(subject not in ctx.seen.live_states for subject in (*first, *again)):
        return Recorded(done=False)

    # Nothing is changed that could not be returned.
    live_states = {subject: ctx.seen.live_states[subject] for subject in (*first, *again)}
    for subject, live_state in live_states.items():
        if live_state.problem:
            return Recorded(done=False, problem=f"{subject}: {live_state.problem}")

    recorded = dict(ctx.snapshots())
    fresh = _fresh_snapshots(ctx, recorded, {one: live_states[one] for one in first})
    name = run.stages[stage].name
    fresh |= {stage_snapshot(name, subject): live_states[subject].snapshot for subject in again}
    if any(
        fingerprint(recorded.get(subject)) != fingerprint(snapshot)
        for subject, snapshot in fresh.items()
    ):
        snapshots = {**recorded, **fresh}
        revision = make_revision(ctx, run.id, ctx.body, snapshots, ctx.pinned_connections())
        ctx.decision.revision, run.revision = revision, revision.name

    return Recorded(done=True)


def _fresh_snapshots(
    ctx: Context, recorded: Mapping[str, Any], live_states: Mapping[str, LiveState]
) -> dict[str, Mapping[str, Any] | None]:
    """Return what is to be recorded anew: subjects as they are right before their first change."""
    fresh = {}
    for subject, live_state in live_states.items():
        before = recorded.get(subject)
        # What is there now is what an earlier run has left, whose rollback failed.
        if INHERITED_MARK in (before or {}):
            continue

        stayed = STAYED_MARK in (before or {})
        taken = _take_snapshot(ctx.seen, ctx.body, subject, live_state, stayed)
        fresh[subject] = _keep_found_hash(before, taken)
    return fresh


def _keep_found_hash(
    before: Mapping[str, Any] | None, taken: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Let a snapshot tell what was found when the run started, not right before its first change.

    Who rotates a key after the run has started has changed it during the run, also before the run
    changes anything.
    """
    if taken is None or before is None or "found" not in taken or "found" not in before:
        return taken
    return {**taken, **{name: before[name] for name in FOUND_FIELDS if name in before}}


def baseline_version(seen: Observation) -> str:
    """Return the version that every target tells; empty where they tell none, or several."""
    versions = {
        live_state.version
        for subject, live_state in seen.live_states.items()
        if traits_of(subject).versioned and live_state.version
    }
    return versions.pop() if len(versions) == 1 else ""


def set_baseline(ctx: Context) -> None:
    """Let what was live before the first run be the first last good."""
    version, now = baseline_version(ctx.seen), clocks.format_time(ctx.now)
    if ctx.status.lastGood is None:
        ctx.status.lastGood = Served(version=version, since=now)
    # The targets tell no version, or several: nothing is said of what is live.
    elif not version:
        return

    # After a failed rollback nobody knew what was live.
    if known_live(ctx.status) is None and ctx.status.unverified is None:
        ctx.status.live = Served(version=version, since=now, caveat=_baseline_caveat(ctx, version))


def _baseline_caveat(ctx: Context, version: str) -> str | None:
    """Return what people should know of a version that nobody has promoted, and that is live."""
    good = ctx.status.lastGood
    live_states = ctx.seen.live_states.values()
    unready = "; ".join(live_state.unready for live_state in live_states if live_state.unready)

    caveats = []
    if good is None or good.version != version:
        caveats.append("it was found live, and was not promoted")
    if unready:
        caveats.append(f"it did not run when the run began: {unready}")
    return "; ".join(caveats) or None


def make_revision(
    ctx: Context,
    number: int,
    body: PinnedSpec,
    snapshots: Mapping[str, Any],
    connections: Mapping[str, Any],
) -> Revision:
    """Return the revision that keeps what a run has pinned and recorded."""
    data: dict[str, Any] = {"body": body.pinned(), "snapshots": dict(snapshots)}
    if connections:
        data["connections"] = dict(connections)
    return Revision.named(ctx.view, str(number), data)


def _take_snapshot(
    seen: Observation, body: PinnedSpec, subject: str, live_state: LiveState, stayed: bool
) -> Mapping[str, Any] | None:
    """Return what is now.

    For captured configuration return what was promoted last, with what is now beside it.
    """
    snapshot = live_state.snapshot
    if snapshot is None:
        return None

    # A rotated key does not return to what it was at the promotion before.
    if stayed:
        return {**snapshot, **_found_fields(snapshot), STAYED_MARK: True}

    promoted = seen.promoted.get(subject)
    if not promoted or not _is_captured(body, subject):
        return snapshot
    return {**promoted, **_found_fields(snapshot)}


def _found_fields(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells later whether somebody has changed a subject since."""
    fields = {"found": snapshot.get("hash")}
    # Of a Secret alone: the key of its hash may be lost.
    if "version" in snapshot:
        fields["foundVersion"] = snapshot["version"]
    return fields


def _is_captured(body: PinnedSpec, subject: str) -> bool:
    """Return whether a subject is configuration that is captured with a target."""
    if not traits_of(subject).is_content:
        return False
    config = subjects_of(body).get(subject) or {}
    return bool(config.get("captured"))
