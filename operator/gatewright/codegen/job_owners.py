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
from gatewright.runtime.admission_trials import JOB_REFUSAL

POLICY_NAME = "gatewright-jobs"
_REMEDY = (
    "; a Job of your own leaves out controller: true for a Release, and "
    f"{KEY}; a Job of the operator keeps its label {RELEASE}"
)


def policy_spec() -> dict[str, Any]:
    """Return the ValidatingAdmissionPolicy's spec."""
    claims = f"{_controllers('object')}.size() > 0 || {_key('object')} == ''"
    controllers_changed = f"{_controllers('object')} != {_controllers('oldObject')}"
    key_changed = f"{_key('object')} != {_key('oldObject')}"
    is_followed = f"oldObject.metadata.?finalizers.orValue([]).exists(one, one == '{RESULT}')"
    label_changed = f"{_label('object')} != {_label('oldObject')}"
    concerned = (
        f"request.operation != 'UPDATE' ? ({claims}) : "
        f"(({claims}) && ({controllers_changed} || {key_changed})) || "
        f"({is_followed} && {label_changed})"
    )

    may_operate = f"{_key('object')} != '' && {statuses.may_operate('releases')}"
    verb, without_pod = statuses.OPERATE_VERB, statuses.WITHOUT_POD
    no_pod = f"shows no pod that it runs in, and may not {without_pod} releases in namespace "
    return {
        **admission.match_writes("jobs", "jobs/status", group="batch"),
        "matchConditions": [{"name": "claims-a-release", "expression": concerned}],
        "validations": [
            _refuse_unless(may_operate, f"may not {verb} releases in namespace ", _REMEDY),
            _refuse_unless(statuses.shows_pod("releases"), no_pod),
        ],
    }


def _refuse_unless(expression: str, problem: str, remedy: str = "") -> dict[str, str]:
    """Return a validation; a refusal says the user's problem, in which namespace, and the
    remedy."""
    words = f"'{JOB_REFUSAL}: ' + request.userInfo.username + ' {problem}' + request.namespace"
    return {
        "expression": expression,
        "messageExpression": f"{words} + '{remedy}'" if remedy else words,
        "message": JOB_REFUSAL,
        "reason": "Forbidden",
    }


def _controllers(job: str) -> str:
    """Return CEL: the owner references of a Job that have a Release as its controller."""
    return (
        f"{job}.metadata.?ownerReferences.orValue([])"
        f".filter(owner, owner.apiVersion.lowerAscii().split('/')[0] == '{GROUP}' && "
        "owner.?controller.orValue(false))"
    )


def _key(job: str) -> str:
    """Return CEL: the key of the operation that a Job carries; `-` where it has none."""
    return f"{job}.metadata.?annotations[?'{KEY}'].orValue('-')"


def _label(job: str) -> str:
    """Return CEL: the label by which the operator finds a Job; `-` where it has none."""
    return f"{job}.metadata.?labels[?'{RELEASE}'].orValue('-')"
