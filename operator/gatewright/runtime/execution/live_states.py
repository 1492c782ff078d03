"""Looks before a run, before a first change and before a promotion: what is there now.

Inside the cluster the API server is asked within the pass. Outside, a look has a task of its own
beside the passes: the pass ends without it and another one follows when it is there. A vendor that
says nothing keeps no worker, and no pass of anybody from going on: whoever wants the way back is
served meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from gatewright.core.fingerprints import fingerprint
from gatewright.core.model.needs import Needs
from gatewright.core.model.observation import LiveState
from gatewright.core.model.view import View
from gatewright.core.subject import traits_of
from gatewright.ports import Cluster, Permanent, Retryable
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.cluster.wire import as_json
from gatewright.runtime.execution import handlers
from gatewright.runtime.execution.chosen import is_external
from gatewright.runtime.execution.externals import Externals
from gatewright.runtime.lookups import Inspection
from gatewright.runtime.operation_state import refusal_delay
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.tracked import TrackedRelease

FRESH_FOR_S = 20.0
"""Seconds for which a look that no pass has used yet is as good as a new one."""
SLOW_AFTER_S = 2.0
"""Seconds after which it is said that a look takes its time."""
REPEAT_LOG_S = 60.0
"""Seconds before other words for why a look fails are told: an error that alternates is no write a
try."""

MAX_CAPTURED_BYTES = 4 * 1024 * 1024
"""Bytes of captured configuration after which nothing more is read: less than that fits into a
run's record."""
TOO_MUCH_MESSAGE = (
    f"what is captured comes to more than {MAX_CAPTURED_BYTES >> 20} MiB, and a run can "
    "keep 1 MiB; capture fewer or smaller "
    "ConfigMaps and Secrets (config: of the targets)"
)

log = logging.getLogger("gatewright.live_states")


@dataclass(slots=True)
class LiveStates:
    """What was looked at. Where something outside the cluster is not there yet, nothing is: half a
    look is none."""

    live_states: dict[str, LiveState] = field(default_factory=dict)
    copies: list[dict[str, Any]] = field(default_factory=list)
    """Secret copies that a snapshot needs."""
    looking: str = ""
    """What is waited for, where that takes its time."""
    wake: float | None = None
    """Seconds until there is something to say of a look that is under way."""


async def inspect_subjects(
    cluster: Cluster, outside: Externals, entry: TrackedRelease, view: View, needs: Needs
) -> LiveStates:
    """All subjects that the core wants to see. Raises Retryable where the API server does not
    answer."""
    beside = {
        name: config for name, config in needs.live_states.items() if is_external(name, config)
    }
    _drop_unwanted(entry, beside)
    glances = {
        name: _inspect_external(outside, entry, view, name, config)
        for name, config in beside.items()
    }
    pending = {name: glance for name, glance in glances.items() if glance.sight is None}
    if pending:
        return _describe_pending(pending)
    found, kept = LiveStates(), 0
    for subject, config in needs.live_states.items():
        # There may be hundreds of a megabyte each, and none of them is of use any more.
        if kept > MAX_CAPTURED_BYTES:
            found.live_states[subject] = LiveState(None, problem=TOO_MUCH_MESSAGE)
            continue
        sight = glances[subject].sight if subject in glances else None
        if sight is not None:
            found.live_states[subject] = sight
            continue
        try:
            found.live_states[subject], copy = await handlers.inspect_subject(
                cluster, view, subject, config
            )
        except Permanent as error:
            found.live_states[subject], copy = LiveState(None, problem=str(error)), None
        if copy is not None:
            found.copies.append(copy)
        if traits_of(subject).is_content:
            kept += len(as_json(found.live_states[subject].snapshot))
    for glance in glances.values():
        glance.used = entry.turn
    return found


def _describe_pending(glances: dict[str, Inspection]) -> LiveStates:
    now = time.monotonic()
    for subject, glance in glances.items():
        if glance.problem:
            return LiveStates(looking=f"{subject}: {glance.problem}")
    subject, glance = min(glances.items(), key=lambda item: item[1].began)
    if glance.again:  # what was found last stands until then
        return LiveStates()
    left = SLOW_AFTER_S - (now - glance.began)
    return (
        LiveStates(wake=left)
        if left > 0
        else LiveStates(looking=f"{subject}, which has not answered yet")
    )


def _drop_unwanted(entry: TrackedRelease, wanted: dict[str, Any]) -> None:
    for gone in [name for name in entry.glances if name not in wanted]:
        glance = entry.glances.pop(gone)
        if glance.task is not None:
            glance.task.cancel()


def _inspect_external(
    outside: Externals, entry: TrackedRelease, view: View, subject: str, config: Any
) -> Inspection:
    """A look that may be used in this pass, or one that is under way."""
    signature = fingerprint(config)
    old = entry.glances.get(subject)
    same = old is not None and old.signature == signature
    if old is not None and same:
        fresh = old.used in (0, entry.turn) and time.monotonic() - old.at < FRESH_FOR_S
        under_way = old.sight is None and old.task is not None and not old.task.done()
        if under_way or (old.sight is not None and fresh):
            return old
    if old is not None and old.task is not None:
        old.task.cancel()
    glance = entry.glances[subject] = Inspection(signature, time.monotonic(), again=same)
    glance.task = outside.run_beside(
        _inspect_until_known(outside, entry, view, subject, config, glance)
    )
    return glance


async def _inspect_until_known(
    outside: Externals,
    entry: TrackedRelease,
    view: View,
    subject: str,
    config: Any,
    glance: Inspection,
) -> None:
    """Until it is there, or nobody wants it any more."""
    failures, said = 0, float("-inf")
    while entry.glances.get(subject) is glance:
        try:
            glance.sight = await outside.look(view, subject, config)
        except LeaseLost:
            return
        except Permanent as error:
            glance.sight = LiveState(None, problem=str(error))
        except Exception as error:
            failures += 1
            after = error.after if isinstance(error, Retryable) else 0.0
            words = str(error)
            if not isinstance(error, Retryable):
                log.exception(
                    "%s/%s: %s cannot be looked at", *entry.key, subject, extra=about(*entry.key)
                )
                words = f"a fault of the operator ({type(error).__name__}); its log says more"
            if time.monotonic() - said >= REPEAT_LOG_S:
                said, glance.problem = time.monotonic(), words
                outside.changed(entry.key)
            await asyncio.sleep(max(refusal_delay(failures), min(after, 60.0)))
            continue
        glance.at = time.monotonic()
        outside.changed(entry.key)
        return
