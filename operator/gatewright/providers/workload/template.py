"""What is wanted of a pod template: single fields, and the arithmetic of them.

    operations, in order   ->  Fields     images and variables by container; or a whole template
    Fields, a template     ->  changed    the template that has them
    Fields, a template     ->  different  where it has something else, in words, each with its place in managed fields
    template, snapshot     ->  restored   three-way: named fields as the snapshot has them, everything else as it is now
    template, snapshot     ->  beside     what others changed, which a three-way restore leaves alone

Where nobody else has changed anything, `restored` is the snapshot's template to the letter: the
very ReplicaSet of before is the one that Kubernetes goes back to. Values of variables are in no
message: what others have set may be a secret.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewright.api import GROUP
from gatewright.ports import Permanent

ANNOTATION_PREFIX = f"{GROUP}/"
"""Prefix of the annotations of a template that are ours."""
RESTART_ANNOTATION = f"{ANNOTATION_PREFIX}restart"
"""Annotation of a template: the key of the operation that wanted its pods to start anew."""
CONFIG_ANNOTATION = f"{ANNOTATION_PREFIX}config"
"""Annotation of a template: stands for what the captured ConfigMaps and Secrets held when it was
deployed."""
CONTAINER_GROUPS = ("initContainers", "containers")
NAMED_LISTS = ("volumes", "imagePullSecrets")
"""Further lists of a pod's spec whose items are told apart by name."""
MAX_VARIABLES = 2_000
"""Variables of all containers that a template may have which is deployed: each pod repeats them."""
MAX_CONTAINERS = 200
"""Containers and init containers that a template may have which is deployed."""
_MAX_IMAGE_LENGTH = 512
"""Characters of an image that a message repeats; the API server lets longer ones pass."""

Template = Mapping[str, Any]
Items = tuple[Mapping[str, Any], ...]
"""A variable as the template has it: one item, or none; the API server lets several of one name
pass."""


