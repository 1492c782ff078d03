"""What the operator says is said by the operator: who may write the status of its objects.

A status is believed: it says what was approved, what was changed, and what a rollback returns to. RBAC alone lets everybody
write it who may write `releases/status`, and Kubernetes' own role `admin` is often given more than it should. So each write
also asks for the verb `operate`, which only the operator's role has. A status of a generation below zero is nobody's: by it
the operator finds out that the policy is in force (`runtime.admission_probe`).
"""

from __future__ import annotations

from typing import Any

from gatewright.api import GROUP
from gatewright.codegen import admission, crds
from gatewright.runtime.admission_probe import STATUS_REFUSAL

NAME = "gatewright-status"
VERB = "operate"


def policy() -> dict[str, Any]:
    """The ValidatingAdmissionPolicy's spec."""
    allowed = (
        f"dyn(object).?status.?observedGeneration.orValue(0) >= 0 && authorizer.group('{GROUP}')"
        f".resource(request.resource.resource).namespace(request.namespace).check('{VERB}').allowed()"
    )
    return {
        **admission.written(*(f"{kind.plural}/status" for kind in crds.KINDS)),
        "validations": [
            {
                "expression": allowed,
                "messageExpression": f"'{STATUS_REFUSAL}: ' + request.userInfo.username + "
                f"' may not {VERB} ' + request.resource.resource + ' in namespace ' + request.namespace",
                "message": STATUS_REFUSAL,
                "reason": "Forbidden",
            }
        ],
    }
