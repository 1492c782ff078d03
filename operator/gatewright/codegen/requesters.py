"""Who asks for a version says so under their own name: the ValidatingAdmissionPolicy on
`spec.requestedBy` of a Release.

An approval with `notBy: Requester` keeps out whoever stands there. So a name gets there only by the
request of its owner, and whoever changes what a run would do asks for that: while a name stands
there it has to be theirs. What a run does not pin (`notify`, `suspend` ...) anybody may change who
may write the Release, and to apply once more what is there already changes nothing.
"""

from __future__ import annotations

from typing import Any

from gatewright.api.release import ReleaseSpec
from gatewright.codegen import admission, crds
from gatewright.core.model.pinned_spec import UNPINNED_FIELDS
from gatewright.runtime.admission_trials import IMPERSONATION_REFUSAL

POLICY_NAME = "gatewright-requesters"
_FIELD = "object.spec.?requestedBy"


def policy_spec() -> dict[str, Any]:
    """Return the ValidatingAdmissionPolicy's spec."""
    variables = [("named", f"{_FIELD}.orValue('')"), ("kept", _cel_keeps_what_is_asked())]
    return admission.spec_policy(crds.RELEASE.plural, variables, [_require_own_name()])


def _cel_keeps_what_is_asked() -> str:
    """Return CEL: whether an update changes nothing that a run would pin, the name included."""
    same = " && ".join(
        f"object.spec.?{field} == oldObject.spec.?{field}" for field in _pinned_fields()
    )
    return f"request.operation == 'UPDATE' && {same}"


def _pinned_fields() -> list[str]:
    return [name for name in ReleaseSpec.model_fields if name not in UNPINNED_FIELDS]


def _require_own_name() -> dict[str, str]:
    return {
        "expression": (
            "variables.named == '' || variables.named == request.userInfo.username || "
            "variables.kept"
        ),
        "messageExpression": (
            "'spec.requestedBy: \"' + variables.named + '\" is not who asks (\"' + "
            f"request.userInfo.username + '\"); {IMPERSONATION_REFUSAL}: set it to your own user "
            "name (kubectl auth whoami), or leave it out'"
        ),
        "message": f"spec.requestedBy is not who asks; {IMPERSONATION_REFUSAL}",
        "reason": "Forbidden",
    }
