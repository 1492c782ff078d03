"""What is wrong with an object before anybody applies it: the operator's own messages.

The models judge what the API server refuses by the CRD's rules (`api.rules` writes both), and
`check_spec` what the operator answers with `InvalidSpec`. What only the cluster knows is not
judged: whether a Connection or a workload is there, and whether the author may name it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from gatewright.api import API_VERSION
from gatewright.api.base import OBJECT_NAME_PATTERN
from gatewright.api.freeze import FreezeSpec
from gatewright.api.intervention import InterventionSpec
from gatewright.core.report import size
from gatewright.core.spec.runbooks import runbook_of
from gatewright.plugin.files import Document
from gatewright.providers.runbooks import (
    check_release,
    problems_without_runbook,
    runbook_problems,
)
from gatewright.providers.validate import (
    check_spec,
    connection_problems,
    iter_explained,
    use_default_settings,
)

MOST_PROBLEMS = 100
"""Problems of one object that are told."""
LONGEST_RELEASE_NAME = 63
LONGEST_NAME = 253
_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


def find_problems(
    document: Document, runbooks: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Iterator[str]:
    """Yield what is wrong with a document, each with its path; nothing for kinds of others.

    `runbooks`: specs of the Runbooks that are at hand. A Release that names another one is judged
    without it.
    """
    yield from document.problems
    if not document.is_ours:
        return

    problems = itertools.chain(_problems_around(document), _problems_of_spec(document, runbooks))
    yield from itertools.islice(problems, MOST_PROBLEMS)
    if next(problems, None) is not None:
        yield f"spec: has more than {MOST_PROBLEMS} problems; mend these first"


def names_without_runbook(
    documents: Iterable[Document], runbooks: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return which Releases name a Runbook that is not at hand, each as the beginning of a
    sentence."""
    there = f" (there: {', '.join(sorted(runbooks))})" if runbooks else ""
    named = [
        (document.name, runbook_of(document.content.get("spec")))
        for document in documents
        if document.is_ours and document.kind == "Release"
    ]
    return [
        f"Release/{name}: Runbook {runbook} is not in these files{there}"
        for name, runbook in named
        if runbook and runbook not in runbooks
    ]


def _problems_around(document: Document) -> Iterator[str]:
    """Yield what is wrong beside the spec."""
    content, kind = document.content, document.kind
    version = content.get("apiVersion")
    if version != API_VERSION:
        yield f'apiVersion: "{version}" is not known; use {API_VERSION}'
    if kind not in _SPEC_PROBLEMS:
        yield f'kind: "{kind}" is not known (known: {", ".join(sorted(_SPEC_PROBLEMS))})'
    for name in content:
        if name not in _FIELDS:
            yield f'{name}: unknown field "{name}" (known: {", ".join(_FIELDS)})'
    yield from _problems_of_name(content.get("metadata"), kind)


def _problems_of_name(meta: Any, kind: Any) -> Iterator[str]:
    if not isinstance(meta, dict):
        yield "metadata: is missing; it needs a name"
        return

    name = meta.get("name")
    if name is None and isinstance(meta.get("generateName"), str):
        return
    if not isinstance(name, str) or not re.fullmatch(OBJECT_NAME_PATTERN, name):
        yield (
            f"metadata.name: {json.dumps(name, default=str)} is not the name of an object "
            "(lower case letters, digits, - and .)"
        )
        return

    longest = LONGEST_RELEASE_NAME if kind == "Release" else LONGEST_NAME
    if len(name) > longest:
        yield f"metadata.name: has {len(name)} characters; it may have {longest}"


def _problems_of_spec(
    document: Document, runbooks: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    spec = document.content.get("spec")
    if not isinstance(spec, dict):
        yield "spec: is missing" if spec is None else "spec: is no map of fields"
        return
    problem = _size_problem(spec)
    if problem is not None:
        yield problem
        return

    name = runbook_of(spec) if document.kind == "Release" else ""
    if name:
        yield from _problems_with_runbook(spec, runbooks.get(name), name)
        return
    problems_of = _SPEC_PROBLEMS.get(document.kind)
    if problems_of is not None:
        yield from problems_of(document.content, spec)


def _size_problem(spec: Mapping[str, Any]) -> str | None:
    """Return why the operator would not even read a spec."""

    def count_bytes() -> int:
        text = json.dumps(spec, separators=(",", ":"), ensure_ascii=False, default=str)
        return len(text.encode())

    return size.find_size_problem(spec, count_bytes)


def _problems_with_runbook(
    spec: Mapping[str, Any], runbook: Mapping[str, Any] | None, name: str
) -> Iterator[str]:
    if runbook is not None:
        yield from check_release(spec, runbook, name)[1]
    else:
        yield from problems_without_runbook(spec, name)


def _release_problems(content: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    yield from check_spec(spec)[1]


def _runbook_problems(content: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    yield from runbook_problems(spec)


def _connection_problems(content: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    meta = content.get("metadata")
    namespace = meta.get("namespace") if isinstance(meta, dict) else None
    use_default_settings()
    yield from connection_problems(spec, str(namespace or ""))


def _intervention_problems(content: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    try:
        act = InterventionSpec.model_validate(spec)
    except ValidationError as error:
        yield from iter_explained(error, "spec")
        return
    if act.withDatabase is not None and not act.reason.strip():
        yield "spec.reason: with the database goes what was written since; give the reason"


def _freeze_problems(content: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    try:
        FreezeSpec.model_validate(spec)
    except ValidationError as error:
        yield from iter_explained(error, "spec")


_SPEC_PROBLEMS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[str]]] = {
    "Release": _release_problems,
    "Runbook": _runbook_problems,
    "Connection": _connection_problems,
    "Freeze": _freeze_problems,
    "Intervention": _intervention_problems,
}
"""Every kind that can be judged, by its name."""
