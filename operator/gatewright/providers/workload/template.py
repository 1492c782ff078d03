"""What is wanted of a pod template: single fields, and the arithmetic of them.

    operations, in order    ->  Fields      images and variables by container; or a whole template
    Fields, a template      ->  changed     the template that has them
    Fields, a template      ->  different   where it has something else: words, and the place in
                                            managed fields
    template, snapshot      ->  restored    three-way: named fields as the snapshot has them,
                                            everything else as it is now
    template, snapshot      ->  beside      what others changed, which a three-way restore leaves
                                            alone

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
from gatewright.providers.workload import variables
from gatewright.providers.workload.variables import Items

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
        """Add these images, and these plain values of variables."""
        self.images |= images
        for container, values in env.items():
            items = {name: ({"name": name, "value": value},) for name, value in values.items()}
            self.env.setdefault(container, {}).update(items)

    def go_back(self, named: TemplateFields, snapshot: Template) -> None:
        """Add what is named, as the snapshot has it."""
        before = containers_by_name(snapshot)
        for name in named.images:
            image = before.get(name, {}).get("image")
            if image:
                self.images[name] = image

        for container, names in named.env.items():
            had = variables.items_by_name(before.get(container, {}).get("env"))
            self.env.setdefault(container, {}).update({name: had.get(name, ()) for name in names})

    def go_back_whole(self, snapshot: Template) -> None:
        """Want everything, as the snapshot has it."""
        images = {
            name: container["image"]
            for name, container in containers_by_name(snapshot).items()
            if container.get("image")
        }
        self.images, self.env, self.whole = images, {}, snapshot

    def of_a_pod(self) -> TemplateFields:
        """Return what a pod shows of it: of a whole template its images, as admission adds much to
        each pod."""
        return self if self.whole is None else TemplateFields(self.images)

    def needed(self) -> set[str]:
        """Return the containers that must be there."""
        # A variable that is not to be there needs no container.
        with_variables = {name for name, wanted in self.env.items() if any(wanted.values())}
        return {*self.images, *with_variables}


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
    """Return containers and init containers by name."""
    return {container["name"]: container for container in _all_containers(template)}


def is_same_image(now: str, wanted: str) -> bool:
    """Return whether an image is the wanted one; a policy may have added the digest that the tag
    stands for."""
    return now == wanted or ("@" not in wanted and now.startswith(f"{wanted}@"))


def explain_too_large(template: Template) -> str:
    """Say why a template is not deployed, to be read after the name of the workload; empty where it
    is not too large."""
    containers = list(_all_containers(template))
    if len(containers) > MAX_CONTAINERS:
        return f"has {len(containers)} containers, at most {MAX_CONTAINERS}; split the workload"

    count = sum(len(container.get("env") or ()) for container in containers)
    if count > MAX_VARIABLES:
        limit = f"{count} environment variables (containers[].env), at most {MAX_VARIABLES}"
        return f"has {limit}; move them into a ConfigMap or Secret that envFrom names"

    return ""


# --------------------------------------------------------------------------------------------------
# To change a template


def change_template(template: Template, wanted: TemplateFields) -> dict[str, Any]:
    """Return the template with the wanted fields.

    Raises Permanent where a container is not there.
    """
    base = wanted.whole if wanted.whole is not None else template
    result: dict[str, Any] = copy.deepcopy(dict(base))

    present = containers_by_name(result)
    for name in sorted(wanted.needed()):
        if name not in present:
            names = ", ".join(sorted(present))
            raise Permanent(f"there is no container {name} (there are: {names})")

    for container in _all_containers(result):
        name = container["name"]
        image = wanted.images.get(name)
        # A digest that a policy has added stays.
        if image is not None and not is_same_image(container.get("image", ""), image):
            container["image"] = image

        now = variables.items_by_name(container.get("env"))
        different = {
            variable: items
            for variable, items in wanted.env.get(name, {}).items()
            if not variables.is_same(now.get(variable, ()), items)
        }
        variables.put(container, different)

    return result


def restore_template(
    template: Template, snapshot: Template, named: TemplateFields
) -> dict[str, Any]:
    """Return the template with the named fields and our own annotations as the snapshot has them.

    Raises Permanent.
    """
    before, fields = containers_by_name(snapshot), TemplateFields()
    fields.go_back(named, snapshot)

    result = change_template(template, fields)
    for container in _all_containers(result):
        name = container["name"]
        if name in fields.images:
            # To the letter, digest or none.
            container["image"] = fields.images[name]
        if name in named.env:
            had = before.get(name, {}).get("env")
            variables.restore(container, had, set(named.env[name]))

    _restore_annotations(result, snapshot)
    return result


def put_annotation(template: dict[str, Any], name: str, value: str) -> None:
    """Put an annotation of ours on a template."""
    metadata = template.setdefault("metadata", {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), name: value}


def read_annotation(template: Template, name: str) -> str | None:
    """Return an annotation of a template."""
    annotation = (template.get("metadata", {}).get("annotations") or {}).get(name)
    return None if annotation is None else str(annotation)


def _restore_annotations(result: dict[str, Any], snapshot: Template) -> None:
    before = (snapshot.get("metadata") or {}).get("annotations")
    now = (result.get("metadata") or {}).get("annotations") or {}

    def is_own(name: str) -> bool:
        return name.startswith(ANNOTATION_PREFIX)

    others = {name: value for name, value in now.items() if not is_own(name)}
    own = {name: value for name, value in (before or {}).items() if is_own(name)}

    if others or own or before is not None:
        result.setdefault("metadata", {})["annotations"] = others | own
    elif "metadata" in result:
        # To the letter: an empty object is not the same as none.
        result["metadata"].pop("annotations", None)


# --------------------------------------------------------------------------------------------------
# To compare templates


def list_differences(template: Template, wanted: TemplateFields) -> list[Difference]:
    """List where a template has something else than is wanted; the order is always the same."""
    present = containers_by_name(template)
    missing = sorted(wanted.needed() - set(present))
    if missing:
        return [Difference(f"has no container {name}") for name in missing]

    differences = [
        *_image_differences(template, wanted),
        *_variable_differences(template, wanted),
    ]
    # What is said of images and variables says enough.
    if wanted.whole is None or differences:
        return differences

    changed_places = name_differences(template, change_template(template, wanted))
    return [
        Difference(f"has another {place} than its snapshot")
        for place in changed_places
        if RESTART_ANNOTATION not in place
    ]


def _image_differences(template: Template, wanted: TemplateFields) -> Iterator[Difference]:
    present, places = containers_by_name(template), _places_by_container(template)
    for name, image in sorted(wanted.images.items()):
        if not is_same_image(present[name].get("image", ""), image):
            words = f"runs {_show_image(present[name])} instead of {image}"
            yield Difference(words, name, (*places[name], "f:image"))


def _variable_differences(template: Template, wanted: TemplateFields) -> Iterator[Difference]:
    present, places = containers_by_name(template), _places_by_container(template)
    for name, wanted_variables in sorted(wanted.env.items()):
        now = variables.items_by_name(present.get(name, {}).get("env"))
        for variable, items in sorted(wanted_variables.items()):
            words, part = variables.describe_difference(variable, now.get(variable, ()), items)
            if not words:
                continue

            place = (*places.get(name, ()), "f:env", f'k:{{"name":"{variable}"}}', *part)
            # Nobody can own what is not there.
            yield Difference(words, name, place if now.get(variable) else ())


def list_foreign_changes(
    template: Template, snapshot: Template, named: TemplateFields
) -> list[str]:
    """List where others have changed a template since its snapshot was taken: places such as
    `containers[app].resources`."""
    try:
        restored = restore_template(template, snapshot, named)
    except Permanent:
        return []
    return name_differences(restored, snapshot)


def name_differences(now: Template, before: Template) -> list[str]:
    """List where two templates differ, as people name it."""
    places = [
        *_changed_keys("", now, before, skip=("metadata", "spec")),
        *_changed_metadata(now.get("metadata") or {}, before.get("metadata") or {}),
        *_changed_spec(now.get("spec") or {}, before.get("spec") or {}),
    ]
    if not places and now != before:
        return ["the order of a list"]
    return places


def _changed_metadata(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    yield from _changed_keys("metadata.", now, before, skip=("annotations", "labels"))
    for key in ("annotations", "labels"):
        yield from _changed_by_key(f"metadata.{key}", now.get(key) or {}, before.get(key) or {})


def _changed_spec(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    yield from _changed_keys("", now, before, skip=(*CONTAINER_GROUPS, *NAMED_LISTS))

    for key in NAMED_LISTS:
        yield from _changed_by_key(key, _by_name(now.get(key)), _by_name(before.get(key)))

    for key in CONTAINER_GROUPS:
        old, new = _by_name(before.get(key)), _by_name(now.get(key))
        for name in sorted(old.keys() ^ new.keys()):
            yield f"{key}[{name}]"
        for name in sorted(old.keys() & new.keys()):
            yield from _changed_container_keys(f"{key}[{name}]", new[name], old[name])


def _changed_container_keys(
    path: str, now: Mapping[str, Any], before: Mapping[str, Any]
) -> Iterator[str]:
    yield from _changed_keys(f"{path}.", now, before, skip=("env",))

    new_env, old_env = _by_name(now.get("env")), _by_name(before.get("env"))
    yield from _changed_by_key(f"{path}.env", new_env, old_env)


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


def _by_name(entries: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    return {entry["name"]: entry for entry in entries or []}


def _places_by_container(template: Template) -> dict[str, tuple[str, ...]]:
    """Return where managed fields have each container."""
    places: dict[str, tuple[str, ...]] = {}
    for group in reversed(CONTAINER_GROUPS):
        for container in template["spec"].get(group) or []:
            key = f'k:{{"name":"{container["name"]}"}}'
            places[container["name"]] = ("f:spec", "f:template", "f:spec", f"f:{group}", key)
    return places


def _show_image(container: Mapping[str, Any]) -> str:
    image = str(container.get("image"))
    return image if len(image) <= _MAX_IMAGE_LENGTH else f"{image[:_MAX_IMAGE_LENGTH]}…"


def _all_containers(template: Template) -> Iterator[Any]:
    for group in CONTAINER_GROUPS:
        yield from template["spec"].get(group) or []
