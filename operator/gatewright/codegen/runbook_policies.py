"""What the author of a Release is asked that names a Runbook: may they do what that does?

Two policies with each Runbook of the namespace as their parameter, of which one is named. They ask
what is asked of whoever writes the same into the Release itself (`authors`, `uses`). A Runbook that
is not there yet asks nothing: so `use` of it, by its name, is asked in any case (`uses`).

Each refuses one version to everybody. By that the operator finds out that the policy is in force
(`runtime.admission_probe`); nothing else is then asked, or others might refuse first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gatewright.api import API_VERSION
from gatewright.codegen import admission, authors, crds, uses
from gatewright.codegen.asking import TAKEN_VERSION
from gatewright.codegen.standing import Root
from gatewright.runtime.admission_trials import RUNBOOK_RIGHTS_VERSION, RUNBOOK_USES_VERSION

RIGHTS_POLICY_NAME = "gatewright-runbook-rights"
USES_POLICY_NAME = "gatewright-runbook-uses"
_VERSION = "dyn(object).spec.?version.orValue('')"
_RUNBOOK = "dyn(object).spec.?runbookRef.name.orValue('')"
_ROOT = Root("variables.runbook", "'Runbook ' + params.metadata.name + ': ' + ")


def rights_policy_spec() -> dict[str, Any]:
    """Return the spec of the policy that asks for what the Runbook writes."""
    questions = (authors.policy_variables(_ROOT), authors.validations())
    return _policy_spec(RUNBOOK_RIGHTS_VERSION, *questions)


def uses_policy_spec() -> dict[str, Any]:
    """Return the spec of the policy that asks for the Connections that the Runbook uses."""
    return _policy_spec(RUNBOOK_USES_VERSION, uses.policy_variables(_ROOT), uses.validations())


def _policy_spec(
    reserved: str,
    variables: Iterable[tuple[str, str]],
    validations: Iterable[dict[str, str]],
) -> dict[str, Any]:
    is_trial = f"{_VERSION} in ['{RUNBOOK_RIGHTS_VERSION}', '{RUNBOOK_USES_VERSION}']"
    root = ("runbook", f"{is_trial} ? dyn({{}}) : dyn(params)")
    refusal = {
        "expression": f"{_VERSION} != '{reserved}'",
        "message": TAKEN_VERSION.format(reserved),
        "reason": "Forbidden",
    }
    policy = admission.spec_policy(
        [crds.RELEASE.plural], [root, *variables], [refusal, *validations]
    )
    named = {
        "name": "names-this-runbook",
        "expression": f"{is_trial} || {_RUNBOOK} == params.metadata.name",
    }
    policy["matchConditions"].append(named)
    return {"paramKind": {"apiVersion": API_VERSION, "kind": crds.RUNBOOK.name}, **policy}
