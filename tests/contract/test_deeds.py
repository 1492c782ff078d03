"""What is done is done: an action is no state that somebody could move away, and cannot be anything
but done."""

from __future__ import annotations

from typing import Any

import pytest

from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.registry import ACTIONS

NOWHERE = OpenConnection("nowhere", "nowhere", None, 1.0)
"""A Connection that leads nowhere: whoever asks anything of it fails."""


def operation(kind: Any) -> Operation:
    """An operation of a run."""
    return Operation("7.beta.mark.1-abc123", kind, "action/mark")


@pytest.mark.parametrize("name", sorted(ACTIONS))
async def test_nothing_is_compared(name: str) -> None:
    assert (
        await ACTIONS[name].compare(None, NOWHERE, [operation("act"), operation("act")], None)
        == Standing()
    )


@pytest.mark.parametrize("kind", ["apply", "set", "restore", "job", "stop", "ask"])
@pytest.mark.parametrize("name", sorted(ACTIONS))
async def test_an_operation_that_nobody_handles(name: str, kind: Any) -> None:
    action = ACTIONS[name]
    for ask in (action.perform, action.follow):
        with pytest.raises(Permanent, match=f"cannot be undone, nor anything else \\({kind}\\)"):
            await ask(None, NOWHERE, operation(kind), None)
    with pytest.raises(Permanent, match=f"nor anything else \\({kind}\\)"):
        await action.compare(None, NOWHERE, [operation("act"), operation(kind)], None)
