"""One look at an operation outside the cluster, and what keeps it from ending."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from gatewright.core.model.operation import Operation, Progress
from gatewright.core.model.view import View
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.runtime.execution.chosen import external_of
from gatewright.runtime.execution.provider_requests import ProviderRequests, Sending
from gatewright.runtime.operation_state import OperationState
from gatewright.runtime.tracked import TrackedRelease

TROUBLE_EVERY_LOOKS = 6
"""Every so many looks a vendor is asked what keeps an operation from ending."""
ReadSnapshot = Callable[[], Awaitable[Mapping[str, Any] | None]]


async def look_once(
    requests: ProviderRequests,
    entry: TrackedRelease,
    view: View,
    operation: Operation,
    snapshot: ReadSnapshot,
    state: OperationState,
) -> Progress:
    """Look at an operation once, which may also do the next thing, as to promote a build."""
    provider, checked, _ = external_of(operation.subject, operation.config)
    kept = await snapshot() if operation.kind == "restore" else None

    def ask(link: OpenConnection) -> Awaitable[Progress]:
        return provider.follow(checked, link, operation, kept)

    sending = Sending(entry, operation, state)
    progress = await requests.send(view, provider, checked, ask, sending)
    state.looks += 1

    is_running = progress.state == "Running"
    is_long = is_running and state.looks % TROUBLE_EVERY_LOOKS == 0
    if progress.state == "Failed" or is_long:
        trouble = await _find_trouble(requests, entry, view, operation, state)
        if trouble and trouble not in progress.message:
            message = f"{progress.message}; {trouble}" if progress.message else trouble
            return replace(progress, message=message, stuck=is_running)

    # What kept it from ending is said until it was asked for again.
    if is_running and state.progress.stuck and not progress.message:
        return state.progress

    return progress


async def _find_trouble(
    requests: ProviderRequests,
    entry: TrackedRelease,
    view: View,
    operation: Operation,
    state: OperationState,
) -> str | None:
    provider, checked, _ = external_of(operation.subject, operation.config)

    def ask(link: OpenConnection) -> Awaitable[str | None]:
        return provider.trouble(checked, link, operation)

    sending = Sending(entry, operation, state)
    try:
        return await requests.send(view, provider, checked, ask, sending)
    except (Retryable, Permanent):
        # It only explains; what is known without it still counts.
        return None
