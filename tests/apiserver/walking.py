"""What tests of walked Releases have in common: questions about a status, and short Releases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.harness.lab import INTERVENTIONS, Site
from tests.harness.scenarios import TARGET, query

SEED = "canary-7f3a9e51-token"
"""A secret that may stand nowhere."""


def errors(site: Site, value: float) -> None:
    site.lab.standin.number(query("errors", site.name), value)


def retry(site: Site) -> None:
    """Ask for a Retry, as whoever owns the cluster."""
    intervene(site, "Retry")


def intervene(site: Site, action: str, release: str = "shop", **more: Any) -> None:
    """Do something to the Release, as whoever owns the cluster."""
    api = site.lab.api
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    user = api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)["status"][
        "userInfo"
    ]["username"]
    body = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Intervention",
        "metadata": {"generateName": f"{action.lower()}-"},
        "spec": {"release": release, "action": action, "by": user, **more},
    }
    api.create(INTERVENTIONS.format(site.name), body)


def stage_is(index: int, *states: str) -> Callable[[Any], Any]:
    """A stage in one of some states."""
    return lambda status: (
        ((status.get("run") or {}).get("stages") or [{}] * 9)[index].get("state") in states
    )


def state_is(*states: str) -> Callable[[Any], Any]:
    """A Release in one of some states."""
    return lambda status: status.get("state") in states


def message_has(words: str) -> Callable[[Any], Any]:
    """Words in what users read."""
    return lambda status: (
        words in status.get("message", "")
        or words in (status.get("waitingFor") or {}).get("message", "")
    )


def staged(site: Site, *steps: dict[str, Any], **stage: Any) -> dict[str, Any]:
    """A Release with one stage of these steps."""
    return {
        "version": "2.0.0",
        "targets": [TARGET],
        "stages": [{"name": "ship", "steps": list(steps), **stage}],
    }
