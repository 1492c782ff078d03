"""What follow-ups of earlier runs, guards at rest and the procedure under way have pinned.

It stands in those runs' ControllerRevisions, and is read once a process.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError

from gatewright.core.checks import at_rest, followups
from gatewright.core.model.pinned_spec import PinnedSpec
from gatewright.core.model.view import View
from gatewright.core.run import procedures
from gatewright.core.spec.pinned_spec import unpin_spec
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.runtime.cluster import revisions
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import TrackedRelease

log = logging.getLogger("gatewright.followups")


async def recall_followups(cluster: Cluster, entry: TrackedRelease, view: View) -> None:
    """Bring `entry.kept` up to what is still measured, and no more. Raises Retryable."""
    revisions_in_use = {
        *followups.revisions_in_use(view.status),
        *at_rest.revisions_in_use(view.status),
        *procedures.revisions_in_use(view.status),
    }
    for name in entry.kept.keys() - revisions_in_use:
        del entry.kept[name]

    for name in sorted(revisions_in_use - entry.kept.keys()):
        try:
            entry.kept[name] = await _read_body(cluster, entry, view, name)
        except Retryable as error:
            # At rest they are all there is to do: the pass is tried again.
            if view.run is None:
                raise
            log.info(
                "%s/%s: follow-ups and procedures wait, a run goes first: %s",
                *entry.key,
                error,
                extra=about(*entry.key),
            )


async def _read_body(
    cluster: Cluster, entry: TrackedRelease, view: View, name: str
) -> PinnedSpec | None:
    last = view.status.run
    # The run under way, or the last one, is in memory.
    if entry.body is not None and last is not None and last.revision == name:
        return entry.body

    try:
        data = await revisions.read_revision(cluster, view, name)
        body = unpin_spec(data["body"])
        # Of a procedure under way all is needed.
        is_procedure = name in procedures.revisions_in_use(view.status)
        return body if is_procedure else _keep_checks(body)
    except (Permanent, ValidationError, KeyError) as error:
        log.warning(
            "%s/%s: what follow-ups measure or a procedure does cannot be told: %s",
            *entry.key,
            error,
            extra=about(*entry.key),
        )
        return None


def _keep_checks(body: PinnedSpec) -> PinnedSpec:
    """Return of a body what is measured when its run is over: it may be kept for weeks."""
    nothing: dict[str, list[Any]] = {"targets": [], "preflight": [], "stages": [], "notify": []}
    return PinnedSpec(body.spec.model_copy(update=nothing), body.names)
