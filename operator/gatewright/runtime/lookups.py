"""What is looked at outside the cluster: while it is held, and before it is changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gatewright.core.model.holding import Standing
from gatewright.core.model.observation import LiveState


@dataclass(slots=True, eq=False)
class HoldingWatch:
    """Looks at something outside the cluster that a run has changed, again and again: no watch
    tells of it."""

    signature: str
    standing: Standing
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class Inspection:
    """One look at something outside the cluster, under way or done."""

    signature: str
    """Of what is looked at."""
    began: float
    """Monotonic."""
    again: bool = False
    """It was looked at before: what was found then stands until this look ends."""
    sight: LiveState | None = None
    at: float = 0.0
    """When it ended (monotonic)."""
    used: int = 0
    """The pass that has used it; no other one may."""
    problem: str = ""
    """Why it could not be looked at so far; it is tried again."""
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class RestingConfig:
    """What is remembered of a captured ConfigMap at rest."""

    hash: str = ""
    """Of what it holds; empty where it is gone."""
    managers: str = ""
    """Who has written it last, in words, where it is not as it is to be."""
