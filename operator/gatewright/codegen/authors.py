"""Nobody does by a Release what they may not do: the ValidatingAdmissionPolicy that asks RBAC about
its author.

The operator makes Jobs and patches workloads with rights of its own. So whoever creates a Release,
or changes its spec, must be allowed the same by themselves. What stands in the Release becomes
variables of the policy, one for each model that needs a right: its path (`at`) and its
configuration (`of`), in lists of lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatewright.api.jobs import Job
from gatewright.codegen import admission, crds, schema
from gatewright.codegen.asking import Question, cel_is_allowed, describe_right, line_head
from gatewright.codegen.standing import (
    OBJECT,
    Root,
    cel_lines,
    cel_only,
    cel_standing,
    variable_name,
)
from gatewright.core.permissions import AuthorPermission
from gatewright.core.steps import STEPS
from gatewright.core.steps.job import USE_ACCOUNT
from gatewright.providers import registry

POLICY_NAME = "gatewright-releases"
MAX_NAMES_ASKED = 10
"""So many rights are asked for by name: as many as there may be targets. Each costs a question, and
so does each right without a name. `tests/unit/test_authors.py` says how many fit, and what to do
when a new right no longer does."""
MAX_QUESTIONS = 20
"""Questions to the authorizer that the policy may hold, as many as one request may make it ask. Of
the 10,000,000 that all expressions together may cost each takes 350,000. The variables of the
longest Release took between 1,950,000 and 2,300,000 on an API server 1.36."""
MAX_MESSAGE_LENGTH = 2500
"""Characters of paths in the message about Jobs."""

_QUESTION = Question(
    MAX_NAMES_ASKED,
    (
        "a Release does nothing that its author, or that of its Runbook, may not do: RBAC must "
        "allow that verb, or somebody who has it applies it"
    ),
    "a Release does nothing that its author, or that of its Runbook, may not do, and RBAC does "
    "not allow it all",
)


def author_rights() -> list[tuple[str, AuthorPermission]]:
    """Every right, with the model that needs it; what there are few of comes first, so that it is
    asked for by name."""
    targets = [
        (target.config.__name__, right)
        for target in registry.TARGETS.values()
        for right in target.author
    ]
    few = few_rights()
    targets.sort(key=lambda one: one[1] not in few)
    steps = [
        (model.__name__, right) for kind in STEPS.values() for model, right in kind.permissions
    ]
    nameless = [one for one in steps if not one[1].fields]
    # Of flags there are fewer than of Jobs with a ServiceAccount of their own.
    named = [one for one in reversed(steps) if one[1].fields]
    return [*nameless, *targets, *named]


def few_rights() -> list[AuthorPermission]:
    """The rights of which a target needs one, by one name: there are as few names as targets."""
    few: list[AuthorPermission] = []
    for target in registry.TARGETS.values():
        by_name = [right for right in target.author if _has_one_name(right)]
        # Those of which each is for another kind of the same target exclude each other.
        kinds = [right.only for right in by_name if right.only is not None]
        exclusive = len(set(kinds)) == len(by_name) and len({field for field, _ in kinds}) == 1
        few += by_name if exclusive else by_name[:1]
    return few


def _has_one_name(right: AuthorPermission) -> bool:
    return len(right.fields) == 1 and "[]" not in right.fields[0]


def require_own_models(nodes: Mapping[str, schema.Schema]) -> None:
    """Refuse a right of a step kind for a model of another kind: its own author would not be asked.

    Raises schema.Unsupported.
    """
    for name, kind in STEPS.items():
        own = nodes[f"spec.stages[].steps[].{name}"].get(schema.CLASS_NOTE)
        for model, right in kind.permissions:
            if model is not own:
                raise schema.Unsupported(
                    f"step kind {name}: the right to {right.verb} {right.resource} is asked for "
                    f"where {model.__name__} stands, and its own model is "
                    f"{own.__name__ if own else 'none'}"
                )


def policy_spec() -> dict[str, Any]:
    """The ValidatingAdmissionPolicy's spec. Raises schema.Unsupported."""
    plurals = (crds.RELEASE.plural, crds.RUNBOOK.plural)
    return admission.spec_policy(plurals, policy_variables(), validations())


def validations() -> Iterator[dict[str, str]]:
    """Yield what is asked. Raises schema.Unsupported."""
    nodes = crds.nodes_of_body()
    require_own_models(nodes)
    for model, right in author_rights():
        if not right.fields:
            yield _validate_nameless(model, right, nodes)

    named = (right for _, right in author_rights() if right.fields)
    yield from _QUESTION.validations(named, few_rights())


# --------------------------------------------------------------------------------------------------
# What is needed


def policy_variables(root: Root = OBJECT) -> Iterator[tuple[str, str]]:
    """Yield what is needed by what stands in an object."""
    nodes = crds.nodes_of_body()
    for model in dict(author_rights()):
        paths = [path for path, node in nodes.items() if node.get(schema.MODEL_NOTE) == model]
        yield variable_name(model), " + ".join(cel_standing(path, nodes, root) for path in paths)
    needs = [
        *(cel_lines(model, right, nodes) for model, right in author_rights() if right.fields),
        _cel_wants_token(),
    ]
    yield from _QUESTION.variables(needs)


def _cel_wants_token() -> str:
    """Templates that want a token of the ServiceAccount `default` also where that one gives none by
    itself."""
    pod = "one.of.?template.spec"
    names = f"[{pod}.serviceAccountName.orValue(''), {pod}.serviceAccount.orValue('')]"
    volumes, sources = f"{pod}.volumes.orValue(null)", "volume.?projected.sources.orValue(null)"
    projected = (
        f"{volumes} != null && {volumes}.exists(volume, {sources} != null && "
        f"{sources}.exists(source, source.?serviceAccountToken.hasValue()))"
    )
    when = (
        f"{pod}.hasValue() && ({pod}.automountServiceAccountToken.orValue(false) == true "
        f"|| ({projected})) && "
        f"!{names}.exists(name, type(name) == string && !(name in ['', 'default']))"
    )
    default = f"'{line_head(USE_ACCOUNT)}default, ' + one.at"
    return (
        f"variables.{variable_name(Job.__name__)}.map(group, group.filter(one, "
        f"{when}).map(one, {default}).join('\\n'))"
    )


# --------------------------------------------------------------------------------------------------
# What is asked


def _validate_nameless(
    model: str, right: AuthorPermission, nodes: Mapping[str, schema.Schema]
) -> dict[str, str]:
    """What has no name that is known before: it is made later, or by others."""
    found = f"variables.{variable_name(model)}"
    if right.only:
        found = f"{found}.map(group, group.filter(one, {cel_only(model, *right.only, nodes)}))"
    paths = (
        f"{found}.filter(group, group.size() > 0).map(group, group.map(one, one.at).join(', "
        "')).join(', ')"
    )
    cut = (
        f"({paths}.size() > {MAX_MESSAGE_LENGTH} ? {paths}.substring(0, {MAX_MESSAGE_LENGTH}) "
        f"+ ' ...' : {paths})"
    )
    return _QUESTION.validation(
        f"{found}.all(group, group.size() == 0)",
        cel_is_allowed(right),
        cut,
        f"'{describe_right(right)}'",
    )
