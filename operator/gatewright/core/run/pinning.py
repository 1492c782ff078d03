"""What a run pins: its body, its stages with nothing done yet, and each subject's snapshot right
before its first change.

    start          body, and what every subject is now            ControllerRevision, named in `run.revision`
    a first change looked at once more; if it is something else   a new revision with that snapshot in the place of the old
    Retry          the body anew, snapshots as they are           a new revision; people are asked again (`approvals`)

So hours of waiting for an approval do not bring an old state back. Captured ConfigMaps and Secrets
return to what they were at the last promotion: GitOps may have changed them together with the
version, before the run could look. What they were right before the first change stands beside that
(`found`), to tell who has changed them since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gatewright.api.release import Stage
from gatewright.api.status import Run, Served, StageStatus, StepStatus
from gatewright.core.interventions.approvals import altered_approval, ask_again
from gatewright.core.model import (
    LiveState,
    Observation,
    PinnedSpec,
    Revision,
    fingerprint,
    hash_spec,
)
from gatewright.core.run import clocks
from gatewright.core.run.context import Context, fresh_statuses
from gatewright.core.run.operations import changes_of, operations_of_step, subjects_of
from gatewright.core.run.rollback_plan import describe_plan, restore_hints
from gatewright.core.spec.edits import describe_edits, merge_edits
from gatewright.core.spec.expand import UnknownReference
from gatewright.core.spec.pinned_spec import pin_spec
from gatewright.core.spec.targets import captured_configs
from gatewright.core.steps import changed_by

INHERITED_MARK = "inherited"
"""Mark of a snapshot from before an earlier run, whose rollback failed: it is not taken anew."""
STAYED_MARK = "stayed"
"""Mark of a snapshot of what somebody has changed during an earlier run, and its rollback has left:
a rotated key."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Whether everything that a step changes first has its snapshot; or why it cannot have one."""

    done: bool
    problem: str = ""


def fresh_stages(body: PinnedSpec) -> list[StageStatus]:
    """The stages of a body, nothing done yet."""
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
    """What a run that begins now keeps."""
    inherited = {
        name: {**taken, INHERITED_MARK: True}
        for name, taken in (ctx.seen.inherited or {}).items()
        if taken
    }
    snapshots = {
        name: _take_snapshot(ctx.seen, body, name, sight, name in ctx.seen.stayed)
        for name, sight in ctx.seen.live_states.items()
    }

    return _make_revision(ctx, number, body, {**snapshots, **inherited}, ctx.seen.connections)


def first_changes(body: PinnedSpec, stage: int, step: int, journal: set[str]) -> list[str]:
    """Subjects that a step would be the first of its run to change; what is captured with a target
    counts with it."""
    changed = changed_by(body.spec.stages[stage], body.spec.stages[stage].steps[step])
    found: list[str] = []

    for subject in changed:
        if subject in journal:
            continue
        kind, _, name = subject.partition("/")
        found += [subject, *(captured_configs(body, name) if kind == "target" else ())]

    return found


def record_snapshots(ctx: Context, stage: int, step: int) -> Recorded:
    """The snapshots of what a step is about to change for the first time: taken now, kept with the
    intent."""
    run = ctx.run
    journal = {entry.subject for entry in run.journal}
    first = first_changes(ctx.body, stage, step, journal)

    if not first:
        return Recorded(done=True)

    sights = {subject: ctx.seen.live_states.get(subject) for subject in first}
    if any(sight is None for sight in sights.values()):
        return Recorded(done=False)

    problem = next(
        (f"{name}: {sight.problem}" for name, sight in sights.items() if sight and sight.problem),
        "",
    )

    if problem:
        return Recorded(done=False, problem=problem)

    kept = dict(ctx.snapshots())
    fresh = {
        subject: _keep_found_hash(
            before,
            _take_snapshot(ctx.seen, ctx.body, subject, sight, STAYED_MARK in (before or {})),
        )
        for subject, sight in sights.items()
        if sight is not None and INHERITED_MARK not in ((before := kept.get(subject)) or {})
    }

    if any(
        fingerprint(kept.get(subject)) != fingerprint(taken) for subject, taken in fresh.items()
    ):
        revision = _make_revision(
            ctx, run.id, ctx.body, {**kept, **fresh}, ctx.pinned_connections()
        )
        ctx.decision.revision, run.revision = revision, revision.name

    return Recorded(done=True)


