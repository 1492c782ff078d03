"""What each admission policy must refuse, and in which words.

    policy                    tried by                                before
    gatewright-interventions  an Intervention under a name of nobody  each Intervention is answered
    gatewright-releases       a Job under the reserved                a run begins, an edit counts
                              ServiceAccount                          by a Retry
    gatewright-uses           a check through the reserved Connection the same
    gatewright-requesters     a version that nobody has asked for     the same
    gatewright-status         a status of a generation below zero     the same
    gatewright-jobs           a Job with an empty key                 the same
    gatewright-connections    a Connection with the reserved Secret   its Secrets are read

And where a Release names a Runbook, before a run begins:

    gatewright-releases       a Runbook with such a Job
    gatewright-uses           a Runbook with such a check
    gatewright-runbook-rights a Release of one reserved version
    gatewright-runbook-uses   a Release of another one

The reserved name is refused to everybody, also to who may do anything, by the very expression that
asks RBAC about all others. An object is tried to be created, and one that is there to be changed,
since a policy may look at one of both only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gatewright.api import API_VERSION, GROUP, KEY

IMPERSONATION_REFUSAL = "nobody acts under another name"
"""What the policy says of a forged name."""

STATUS_REFUSAL = "status is written by the operator alone"

JOB_REFUSAL = "the Jobs of a Release are made by the operator alone"

NOBODY_USER = f"{GROUP}/nobody"

RESERVED_NAME = "gatewright-trial"
"""A ServiceAccount, Connection and Secret that nobody may name."""

RUNBOOK_RIGHTS_VERSION = f"{RESERVED_NAME}-rights"
RUNBOOK_USES_VERSION = f"{RESERVED_NAME}-uses"
"""Versions that nobody may ask for where there are Runbooks."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a policy must refuse, and how it says so."""

    policy: str
    plural: str
    refusal: str
    create: Mapping[str, Any] | None = None
    """The object that nobody may create; None where a policy has nothing to say of that."""
    change: tuple[Mapping[str, Any], ...] | None = None
    """The JSON patch of one that is there; None where the CRD itself refuses every change."""
    part: str = ""
    """The subresource that is patched."""
    version: str = API_VERSION
    """The group and version of the kind."""


def _spec_trial(
    policy: str, plural: str, kind: str, refusal: str, spec: Mapping[str, Any]
) -> Trial:
    """Return the trial of a policy on who writes a spec."""
    meta = {"generateName": f"{RESERVED_NAME}-"}
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}
    change = {"op": "replace", "path": "/spec", "value": spec}
    return Trial(policy, plural, refusal, body, (change,))


SpecWith = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Makes a spec with one check."""


def _release_with(check: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": "0", "suspend": True, **_body_with(check)}


def _body_with(check: Mapping[str, Any]) -> dict[str, Any]:
    stages = [{"name": "trial", "steps": [{"name": "wait", "wait": "1s"}]}]
    return {"preflight": [{"name": "trial", **check}], "stages": stages}


INTERVENTION_TRIAL = Trial(
    "gatewright-interventions",
    "interventions",
    IMPERSONATION_REFUSAL,
    {
        "apiVersion": API_VERSION,
        "kind": "Intervention",
        "metadata": {"generateName": "gatewright-forged-"},
        "spec": {"release": "gatewright-forged", "action": "Abort", "by": NOBODY_USER},
    },
)


def _account_trial(plural: str, kind: str, spec_with: SpecWith) -> Trial:
    """Return the trial of a Job under the reserved ServiceAccount."""
    job = {"image": RESERVED_NAME, "serviceAccountName": RESERVED_NAME}
    refusal = f"may not impersonate serviceaccounts/{RESERVED_NAME} in namespace"
    return _spec_trial("gatewright-releases", plural, kind, refusal, spec_with({"job": job}))


def _use_trial(plural: str, kind: str, spec_with: SpecWith) -> Trial:
    """Return the trial of a check through the reserved Connection."""
    check = {"http": {"connection": RESERVED_NAME, "path": "/"}}
    refusal = f"may not use connections.{GROUP}/{RESERVED_NAME} in namespace"
    return _spec_trial("gatewright-uses", plural, kind, refusal, spec_with(check))


def _version_trial(policy: str, version: str) -> Trial:
    """Return the trial of a Release of a reserved version."""
    spec = {**_release_with({"approval": {}}), "version": version}
    refusal = f"the version {version} is reserved"
    return _spec_trial(policy, "releases", "Release", refusal, spec)


RELEASES_TRIAL = _account_trial("releases", "Release", _release_with)

USES_TRIAL = _use_trial("releases", "Release", _release_with)

REQUESTERS_TRIAL = _spec_trial(
    "gatewright-requesters",
    "releases",
    "Release",
    IMPERSONATION_REFUSAL,
    {**_release_with({"approval": {}}), "requestedBy": NOBODY_USER},
)

STATUS_TRIAL = Trial(
    "gatewright-status",
    "releases",
    STATUS_REFUSAL,
    change=({"op": "add", "path": "/status", "value": {"observedGeneration": -1}},),
    part="status",
)

JOBS_TRIAL = Trial(
    "gatewright-jobs",
    "jobs",
    JOB_REFUSAL,
    {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": f"{RESERVED_NAME}-", "annotations": {KEY: ""}},
        "spec": {
            "suspend": True,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "never-runs", "image": RESERVED_NAME}],
                }
            },
        },
    },
    version="batch/v1",
)

CONNECTIONS_TRIAL = _spec_trial(
    "gatewright-connections",
    "connections",
    "Connection",
    f"may not get secrets/{RESERVED_NAME} in namespace",
    {
        "http": {
            "url": f"https://{RESERVED_NAME}.invalid",
            "bearerToken": {"secretRef": {"name": RESERVED_NAME, "key": "none"}},
        }
    },
)

RUNBOOK_TRIALS = (
    _account_trial("runbooks", "Runbook", _body_with),
    _use_trial("runbooks", "Runbook", _body_with),
    _version_trial("gatewright-runbook-rights", RUNBOOK_RIGHTS_VERSION),
    _version_trial("gatewright-runbook-uses", RUNBOOK_USES_VERSION),
)
"""Where a Release names a Runbook: the policies with parameters judge nothing where there is
none."""

RELEASE_TRIALS = (RELEASES_TRIAL, USES_TRIAL, REQUESTERS_TRIAL, STATUS_TRIAL, JOBS_TRIAL)

ALL_TRIALS = (INTERVENTION_TRIAL, *RELEASE_TRIALS, CONNECTIONS_TRIAL)
