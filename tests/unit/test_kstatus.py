"""Conditions as Argo CD, Flux and kubectl read them: kstatus' own rules over every state that the
golden Releases show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from tests.golden import endings

EXPECTED: Mapping[str, str] = {
    "Promoted": "Current",
    "Guarding": "Current",
    "RolledBack": "Failed",
    "RollbackFailed": "Failed",
    "Rejected": "Failed",
    "Aborted": "Failed",
    "Superseded": "Failed",
    "Observed": "Failed",
    "InvalidSpec": "Failed",
    "Paused": "Failed",
    "Drifted": "Failed",
    "Ignored": "Failed",
    "CannotProceed": "Failed",
    "StatusUnreadable": "Failed",
}
"""By the reason of `Ready`; every other one is InProgress: it goes on by itself, or when somebody
says so who was asked."""


def kstatus(obj: Mapping[str, Any]) -> str:
    """The generic rules of sigs.k8s.io/cli-utils, pkg/kstatus/status: `Compute` for a kind that it
    does not know."""
    meta, status = obj["metadata"], obj.get("status") or {}
    if meta.get("deletionTimestamp"):
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != meta.get("generation"):
        return "InProgress"
    conditions = {item["type"]: item["status"] for item in status.get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Ready") in ("False", "Unknown"):
        return "InProgress"
    return "Current"


@pytest.mark.parametrize("name", sorted(endings.ENDINGS))
def test_every_state_is_what_kstatus_makes_of_it(name: str) -> None:
    release = yaml.safe_load(endings.path(name).read_text())
    conditions = {item["type"]: item for item in release["status"]["conditions"]}
    assert not {"Reconciling", "Stalled"} <= conditions.keys()
    reason = conditions["Ready"]["reason"]
    assert kstatus(release) == EXPECTED.get(reason, "InProgress"), reason
