"""A run begins: its body is pinned, and what is there is recorded."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from pydantic import ValidationError

from gatewright.api.release import ReleaseSpec
from gatewright.api.status import ReleaseStatus, Run
from gatewright.core.model.decision import Revision
from gatewright.core.model.pinned_spec import PinnedSpec, hash_spec
from gatewright.core.model.view import View
from gatewright.core.run import clocks
from gatewright.core.run.check_evaluation import fresh_statuses
from gatewright.core.run.context import Context
from gatewright.core.run.pinning import baseline_version, fresh_stages, revision_of, set_baseline
from gatewright.core.run.rollback_plan import describe_plan
from gatewright.core.run.run_end import known_live
from gatewright.core.spec.edits import describe_edits, merge_edits
from gatewright.core.spec.pinned_spec import pin_spec, unpin_spec
from gatewright.core.subject import traits_of

ALWAYS_CHANGED = ("version changed", "requestedBy changed", "changedPaths changed")
"""What a new version changes in any case."""


def start_run(ctx: Context) -> None:
    """Pin the body, take the snapshots, begin."""
    spec = ctx.view.spec
    assert spec is not None
    status = ctx.status
    number = status.runs + 1
    set_baseline(ctx)

    body = pin_spec(spec, number, status.lastGood.version if status.lastGood else None)
    revision = revision_of(ctx, body, number)
    ctx.decision.add_finalizer, ctx.decision.revision = True, revision
    ctx.decision.begins = True
    _name_first_snapshot(status, revision.name)

    status.run = _new_run(ctx, spec, body, revision)
    status.runs = number
    status.rejected = [other for other in status.rejected if other.version != spec.version]
    ctx.decision.prune_revisions = number > 1
    ctx.body_if_read = body
    ctx.record_event("Started", f"{spec.version}: run {number} with {len(spec.stages)} stages")
    ctx.write_now()


def _name_first_snapshot(status: ReleaseStatus, revision: str) -> None:
    """Let the run's own snapshot stand for what was there before the first run."""
    for served in (status.lastGood, known_live(status)):
        if served is None or served.snapshot is not None:
            continue
        if served.version == (status.lastGood or served).version:
            served.snapshot = revision


def _new_run(ctx: Context, spec: ReleaseSpec, body: PinnedSpec, revision: Revision) -> Run:
    status = ctx.status
    since, changes = _changes_since_last(ctx, spec)
    hints = {
        subject: live_state.restore_hint
        for subject, live_state in ctx.seen.live_states.items()
        if live_state.restore_hint
    }
    return Run(
        id=status.runs + 1,
        version=spec.version,
        attempt=1 + sum(past.version == spec.version for past in status.history),
        phase="Preflight",
        observe=spec.mode == "Observe",
        generation=ctx.view.generation,
        runbook=ctx.view.runbook,
        revision=revision.name,
        bodyHash=body.hash(),
        specHash=hash_spec(spec),
        startedAt=clocks.format_time(ctx.now),
        preflight=fresh_statuses(spec.preflight),
        guards=fresh_statuses(spec.guards),
        stages=fresh_stages(body),
        plan=describe_plan(body, hints),
        found=_found_version(ctx),
        changedSince=since,
        changes=changes,
    )


def record_of_last(view: View) -> tuple[str, ...]:
    """Return the ControllerRevision that tells what a run has changed since the last promotion.

    None where nobody is asked to approve it.
    """
    if view.spec is None or not _asks_for_approval(view.spec):
        return ()
    return tuple(kept.revision for kept in view.status.kept[:1])


def _asks_for_approval(spec: ReleaseSpec) -> bool:
    steps = itertools.chain.from_iterable(stage.steps for stage in spec.stages)
    in_preflight = any("approval" in (check.model_extra or {}) for check in spec.preflight)
    return in_preflight or any(step.approval is not None for step in steps)


def _changes_since_last(ctx: Context, spec: ReleaseSpec) -> tuple[str | None, list[str]]:
    """Return what the spec has changed, and since which version; None where that is not known."""
    for kept in ctx.status.kept[:1]:
        record = ctx.seen.records.get(kept.revision)
        if not isinstance(record, Mapping):
            continue
        try:
            before = unpin_spec(record["body"]).spec
        except (ValidationError, KeyError, TypeError):
            continue
        edits = [line for line in describe_edits(before, spec) if line not in ALWAYS_CHANGED]
        return kept.version, merge_edits([], edits)

    return None, []


def _found_version(ctx: Context) -> str | None:
    """Return what is live before the run, where that is not the last good version.

    A rollback returns to it all the same.
    """
    good, last = ctx.status.lastGood, ctx.status.run
    # Its rollback failed: what was live before it is what this run returns to as well.
    if ctx.seen.inherited and last is not None:
        return last.found
    # There is no version that it could differ from.
    if good is None:
        return None

    version, live = baseline_version(ctx.seen), known_live(ctx.status)
    # Configuration that was changed together with the version is no other version; else it is not
    # what was promoted, whatever its images call it.
    targets = (name for name in ctx.seen.standings if traits_of(name).versioned)
    if any(ctx.seen.standings[name].difference for name in targets):
        return version or "unknown"
    # A rollback had failed before: nobody has said since what is there.
    if live is None:
        return None if version == good.version else version or "unknown"
    # What was compared and does not differ is last good, whatever its images call it.
    if ctx.seen.standings and live.version == good.version:
        return None

    return version if version and good.version and version != good.version else None
