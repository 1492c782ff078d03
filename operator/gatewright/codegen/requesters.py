"""Who asks for a version, or freezes, says so under their own name: the policy on them.

It judges `spec.requestedBy` of a Release and `spec.by` of a Freeze.

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
_IS_FREEZE = f"request.resource.resource == '{crds.FREEZE.plural}'"
_SPEC, _OLD_SPEC = "dyn(object).spec", "dyn(oldObject).spec"


def policy_spec() -> dict[str, Any]:
    """Return the ValidatingAdmissionPolicy's spec."""
    variables = [
        ("field", f"{_IS_FREEZE} ? 'by' : 'requestedBy'"),
        (
            "named",
            f"{_IS_FREEZE} ? {_SPEC}.?by.orValue('') : {_SPEC}.?requestedBy.orValue('')",
        ),
        ("kept", _cel_keeps_what_is_asked()),
    ]
    policy = admission.spec_policy([crds.RELEASE.plural], variables, [_require_own_name()])
    return policy | admission.match_writes(crds.RELEASE.plural, crds.FREEZE.plural)


def _cel_keeps_what_is_asked() -> str:
    """Return CEL: whether an update changes nothing that a run would pin, the name included."""
    same = " && ".join(f"{_SPEC}.?{field} == {_OLD_SPEC}.?{field}" for field in _pinned_fields())
    return f"!({_IS_FREEZE}) && request.operation == 'UPDATE' && {same}"


def _pinned_fields() -> list[str]:
    # Another Runbook is another body.
    return [
        name
        for name in ReleaseSpec.model_fields
        if name not in UNPINNED_FIELDS or name == "runbookRef"
    ]


def _require_own_name() -> dict[str, str]:
    return {
        "expression": (
            "variables.named == '' || variables.named == request.userInfo.username || "
            "variables.kept"
        ),
        "messageExpression": (
            "'spec.' + variables.field + ': \"' + variables.named + '\" is not who asks (\"' + "
            f"request.userInfo.username + '\"); {IMPERSONATION_REFUSAL}: set it to your own user "
            "name (kubectl auth whoami), or leave it out'"
        ),
        "message": f"the name in it is not who asks; {IMPERSONATION_REFUSAL}",
        "reason": "Forbidden",
    }
