"""What a Release holds, beside what it is to be: from what the watches have told, and outside the
cluster by looking.

Inside the cluster nothing is asked while nothing is wrong: the object is known, and comparing it
costs no request. Outside there is no watch: a looker of its own asks at the guards' interval,
beside the passes, and makes a pass when that changes anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gatewright.api.base import seconds
from gatewright.core.fingerprints import fingerprint
from gatewright.core.model.holding import Holding, Standing
from gatewright.core.model.needs import Needs
from gatewright.core.model.view import View
from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.runtime.cluster.cached import CachedCluster
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.execution import handlers
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.externals import Externals
from gatewright.runtime.execution.resting_configs import (
    compare_resting,
    is_config,
    resting_paths,
)
from gatewright.runtime.lookups import HoldingWatch
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import TrackedRelease, fingerprint_parts

DEFAULT_INTERVAL_S = 30.0
"""Seconds between two looks where no guard says how often to look."""
NOT_LOOKED_YET = Standing(unknown="not looked at yet")

log = logging.getLogger("gatewright.standings")


async def compare_holdings(
    lens: CachedCluster,
    outside: Externals,
    entry: TrackedRelease,
    view: View,
    needs: Needs,
    snapshots: Mapping[str, Any],
) -> dict[str, Standing]:
    """By subject. What cannot be told is a value, too. Raises Retryable where the API server does
    not answer."""
    found: dict[str, Standing] = {}
    for holding in needs.holdings:
        if is_external(holding.subject, holding.config):
            found[holding.subject] = _external_standing(outside, entry, view, holding, snapshots)
            continue
        if view.run is None and is_config(holding):
            found[holding.subject] = await _resting_standing(lens, entry, view, holding, snapshots)
            continue
        await _remember_fingerprints(lens, entry, view, holding)
        try:
            standing = await handlers.compare_holding(
                lens, view, holding, snapshots.get(holding.subject)
            )
            if holding.unproved and not standing.difference:
                standing = await _check_rollout(lens, view, holding, standing)
            found[holding.subject] = standing
        except Permanent as error:
            found[holding.subject] = Standing(unknown=str(error))
    _drop_unheld(entry, view, needs)
    return found


async def _resting_standing(
    lens: CachedCluster,
    entry: TrackedRelease,
    view: View,
    holding: Holding,
    snapshots: Mapping[str, Any],
) -> Standing:
    kept = snapshots[holding.subject]
    try:
        return await compare_resting(lens, entry.resting_configs, view, holding, kept)
    except Permanent as error:
        return Standing(unknown=str(error))


async def _check_rollout(
    lens: CachedCluster, view: View, holding: Holding, standing: Standing
) -> Standing:
    """A deploy that failed or was skipped may have changed the object alone: old pods go on
    serving, or none does."""
    progress = await handlers.follow_operation(lens, view, holding.operations[-1])
    if progress.state == "Succeeded":
        return standing
    words = progress.message or "its deploy was not begun"
    if progress.state == "Absent":  # somebody else has brought it there: then it only has to run
        sight, _ = await handlers.inspect_subject(lens, view, holding.subject, holding.config)
        words = sight.problem or sight.unready or ""
        if not words:
            return standing
    return replace(
        standing, difference=f"{holding.subject} has not rolled out what the run wants: {words}"
    )


async def _remember_fingerprints(
    lens: CachedCluster, entry: TrackedRelease, view: View, holding: Holding
) -> None:
    """What is known of the objects now: only news that differ from it make a pass."""
    for path in handlers.held_paths(view.namespace, holding.subject, holding.config):
        try:
            entry.prints[path] = fingerprint_parts(await lens.get(path), view.run is None)
        except NotFound:
            entry.prints[path] = None


def _drop_unheld(entry: TrackedRelease, view: View, needs: Needs) -> None:
    resting = resting_paths(view, needs.holdings)
    for path in entry.resting_configs.keys() - resting:
        del entry.resting_configs[path]

    held = {holding.subject for holding in needs.holdings}
    for subject in [subject for subject in entry.lookers if subject not in held]:
        looker = entry.lookers.pop(subject)
        if looker.task is not None:
            looker.task.cancel()
    if not held:
        entry.prints.clear()


def _external_standing(
    outside: Externals,
    entry: TrackedRelease,
    view: View,
    holding: Holding,
    snapshots: Mapping[str, Any],
) -> Standing:
    signature = fingerprint([[item.id, item.config] for item in holding.operations])
    looker = entry.lookers.get(holding.subject)
    if looker is None or looker.signature != signature:
        if looker is not None and looker.task is not None:
            looker.task.cancel()
        looker = entry.lookers[holding.subject] = HoldingWatch(signature, NOT_LOOKED_YET)
    if looker.task is None or looker.task.done():
        work = _look_while_held(
            outside, entry, view, holding, snapshots.get(holding.subject), looker
        )
        looker.task = outside.run_beside(work)
    return looker.standing


async def _look_while_held(
    outside: Externals,
    entry: TrackedRelease,
    view: View,
    holding: Holding,
    snapshot: Any,
    looker: HoldingWatch,
) -> None:
    """Look for as long as it is held."""
    interval = max(outside.fastest, _interval_of(entry))
    while entry.lookers.get(holding.subject) is looker:
        wait = interval
        try:
            found = await outside.compare(view, holding, snapshot)
        except LeaseLost:
            return
        except Retryable as error:
            found, wait = Standing(unknown=str(error)), max(interval, min(error.after, 60.0))
        except Permanent as error:
            found = Standing(unknown=str(error))
        except Exception as error:
            log.exception(
                "%s/%s: %s cannot be compared",
                view.namespace,
                view.name,
                holding.subject,
                extra=about(view.namespace, view.name),
            )
            found = Standing(unknown=type(error).__name__)
        if found != looker.standing:
            looker.standing = found
            outside.changed(entry.key)
        await asyncio.sleep(wait)


def _interval_of(entry: TrackedRelease) -> float:
    guards = entry.body.spec.guards if entry.body is not None else []
    return min((seconds(guard.interval) for guard in guards), default=DEFAULT_INTERVAL_S)
