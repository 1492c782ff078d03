"""Nobody does by a Release what they may not do: the ValidatingAdmissionPolicy that asks RBAC about its author.

The operator makes Jobs and patches workloads with rights of its own. So whoever creates a Release, or changes its spec,
must be allowed the same by themselves. CEL has no loops that remember, and one expression can pay for two questions to
the authorizer at most (350,000 of 1,000,000 each; 10,000,000 for all). So what is needed by name becomes a list of
lines, and each validation asks for one of them:

    job, workloadConfig ...   what stands in the Release: its path (`at`) and its configuration (`of`), in lists of lists
    needs0, needs1 ...        the lines of one kind of right
    wanted0                   all lines:                             patch,apps,deployments,web, spec.targets[web] ...
    asked0                    the right that the first one needs:    patch,apps,deployments,web,
    wanted1, asked1 ...       the lines that are left without it, and what the first of those needs

After `NAMED` of them, what is still wanted is asked for without names. A name that is known only in a run (`$(...)`) is
asked for without a name at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gatewright.api.jobs import Job
from gatewright.api.release import FlagsStep
from gatewright.codegen import admission, crds, schema
from gatewright.ports import Right
from gatewright.providers import registry

NAME = "gatewright-releases"
NAMED = 10
"""So many rights are asked for by name: as many as there may be targets. With those without, 14 questions of 350,000 at most."""
LISTED = 20
"""With more lines than this a message names only the first path: it may be 5120 bytes long."""
CUT = 2500
"""Characters of paths in the message about Jobs."""

_JOB = Right("create", "batch", "jobs")
_ACCOUNT = Right(
    "impersonate",
    "",
    "serviceaccounts",
    ("serviceAccountName", "template.spec.serviceAccountName", "template.spec.serviceAccount"),
    spared=("default",),
)
_FLAGS = Right("patch", "", "configmaps", ("configMap",))


def rights() -> list[tuple[str, Right]]:
    """Every right, with the model that needs it; what there are few of comes first, so that it is asked for by name."""
    targets = [(target.config.__name__, right) for target in registry.TARGETS.values() for right in target.author]
    return [(Job.__name__, _JOB), *targets, (FlagsStep.__name__, _FLAGS), (Job.__name__, _ACCOUNT)]


def policy() -> dict[str, Any]:
    """The ValidatingAdmissionPolicy's spec."""
    nodes = dict(schema.walk(crds.schemas(crds.RELEASE)[0], "spec"))
    return {
        **admission.written(crds.RELEASE.plural),
        "matchConditions": [
            {"name": "spec-changed", "expression": "request.operation != 'UPDATE' || object.spec != oldObject.spec"}
        ],
        "variables": [{"name": name, "expression": text} for name, text in _variables()],
        "validations": [
            *(_nameless(model, right, nodes) for model, right in rights() if not right.fields),
            *(_by_name(number) for number in range(NAMED)),
            *(_left_over(right) for right in _kinds()),
        ],
    }


# ---------------------------------------------------------------------------------------------------------------
# What is needed


def _variables() -> Iterator[tuple[str, str]]:
    nodes = dict(schema.walk(crds.schemas(crds.RELEASE)[0], "spec"))
    for model in dict(rights()):
        paths = [path for path, node in nodes.items() if node.get(schema.MODEL) == model]
        yield _variable(model), " + ".join(_standing(path, nodes) for path in paths)
    needs = [*(_lines(model, right, nodes) for model, right in rights() if right.fields), _insisting()]
    yield from ((f"needs{number}", text) for number, text in enumerate(needs))
    together = " + ".join(f"variables.needs{number}" for number in range(len(needs)))
    yield "wanted0", f"({together}).join('\\n').split('\\n').filter(line, line != '')"
    for number in range(NAMED):
        wanted, asked = f"variables.wanted{number}", f"variables.asked{number}"
        yield f"asked{number}", f"{wanted}.size() == 0 ? '' : {wanted}[0].substring(0, {wanted}[0].indexOf(' '))"
        yield f"wanted{number + 1}", f"{wanted}.filter(line, !line.startsWith({asked}))"