def _keep_found_hash(
    before: Mapping[str, Any] | None, taken: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Who rotates a key after the run has started has changed it during the run, also before the
    run changes anything."""
    if taken is None or before is None or "found" not in taken or "found" not in before:
        return taken
    return {**taken, "found": before["found"]}


def baseline_version(seen: Observation) -> str:
    """The version that every target tells; empty where they tell none, or several."""
    versions = {
        sight.version
        for name, sight in seen.live_states.items()
        if name.startswith("target/") and sight.version
    }
    return versions.pop() if len(versions) == 1 else ""


def set_baseline(ctx: Context) -> None:
    """What was live before the first run is the first last good."""
    version, now = baseline_version(ctx.seen), clocks.format_time(ctx.now)
    if ctx.status.lastGood is None:
        ctx.status.lastGood = Served(version=version, since=now)
    elif not version:
        return
    # After a failed rollback nobody knew what is live.
    if ctx.status.live is None and ctx.status.unverified is None:
        ctx.status.live = Served(version=version, since=now, caveat=_baseline_caveat(ctx, version))


def _baseline_caveat(ctx: Context, version: str) -> str | None:
    """What people should know of a version that nobody has promoted, and that is live."""
    good = ctx.status.lastGood
    known = good is not None and good.version == version
    unready = "; ".join(sight.unready for sight in ctx.seen.live_states.values() if sight.unready)
    found = [] if known else ["it was found live, and was not promoted"]
    return (
        "; ".join([*found, *([f"it did not run when the run began: {unready}"] if unready else [])])
        or None
    )


def lost_subjects(ctx: Context, body: PinnedSpec) -> list[str]:
    """What the run has changed and an edited body does not know any more: nobody could return
    it."""
    known = subjects_of(body)
    kinds = ("target/", "configmap/", "flags/")
    changed = {entry.subject for entry in ctx.run.journal if entry.subject.startswith(kinds)}
    return sorted(changed - set(known))


def pin_again(ctx: Context, index: int) -> str:
    """An edit counts from a Retry on; why it does not, where it does not."""
    run, spec = ctx.run, ctx.view.spec
    edited = (
        spec is not None and ctx.view.generation != run.generation and spec.version == run.version
    )
    if spec is None or not edited:
        return ""
    if ctx.view.problems:
        return f"the edited spec is invalid: {ctx.view.problems[0]}"
    if ctx.seen.doubt:
        return ctx.seen.doubt

    body = pin_spec(spec, run.id, ctx.body.names.get("lastGood.version"))
    if body.hash() == run.bodyHash:
        return ""

    old, new = ctx.body.spec.stages[: index + 1], spec.stages[: index + 1]
    if [_stage_names(stage) for stage in old] != [_stage_names(stage) for stage in new]:
        return "its stages up to the failed one, or their steps, have other names"

    lost = lost_subjects(ctx, body)
    if lost:
        return f"it does not know {', '.join(lost)} any more, which this run has changed"

    other = [
        name
        for name in _changed_targets(run)
        if captured_configs(body, name).keys() != captured_configs(ctx.body, name).keys()
    ]

    if other:
        return f"it captures other configuration with target {other[0]}, which this run has changed"

    try:
        over = [
            (stage.name, steps_done_otherwise(ctx, ctx.body, body, place))
            for place, stage in enumerate(spec.stages[:index])
        ]
        asked = altered_approval(run, ctx.body, body, index)
    except UnknownReference as error:
        return str(error)

    done = next((f"step {steps[0]} of stage {stage}" for stage, steps in over if steps), "")
    if done:
        return f"it changes what {done} has set already, and that stage is over"
    if asked:
        return f"it changes {asked}, which people have been asked for already"

    changes = (operation for operation, _ in changes_of(ctx.view, ctx.body, run))
    body = replace(
        body, earlier=(*ctx.body.earlier, *(replace(one, since=None) for one in changes))
    )
    revision = _make_revision(ctx, run.id, body, ctx.snapshots(), ctx.pinned_connections())
    ctx.decision.revision = revision
    run.revision, run.bodyHash, run.generation = revision.name, body.hash(), ctx.view.generation
    run.specHash = hash_spec(spec)
    run.stages = run.stages[: index + 1] + fresh_stages(body)[index + 1 :]
    run.guards = fresh_statuses(spec.guards)
    run.plan = describe_plan(body, restore_hints(run.plan))
    run.edits = merge_edits(run.edits, describe_edits(ctx.body.spec, spec))
    before, ctx.body_if_read = ctx.body, body
    ask_again(ctx, before, index)

    return ""


def steps_done_otherwise(
    ctx: Context, before: PinnedSpec, after: PinnedSpec, index: int
) -> list[str]:
    """Names of steps of a stage that were begun, and have set something else than an edited body
    wants.

    Raises UnknownReference.
    """
    found = []
    for number, step in enumerate(ctx.run.stages[index].steps):
        stages = (before.spec.stages[index], after.spec.stages[index])
        if step.attempt == 0 or not any(changed_by(stage, stage.steps[number]) for stage in stages):
            continue
        was, now = (_effects_of_step(ctx, body, index, number) for body in (before, after))
        if was != now:
            found.append(step.name)

    return found


def _changed_targets(run: Run) -> list[str]:
    return [
        entry.subject.removeprefix("target/")
        for entry in run.journal
        if entry.subject.startswith("target/")
    ]


def _effects_of_step(
    ctx: Context, body: PinnedSpec, index: int, number: int
) -> list[tuple[str, str, Any]]:
    return [
        (item.kind, item.subject, item.config)
        for item in operations_of_step(ctx.view, body, ctx.run, index, number)
    ]


def _make_revision(
    ctx: Context,
    number: int,
    body: PinnedSpec,
    snapshots: Mapping[str, Any],
    connections: Mapping[str, Any],
) -> Revision:
    data: dict[str, Any] = {"body": body.pinned(), "snapshots": dict(snapshots)}
    if connections:
        data["connections"] = dict(connections)

    return Revision.named(ctx.view, str(number), data)


def _take_snapshot(
    seen: Observation, body: PinnedSpec, subject: str, sight: LiveState, stayed: bool
) -> Mapping[str, Any] | None:
    """What is now; for captured configuration what was promoted last, with what is now beside
    it."""
    if stayed and sight.snapshot is not None:
        return {**sight.snapshot, "found": sight.snapshot.get("hash"), STAYED_MARK: True}

    promoted = seen.promoted.get(subject)
    config = (
        subjects_of(body).get(subject) if subject.startswith(("configmap/", "secret/")) else None
    )

    if not promoted or sight.snapshot is None or not (config or {}).get("captured"):
        return sight.snapshot

    return {**promoted, "found": sight.snapshot.get("hash")}


def _stage_names(stage: Stage) -> tuple[str, list[str]]:
    return stage.name, [step.name for step in stage.steps]
