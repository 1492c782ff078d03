"""Who makes the Jobs of a Release: a Job that names a Release as its controller is made by the
operator alone.

The result of such a Job is believed: it passes a step, a gate, or the verification after a
rollback. Its name and key can be computed from the Release's status beforehand, so whoever may
create Jobs could have one ready that succeeds at once. RBAC tells nobody apart by what an object
says; so a Job that is to count asks for the verb `operate` on `releases`, as a status does
(`codegen.statuses`).

The label by which the operator finds its Jobs stays on them for as long as their finalizer does:
without it nobody would ever take that away, and the Job and its namespace could not be deleted.

What is not looked at: a Job that names a Release as an owner, not as its controller, so that it is
deleted with it; changes of the operator's own Jobs that leave key and label alone, and the loss of
an owner, which Kubernetes' garbage collector may bring about: such a Job counts no more.

A Job whose key is empty is nobody's: by it the operator finds out that the policy is in force
(`runtime.admission_probe`).
"""

from __future__ import annotations

from typing import Any

from gatewright.api import GROUP, KEY, RELEASE, RESULT
from gatewright.codegen import admission, statuses
from gatewright.runtime.admission_probe import JOB_REFUSAL

POLICY_NAME = "gatewright-jobs"
_REMEDY = (
    "; a Job of your own leaves out controller: true for a Release, and "
    f"{KEY}; a Job of the operator keeps its label {RELEASE}"
)


def policy_spec() -> dict[str, Any]:
    """The ValidatingAdmissionPolicy's spec."""
    claims = f"{_controllers('object')}.size() > 0 || {_key('object')} == ''"
    followed = f"oldObject.metadata.?finalizers.orValue([]).exists(one, one == '{RESULT}')"
    changed = (
        f"{_controllers('object')} != {_controllers('oldObject')} || "
        f"{_key('object')} != {_key('oldObject')}"
    )
    relabelled = f"{_label('object')} != {_label('oldObject')}"
    concerned = (
        f"request.operation != 'UPDATE' ? ({claims}) : "
        f"(({claims}) && ({changed})) || ({followed} && {relabelled})"
    )
    refusal = f"'{JOB_REFUSAL}: ' + request.userInfo.username + "
    may, in_pod = statuses.may_operate("releases"), statuses.shows_pod("releases")
    return {
        **admission.match_writes("jobs", group="batch"),
        "matchConditions": [{"name": "claims-a-release", "expression": concerned}],
        "validations": [
            {
                "expression": f"{_key('object')} != '' && {may}",
                "messageExpression": (
                    f"{refusal}' may not {statuses.OPERATE_VERB} releases in "
                    f"namespace ' + request.namespace + '{_REMEDY}'"
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


def _label(job: str) -> str:
    """CEL: the label by which the operator finds a Job; `-` where it has none."""
    return f"{job}.metadata.?labels[?'{RELEASE}'].orValue('-')"