@dataclass(slots=True)
class TemplateFields:
    """Fields of a template with the values that they are to have."""

    images: dict[str, str] = field(default_factory=dict)
    """Image by container."""
    env: dict[str, dict[str, Items]] = field(default_factory=dict)
    """Variables by container; no item: it is not to be there."""
    whole: Template | None = None
    """Everything else is to be as it is here."""

    def take(self, images: Mapping[str, str], env: Mapping[str, Mapping[str, str]]) -> None:
        """These images, and these plain values of variables."""
        self.images |= images
        for container, variables in env.items():
            items = {name: ({"name": name, "value": value},) for name, value in variables.items()}
            self.env.setdefault(container, {}).update(items)

    def go_back(self, named: TemplateFields, snapshot: Template) -> None:
        """What is named, as the snapshot has it."""
        before = containers_by_name(snapshot)
        self.images |= {
            name: before[name]["image"]
            for name in named.images
            if before.get(name, {}).get("image")
        }
        for container, variables in named.env.items():
            had = _items_by_variable(before.get(container, {}).get("env"))
            self.env.setdefault(container, {}).update(
                {name: had.get(name, ()) for name in variables}
            )

    def go_back_whole(self, snapshot: Template) -> None:
        """Everything, as the snapshot has it."""
        images = {
            name: item["image"]
            for name, item in containers_by_name(snapshot).items()
            if item.get("image")
        }
        self.images, self.env, self.whole = images, {}, snapshot

    def of_a_pod(self) -> TemplateFields:
        """What a pod shows of it: of a whole template its images, as admission adds much to each
        pod."""
        return self if self.whole is None else TemplateFields(self.images)

    def needed(self) -> set[str]:
        """Containers that must be there."""
        return {
            *self.images,
            *(name for name, variables in self.env.items() if any(variables.values())),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a template has something else than is wanted."""

    words: str
    """What it has instead, to be read after the name of the workload."""
    container: str = ""
    place: tuple[str, ...] = ()
    """Where managed fields tell who set it, below the object; empty: nobody can own what is not
    there."""


def containers_by_name(template: Template) -> dict[str, Mapping[str, Any]]:
    """Containers and init containers by name."""
    return {item["name"]: item for item in _all_containers(template)}


def is_same_image(now: str, wanted: str) -> bool:
    """Whether an image is the wanted one; a policy may have added the digest that the tag stands
    for."""
    return now == wanted or ("@" not in wanted and now.startswith(f"{wanted}@"))


def explain_too_large(template: Template) -> str:
    """Why a template is not deployed, to be read after the name of the workload; empty where it is
    not too large."""
    found = list(_all_containers(template))
    if len(found) > MAX_CONTAINERS:
        return f"has {len(found)} containers, at most {MAX_CONTAINERS}; split the workload"
    variables = sum(len(container.get("env") or ()) for container in found)
    if variables > MAX_VARIABLES:
        remedy = "move them into a ConfigMap or Secret that envFrom names"
        return (
            f"has {variables} environment variables (containers[].env), at most "
            f"{MAX_VARIABLES}; {remedy}"
        )
    return ""


# --------------------------------------------------------------------------------------------------
# To change a template


def change_template(template: Template, wanted: TemplateFields) -> dict[str, Any]:
    """The template with the wanted fields. Raises Permanent where a container is not there."""
    result: dict[str, Any] = copy.deepcopy(
        dict(wanted.whole if wanted.whole is not None else template)
    )
    present = containers_by_name(result)
    for name in sorted(wanted.needed()):
        if name not in present:
            raise Permanent(
                f"there is no container {name} (there are: {', '.join(sorted(present))})"
            )
    for container in _all_containers(result):
        name = container["name"]
        if name in wanted.images and not is_same_image(
            container.get("image", ""), wanted.images[name]
        ):
            container["image"] = wanted.images[name]
        now = _items_by_variable(container.get("env"))
        variables = wanted.env.get(name, {})
        _put_variables(
            container,
            {
                one: items
                for one, items in variables.items()
                if not _is_same(now.get(one, ()), items)
            },
        )
    return result


def restore_template(
    template: Template, snapshot: Template, named: TemplateFields
) -> dict[str, Any]:
    """The template with the named fields and our own annotations as the snapshot has them. Raises
    Permanent."""
    before, wanted = containers_by_name(snapshot), TemplateFields()
    wanted.go_back(named, snapshot)
    result = change_template(template, wanted)
    for container in _all_containers(result):
        name = container["name"]
        if name in wanted.images:
            container["image"] = wanted.images[name]  # to the letter, digest or none
        if name in named.env:
            _restore_variables(container, before.get(name, {}).get("env"), set(named.env[name]))
    _restore_annotations(result, snapshot)
    return result


def put_annotation(template: dict[str, Any], name: str, value: str) -> None:
    """Put an annotation of ours on a template."""
    metadata = template.setdefault("metadata", {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), name: value}


def read_annotation(template: Template, name: str) -> str | None:
    """An annotation of a template."""
    found = (template.get("metadata", {}).get("annotations") or {}).get(name)
    return None if found is None else str(found)


def _put_variables(container: dict[str, Any], variables: Mapping[str, Items]) -> None:
    """Each in the place of what it replaces, else at the end: later variables may refer to earlier
    ones."""
    if not variables:
        return
    left, env = dict(variables), []
    for item in container.get("env") or []:
        if item["name"] not in variables:
            env.append(item)
        else:
            env += map(dict, left.pop(item["name"], ()))
    container["env"] = [*env, *(dict(item) for items in left.values() for item in items)]


def _restore_variables(
    container: dict[str, Any], had: Sequence[Mapping[str, Any]] | None, names: set[str]
) -> None:
    """Variables of these names as they were, in the places where they were; the others stay as they
    are."""
    others = [item for item in container.get("env") or [] if item["name"] not in names]
    if others == [item for item in had or [] if item["name"] not in names]:
        result = [dict(item) for item in had or []]
    else:
        result = _merge_in_order(others, had or [], names)
    container["env"] = result
    if not result and had is None:
        del container["env"]


def _merge_in_order(
    others: Sequence[Any], had: Sequence[Mapping[str, Any]], names: set[str]
) -> list[Any]:
    """The others with those of `had` that have these names, each behind the last of all that stood
    before it."""
    ends = {item["name"]: index + 1 for index, item in enumerate(others)}
    result: list[Any] = []
    place = 0
    for item in had:
        if item["name"] in names:
            result.append(dict(item))
        elif ends.get(item["name"], 0) > place:
            result += others[place : ends[item["name"]]]
            place = ends[item["name"]]
    return [*result, *others[place:]]


def _restore_annotations(result: dict[str, Any], snapshot: Template) -> None:
    had = (snapshot.get("metadata") or {}).get("annotations")
    now = (result.get("metadata") or {}).get("annotations") or {}
    others = {name: text for name, text in now.items() if not name.startswith(ANNOTATION_PREFIX)}
    marks = {name: text for name, text in (had or {}).items() if name.startswith(ANNOTATION_PREFIX)}
    if others or marks or had is not None:
        result.setdefault("metadata", {})["annotations"] = others | marks
    elif "metadata" in result:
        result["metadata"].pop("annotations", None)


# --------------------------------------------------------------------------------------------------
# To compare templates


def list_differences(template: Template, wanted: TemplateFields) -> list[Difference]:
    """Where a template has something else than is wanted; the order is always the same."""
    present = containers_by_name(template)
    missing = sorted(wanted.needed() - set(present))
    if missing:
        return [Difference(f"has no container {name}") for name in missing]
    places = _places_by_container(template)
    found = [
        Difference(
            f"runs {_show_image(present[name])} instead of {image}",
            name,
            (*places[name], "f:image"),
        )
        for name, image in sorted(wanted.images.items())
        if not is_same_image(present[name].get("image", ""), image)
    ]
    for name, variables in sorted(wanted.env.items()):
        now = _items_by_variable(present.get(name, {}).get("env"))
        for variable, items in sorted(variables.items()):
            words, part = _describe_variable(variable, now.get(variable, ()), items)
            if words:
                place = (*places.get(name, ()), "f:env", f'k:{{"name":"{variable}"}}', *part)
                found.append(Difference(words, name, place if now.get(variable) else ()))
    if wanted.whole is not None and not found:
        other = [
            one
            for one in name_differences(template, change_template(template, wanted))
            if RESTART_ANNOTATION not in one
        ]
        found = [Difference(f"has another {path} than its snapshot") for path in other]
    return found


def list_foreign_changes(
    template: Template, snapshot: Template, named: TemplateFields
) -> list[str]:
    """Where others have changed a template since its snapshot was taken: places such as
    `containers[app].resources`."""
    try:
        kept = restore_template(template, snapshot, named)
    except Permanent:
        return []
    return name_differences(kept, snapshot)


def name_differences(now: Template, before: Template) -> list[str]:
    """Where two templates differ, as people name it."""
    found = list(_changed_keys("", now, before, skip=("metadata", "spec")))
    meta, was = now.get("metadata") or {}, before.get("metadata") or {}
    found += _changed_keys("metadata.", meta, was, skip=("annotations", "labels"))
    for key in ("annotations", "labels"):
        found += _changed_by_key(f"metadata.{key}", meta.get(key) or {}, was.get(key) or {})
    spec, had = now.get("spec") or {}, before.get("spec") or {}
    found += _changed_keys("", spec, had, skip=(*CONTAINER_GROUPS, *NAMED_LISTS))
    for key in NAMED_LISTS:
        found += _changed_by_key(key, _items_by_name(spec.get(key)), _items_by_name(had.get(key)))
    for key in CONTAINER_GROUPS:
        old, new = _items_by_name(had.get(key)), _items_by_name(spec.get(key))
        found += [f"{key}[{name}]" for name in sorted(old.keys() ^ new.keys())]
        for name in sorted(old.keys() & new.keys()):
            found += _changed_container_keys(f"{key}[{name}]", new[name], old[name])
    return found or (["the order of a list"] if now != before else [])


def _changed_container_keys(
    path: str, now: Mapping[str, Any], before: Mapping[str, Any]
) -> Iterator[str]:
    yield from _changed_keys(f"{path}.", now, before, skip=("env",))
    yield from _changed_by_key(
        f"{path}.env", _items_by_name(now.get("env")), _items_by_name(before.get("env"))
    )


def _changed_keys(
    prefix: str, now: Mapping[str, Any], before: Mapping[str, Any], skip: Iterable[str]
) -> Iterator[str]:
    for key in sorted((now.keys() | before.keys()) - set(skip)):
        if now.get(key) != before.get(key):
            yield f"{prefix}{key}"


def _changed_by_key(path: str, now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(now.keys() | before.keys()):
        if now.get(key) != before.get(key):
            yield f"{path}[{key}]"


def _items_by_name(items: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    return {item["name"]: item for item in items or []}


def _describe_variable(name: str, now: Items, wanted: Items) -> tuple[str, tuple[str, ...]]:
    """How a variable differs, in words, and the part of it that somebody set; no words where it
    does not."""
    if _is_same(now, wanted):
        return "", ()
    if not now:
        return f"has no variable {name}", ()
    if not wanted:
        return f"has the variable {name}, which was not there before", ()
    if "valueFrom" in now[-1]:
        return (
            (
                f"takes the variable {name} from {_describe_source(now[-1])} instead of "
                f"{_describe_source(wanted[-1])}"
            ),
            ("f:valueFrom",),
        )
    if "valueFrom" in wanted[-1]:
        return (
            (
                f"has a plain value of the variable {name} instead of one from "
                f"{_describe_source(wanted[-1])}"
            ),
            ("f:value",),
        )
    return f"has another value of the variable {name}", ("f:value",)


def _describe_source(item: Mapping[str, Any]) -> str:
    source = item.get("valueFrom")
    if not source:
        return "a plain value"
    kind, ref = next(iter(source.items()))
    words = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}.get(
        kind, kind.removesuffix("Ref")
    )
    return f"{words} {ref['name']}[{ref['key']}]" if "name" in ref and "key" in ref else words


def _items_by_variable(env: Sequence[Mapping[str, Any]] | None) -> dict[str, Items]:
    """The items of each name: there may be thousands of names, and thousands of one."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for item in env or ():
        found.setdefault(item["name"], []).append(item)
    return {name: tuple(items) for name, items in found.items()}


def _is_same(now: Items, wanted: Items) -> bool:
    """The last item of a name counts; the API server leaves out an empty value."""
    if not now or not wanted:
        return not now and not wanted
    one, other = now[-1], wanted[-1]
    return one.get("valueFrom") == other.get("valueFrom") and (one.get("value") or "") == (
        other.get("value") or ""
    )


def _places_by_container(template: Template) -> dict[str, tuple[str, ...]]:
    """Where managed fields have each container."""
    return {
        item["name"]: (
            "f:spec",
            "f:template",
            "f:spec",
            f"f:{group}",
            f'k:{{"name":"{item["name"]}"}}',
        )
        for group in reversed(CONTAINER_GROUPS)
        for item in template["spec"].get(group) or []
    }


def _show_image(container: Mapping[str, Any]) -> str:
    image = str(container.get("image"))
    return image if len(image) <= _MAX_IMAGE_LENGTH else f"{image[:_MAX_IMAGE_LENGTH]}…"


def _all_containers(template: Template) -> Iterator[Any]:
    for group in CONTAINER_GROUPS:
        yield from template["spec"].get(group) or []
