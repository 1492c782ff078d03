"""Who may act, and as whom: the ValidatingAdmissionPolicy that the API server itself carries out,
without a webhook.

An Intervention says who acts (`spec.by`), in which groups (`spec.groups`), and what is to be done
to which Release. The API server knows who calls; it compares, and asks RBAC for the verb of the
action on `releases`, by the Release's name:

    - apiGroups: [gatewright.dev]
      resources: [releases]
      resourceNames: [web]        # or none: every Release of the namespace
      verbs: [approve, confirm]

A procedure may also be allowed by its own name, as if it were a subresource:

    - apiGroups: [gatewright.dev]
      resources: [releases/clear-cache]
      verbs: [run]

So the operator can believe what it reads.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from gatewright.api import GROUP
from gatewright.api.intervention import Action
from gatewright.runtime.admission_trials import IMPERSONATION_REFUSAL

API_VERSION = "admissionregistration.k8s.io/v1"
POLICY_NAME = "gatewright-interventions"
VERBS = tuple(action.lower() for action in get_args(Action))
"""The RBAC verbs on `releases`: the actions in lower case."""

_RELEASE = f"authorizer.group('{GROUP}').resource('releases')"
_VERB_ALLOWED = (
    ".namespace(request.namespace).name(object.spec.release)"
    ".check(object.spec.action.lowerAscii()).allowed()"
)
_ALLOWED = (
    f"{_RELEASE}{_VERB_ALLOWED} || object.spec.action == 'Run' && has(object.spec.procedure) && "
    f"{_RELEASE}.subresource(object.spec.procedure){_VERB_ALLOWED}"
)
_IS_UPDATE = "request.operation != 'CREATE'"


def policy_spec() -> dict[str, Any]:
    """Return the ValidatingAdmissionPolicy's spec."""
    return {
        **match_writes("interventions"),
        "validations": [
            _require_own_name(),
            _require_own_groups(),
            _require_verb(),
            {
                "expression": "request.operation != 'UPDATE' || object.spec == oldObject.spec",
                "message": "an Intervention cannot be changed; make another one",
                "reason": "Invalid",
            },
        ],
    }


def _require_own_name() -> dict[str, str]:
    return {
        "expression": f"{_IS_UPDATE} || object.spec.by == request.userInfo.username",
        "messageExpression": "'spec.by: \"' + object.spec.by + '\" is not who asks (\"' + "
        f"request.userInfo.username + '\"); {IMPERSONATION_REFUSAL}'",
        "reason": "Forbidden",
    }


def _require_own_groups() -> dict[str, str]:
    has_group = "has(request.userInfo.groups) && group in request.userInfo.groups"
    return {
        "expression": f"{_IS_UPDATE} || !has(object.spec.groups) || "
        f"object.spec.groups.all(group, {has_group})",
        "messageExpression": "'spec.groups: ' + request.userInfo.username + "
        "' is not in all of these groups: ' + object.spec.groups.join(', ')",
        "reason": "Forbidden",
    }


_ROLES_REMEDY = (
    "an admin of the namespace binds gatewright-approver, gatewright-releaser, or a Role with it"
)


def _require_verb() -> dict[str, str]:
    return {
        "expression": f"{_IS_UPDATE} || ({_ALLOWED})",
        "messageExpression": "request.userInfo.username + ' may not ' + "
        "object.spec.action.lowerAscii() + ' release ' + object.spec.release + "
        f"': RBAC does not allow that verb on releases; {_ROLES_REMEDY}'",
        "reason": "Forbidden",
    }


def spec_policy(
    plurals: Sequence[str],
    variables: Iterable[tuple[str, str]],
    validations: Iterable[dict[str, str]],
) -> dict[str, Any]:
    """Return a policy on who writes the spec of these kinds.

    Labels, annotations, finalizers, and an apply that changes nothing, are not looked at.
    """
    changed = "request.operation != 'UPDATE' || object.spec != oldObject.spec"
    return {
        **match_writes(*plurals),
        "matchConditions": [{"name": "spec-changed", "expression": changed}],
        "variables": [{"name": name, "expression": text} for name, text in variables],
        "validations": [*validations],
    }


def match_writes(*resources: str, group: str = GROUP) -> dict[str, Any]:
    """Return what a policy looks at: objects of a kind that are created or changed.

    Where it cannot tell, it refuses.
    """
    rule = {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": list(resources),
        "scope": "Namespaced",
    }
    return {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}}


def binding_spec(name: str, policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the binding's spec: everywhere, and each refusal also in the audit log.

    A policy with parameters has each object of that kind in the namespace, one after the other.
    """
    binding: dict[str, Any] = {"policyName": name, "validationActions": ["Deny", "Audit"]}
    if "paramKind" in policy:
        binding["paramRef"] = {"selector": {}, "parameterNotFoundAction": "Allow"}
    return binding
