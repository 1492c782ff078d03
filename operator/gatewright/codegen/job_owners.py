"""Who makes the Jobs of a Release: a Job that names a Release as its controller is made by the
operator alone.

The result of such a Job is believed: it passes a step, a gate, or the verification after a
rollback. Its name and key can be computed from the Release's status beforehand, so whoever may
create Jobs could have one ready that succeeds at once. RBAC tells nobody apart by what an object
says; so a Job that is to count asks for the verb `operate` on `releases`, as a status does
(`codegen.statuses`).

What is not looked at: a Job that names a Release as an owner, not as its controller, so that it is
deleted with it; changes of the operator's own Jobs that leave owner and key alone, as those of
Kubernetes' controllers do.

A Job whose key is empty is nobody's: by it the operator finds out that the policy is in force
(`runtime.admission_probe`).
"""

from __future__ import annotations

from typing import Any

from gatewright.api import GROUP, KEY
from gatewright.codegen import admission, statuses
from gatewright.runtime.admission_probe import JOB_REFUSAL

POLICY_NAME = "gatewright-jobs"


def policy_spec() -> dict[str, Any]:
    """Return the ValidatingAdmissionPolicy's spec."""
    claim = f"{_controllers('object')}.size() > 0 || {_key('object')} == ''"
    changed = (
        f"{_controllers('object')} != {_controllers('oldObject')} || {_key('object')} != "
        f"{_key('oldObject')}"
    )
    refusal = f"'{JOB_REFUSAL}: ' + request.userInfo.username + "
    may, in_pod = statuses.may_operate("releases"), statuses.shows_pod("releases")

    return {
        **admission.match_writes("jobs", group="batch"),
        "matchConditions": [
            {"name": "claims-a-release", "expression": claim},
            {"name": "claim-is-new", "expression": f"request.operation != 'UPDATE' || {changed}"},
        ],
        "validations": [
            {
                "expression": f"{_key('object')} != '' && {may}",
                "messageExpression": (
                    f"{refusal}' may not {statuses.OPERATE_VERB} releases in "
                    "namespace ' + request.namespace"
                ),
                "message": JOB_REFUSAL,
                "reason": "Forbidden",
            },
            {
                "expression": in_pod,
                "messageExpression": f"{refusal}' shows no pod that it runs in, and may not "
                f"{statuses.WITHOUT_POD} "
                "releases in namespace ' + request.namespace",
                "message": JOB_REFUSAL,
                "reason": "Forbidden",
            },
        ],
    }


def _controllers(job: str) -> str:
    """CEL: the owner references of a Job that have a Release as its controller."""
    return (
        f"{job}.metadata.?ownerReferences.orValue([])"
        f".filter(owner, owner.apiVersion.startsWith('{GROUP}/') && "
        "owner.?controller.orValue(false))"
    )


def _key(job: str) -> str:
    """CEL: the key of the operation that a Job carries; `-` where it has none."""
    return f"{job}.metadata.?annotations[?'{KEY}'].orValue('-')"
