"""What the operator says is said by the operator: who may write the status of its objects.

A status is believed: it says what was approved, what was changed, and what a rollback returns to.
RBAC alone lets everybody write it who may write `releases/status`, and Kubernetes' own role `admin`
is often given more than it should. So each write also asks for the verb `operate`, which only the
operator's role has.

A ServiceAccount must besides show the pod that it runs in: who impersonates it, or has a token of
it from a Secret, shows none. That bars neither who may create pods or tokens in the operator's
namespace, nor who may exec into its pods: that namespace has to be the operator's alone.

A status of a generation below zero is nobody's: by it the operator finds out that the policy is in
force (`runtime.admission_probe`).
"""

from __future__ import annotations

from typing import Any

from gatewright.api import GROUP
from gatewright.codegen import admission, crds
from gatewright.runtime.admission_trials import STATUS_REFUSAL

POLICY_NAME = "gatewright-status"
OPERATE_VERB = "operate"
WITHOUT_POD = "operate-without-pod"
"""What a ServiceAccount needs besides that shows no pod: an operator that runs elsewhere. No
shipped role has it."""
POD = "authentication.kubernetes.io/pod-name"
"""What the API server adds to whoever shows the token of a pod."""


def policy_spec() -> dict[str, Any]:
    """Return the ValidatingAdmissionPolicy's spec."""
    allowed = f"dyn(object).?status.?observedGeneration.orValue(0) >= 0 && {may_operate()}"

    return {
        **admission.match_writes(*(f"{kind.plural}/status" for kind in crds.KINDS if kind.status)),
        "validations": [
            {
                "expression": allowed,
                "messageExpression": f"'{STATUS_REFUSAL}: ' + request.userInfo.username + "
                f"' may not {OPERATE_VERB} ' + request.resource.resource + ' in namespace "
                "' + request.namespace",
                "message": STATUS_REFUSAL,
                "reason": "Forbidden",
            },
            {
                "expression": shows_pod(),
                "messageExpression": f"'{STATUS_REFUSAL}: ' + request.userInfo.username + "
                f"' shows no pod that it runs in, and may not {WITHOUT_POD} ' + "
                "request.resource.resource + "
                "' in namespace ' + request.namespace",
                "message": STATUS_REFUSAL,
                "reason": "Forbidden",
            },
        ],
    }


def may_operate(plural: str = "") -> str:
    """Return CEL: whether who writes has the operator's verb on a kind.

    On the kind that is written where none is named.
    """
    return _may(OPERATE_VERB, plural)


def shows_pod(plural: str = "") -> str:
    """Return CEL: whether a ServiceAccount that writes shows its pod, or needs none."""
    return (
        "!request.userInfo.username.startsWith('system:serviceaccount:') || "
        f"(has(request.userInfo.extra) && '{POD}' in request.userInfo.extra) || "
        f"{_may(WITHOUT_POD, plural)}"
    )


def _may(verb: str, plural: str) -> str:
    resource = f"'{plural}'" if plural else "request.resource.resource"
    return (
        f"authorizer.group('{GROUP}').resource({resource}).namespace(request.namespace)"
        f".check('{verb}').allowed()"
    )