def _variable(model: str) -> str:
    return model[0].lower() + model[1:]


def _standing(path: str, nodes: Mapping[str, schema.Schema]) -> str:
    """A list of lists of `{at, of}`: what of a model stands at a path. Raises schema.Unsupported."""
    *lists, leaf = path.split("[].")
    if len(lists) not in (1, 2):
        raise schema.Unsupported(f"{path}: the author of a Release is asked for what stands in one list or two")
    holder = "object" if len(lists) == 1 else "outer"
    found = (
        f"{holder}.?{lists[-1]}.orValue([]).filter(item, item.?{leaf}.hasValue())"
        f".map(item, {{'at': dyn({_at(lists, leaf, nodes)}), 'of': dyn(item.{leaf})}})"
    )
    return f"[{found}]" if holder == "object" else f"object.?{lists[0]}.orValue([]).map(outer, {found})"


def _at(lists: Sequence[str], leaf: str, nodes: Mapping[str, schema.Schema]) -> str:
    """The path as people read it, with the names of what stands in lists."""
    parts, so_far = [], ""
    for name, holder in zip(lists, ("outer", "item")[-len(lists) :], strict=True):
        so_far += f"{name}[]"
        named = "name" in nodes[so_far]["properties"]
        parts.append(f"{name}[' + {holder}.name + ']" if named else f"{name}[]")
        so_far += "."
    return f"'{'.'.join([*parts, leaf])}'"


def _lines(model: str, right: Right, nodes: Mapping[str, schema.Schema]) -> str:
    """One line for each name that a right is needed for, those of a list together in one text."""
    inside = {field.rpartition("[].")[0] for field in right.fields}
    if len(inside) != 1:
        raise schema.Unsupported(f"{model}: {right.fields} do not stand side by side; make them two rights")
    (holder,) = inside
    part = "part" if holder else "one.of"
    values = ", ".join(f"{part}.?{field.rpartition('[].')[2]}.orValue('')" for field in right.fields)
    names = f"one.of.?{holder}.orValue([]).map(part, {values})" if holder else f"[{values}]"
    spared = ", ".join(f"'{name}'" for name in ("", *right.spared))
    at = f"one.at + '.{holder}'" if holder else "one.at"
    line = f"'{_head(right)}' + (name.matches('^[a-z0-9.-]+$') ? name : '') + ', ' + {at}"
    group = f"group.filter(one, {_only(model, *right.only, nodes)})" if right.only else "group"
    each = f"{names}.filter(name, type(name) == string && !(name in [{spared}])).map(name, {line}).join('\\n')"
    return f"variables.{_variable(model)}.map(group, {group}.map(one, {each}).join('\\n'))"


def _only(model: str, field: str, value: str, nodes: Mapping[str, schema.Schema]) -> str:
    """That a field has a value; one that is left out has its default, whether the API server has put that in or not."""
    standing = next(node for node in nodes.values() if node.get(schema.MODEL) == model)
    return f"one.of.?{field}.orValue('{standing['properties'][field].get('default', '')}') == '{value}'"


def _insisting() -> str:
    """Templates that want a token of the ServiceAccount `default` also where that one gives none by itself."""
    pod = "one.of.?template.spec"
    names = f"[{pod}.serviceAccountName.orValue(''), {pod}.serviceAccount.orValue('')]"
    volumes, sources = f"{pod}.volumes.orValue(null)", "volume.?projected.sources.orValue(null)"
    projected = (
        f"{volumes} != null && {volumes}.exists(volume, {sources} != null && "
        f"{sources}.exists(source, source.?serviceAccountToken.hasValue()))"
    )
    when = (
        f"{pod}.hasValue() && ({pod}.automountServiceAccountToken.orValue(false) == true || ({projected})) && "
        f"!{names}.exists(name, type(name) == string && !(name in ['', 'default']))"
    )
    line = f"'{_head(_ACCOUNT)}default, ' + one.at"
    return f"variables.{_variable(Job.__name__)}.map(group, group.filter(one, {when}).map(one, {line}).join('\\n'))"


