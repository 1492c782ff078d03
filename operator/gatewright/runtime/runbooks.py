"""The Runbooks that are watched, by namespace: what Releases that name them are made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gatewright.api.run import RunbookUsed
from gatewright.core.report import size
from gatewright.runtime.cluster import wire
from gatewright.runtime.cluster.outline import Unreadable, UnreadSpec
from gatewright.runtime.kept_objects import KeptObjects
from gatewright.runtime.telling.judgements import Place

MAX_PER_NAMESPACE = 32
"""Runbooks of one namespace that are kept."""


@dataclass(frozen=True, slots=True)
class WatchedRunbook:
    """A Runbook as it stands."""

    used: RunbookUsed
    """Which one it is."""
    text: bytes
    """Its spec as JSON; empty where nobody reads it."""
    problem: str = ""
    """Why nobody reads it."""

    def read(self) -> tuple[Mapping[str, Any], str]:
        """Return its spec, and why it cannot be read; empty where it can."""
        if self.problem:
            return {}, self.problem
        try:
            raw = wire.decode_json(self.text)
        except Unreadable:
            return {}, size.nested_too_deep()

        problem = size.find_size_problem(raw, lambda: len(self.text))
        return ({}, problem) if problem else (raw, "")


class Runbooks:
    """What is known of the Runbooks of all namespaces."""

    def __init__(self) -> None:
        self._kept: KeptObjects[WatchedRunbook] = KeptObjects(MAX_PER_NAMESPACE)

    def find(self, namespace: str, name: str) -> WatchedRunbook | None:
        """Return a Runbook; None where there is none, as far as the watches have told."""
        if name in self._kept.left_out_of(namespace):
            return _left_out(name)
        return self._kept.of(namespace).get(name)

    @property
    def left_out(self) -> bool:
        """Whether there are Runbooks that are not kept, and may be when others are deleted."""
        return self._kept.has_left_out

    def event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """Take in a watch event of a Runbook, or what a list has; return whether it is news."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        before = self.find(namespace, name)
        self._kept.forget(namespace, name)
        if kind != "DELETED":
            self._kept.keep(namespace, name, _watched(body))
        return self.find(namespace, name) != before

    def forget_vanished(self, there: Collection[Place]) -> list[Place]:
        """Forget those that were not in a list of all, and return them."""
        return self._kept.forget_vanished(there)


def _watched(body: Mapping[str, Any]) -> WatchedRunbook:
    meta, raw = body["metadata"], body.get("spec") or {}
    used = RunbookUsed(
        name=meta["name"], uid=meta["uid"], generation=int(meta.get("generation", 0))
    )
    if not isinstance(raw, UnreadSpec):
        return WatchedRunbook(used, orjson.dumps(raw))
    return WatchedRunbook(used, raw.text, size.too_much(raw.size, 0) or "")


def _left_out(name: str) -> WatchedRunbook:
    problem = f"the namespace has more than {MAX_PER_NAMESPACE}; delete those that nobody needs"
    return WatchedRunbook(RunbookUsed(name=name, uid="", generation=0), b"", problem)