# ---------------------------------------------------------------------------------------------------------------
# What is asked


def _head(right: Right) -> str:
    return f"{right.verb},{right.group},{right.resource},"


def _allowed(right: Right) -> str:
    return (
        f"authorizer.group('{right.group}').resource('{right.resource}').namespace(request.namespace)"
        f".check('{right.verb}').allowed()"
    )


def _said(right: Right) -> str:
    return f"{right.verb} {right.resource}{'.' if right.group else ''}{right.group}"


def _nameless(model: str, right: Right, nodes: Mapping[str, schema.Schema]) -> dict[str, str]:
    """What has no name that is known before: it is made later, or by others."""
    found = f"variables.{_variable(model)}"
    if right.only:
        found = f"{found}.map(group, group.filter(one, {_only(model, *right.only, nodes)}))"
    paths = f"{found}.filter(group, group.size() > 0).map(group, group.map(one, one.at).join(', ')).join(', ')"
    cut = f"({paths}.size() > {CUT} ? {paths}.substring(0, {CUT}) + ' ...' : {paths})"
    return _validation(f"{found}.all(group, group.size() == 0)", _allowed(right), cut, f"'{_said(right)}'")


def _by_name(number: int) -> dict[str, str]:
    wanted, asked = f"variables.wanted{number}", f"variables.asked{number}"
    verb, group, resource, name = (f"{asked}.split(',')[{place}]" for place in range(4))
    allowed = f"authorizer.group({group}).resource({resource}).namespace(request.namespace).name({name}).check({verb}).allowed()"
    lines = f"({wanted}.size() > {LISTED} ? [{wanted}[0]] : {wanted}.filter(line, line.startsWith({asked})))"
    others = f"{wanted}.size() - variables.wanted{number + 1}.size() - 1"
    paths = f"{lines}.map(line, line.substring(line.indexOf(' ') + 1)).join(', ')"
    more = f"({wanted}.size() > {LISTED} && {others} > 0 ? ' and ' + string({others}) + ' more' : '')"
    what = (
        f"{verb} + ' ' + {resource} + ({group} == '' ? '' : '.' + {group}) + "
        f"({name} == '' ? ' of any name' : '/' + {name})"
    )
    return _validation(f"{asked} == ''", allowed, f"{paths} + {more}", what)


def _kinds() -> list[Right]:
    """Rights that need a name, each once."""
    return list({_head(right): right for _, right in rights() if right.fields}.values())


def _left_over(right: Right) -> dict[str, str]:
    """Names beyond those that are asked for one by one."""
    left, mine = f"variables.wanted{NAMED}", f"line, line.startsWith('{_head(right)}')"
    path = f"{left}.filter({mine})[0].substring({left}.filter({mine})[0].indexOf(' ') + 1)"
    paths = f"{path} + ', after {NAMED} other names'"
    return _validation(f"!{left}.exists({mine})", _allowed(right), paths, f"'{_said(right)} of any name'")


def _validation(unless: str, allowed: str, paths: str, what: str) -> dict[str, str]:
    return {
        "expression": f"{unless} || {allowed}",
        "messageExpression": f"{unless} ? '' : {paths} + ': ' + request.userInfo.username + ' may not ' + {what} + "
        "' in namespace ' + request.namespace + '; a Release does nothing that its author may not do: "
        "RBAC must allow that verb, or somebody who has it applies the Release'",
        "message": "a Release does nothing that its author may not do, and RBAC does not allow it all",
        "reason": "Forbidden",
    }
