"""`$(NAME)` as in Kubernetes' own env expansion: substitution, no expressions; `$$(NAME)` stands for itself.

Names: `version`, `vars.NAME`, `lastGood.version`, `stage`, `run`, `steps.STEP.outputs.KEY`. A name that is none of
these is an error, so that `$(veersion)` never reaches a shell. What a step has published is known only later, so a
reference to it is checked for its step before the run, and for its key when it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_REFERENCE = re.compile(r"\$(\$?)\(([^()\s]*)\)")
MOST_CHARS = 2**20
"""Characters that the texts of one step or check may have once everything is put in; the API server takes no more."""
OUTPUT = re.compile(r"steps\.([a-z0-9-]+)\.outputs\.([A-Za-z0-9_.-]+)")


class Unknown(ValueError):
    """A `$(...)` that names nothing; the message says where and what is known."""


def expand(value: Any, names: Mapping[str, str], path: str = "") -> Any:
    """A copy of a JSON value with every reference replaced. Raises Unknown, also where that comes to too much."""
    left = MOST_CHARS

    def leaf(text: str, where: str) -> str:
        nonlocal left
        replaced = _replace(text, where, names)
        left -= len(replaced)
        if left < 0:
            raise Unknown(f"{where}: what is put in for its references has more than {MOST_CHARS} characters")
        return replaced

    return _walk(value, path, leaf)


def references(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every (path, name) that a JSON value refers to."""
    found: list[tuple[str, str]] = []

    def look(text: str, where: str) -> str:
        found.extend((where, match[2]) for match in _REFERENCE.finditer(text) if not match[1])
        return text

    _walk(value, path, look)
    return iter(found)


def _walk(value: Any, path: str, leaf: Callable[[str, str], str]) -> Any:
    if isinstance(value, str):
        return leaf(value, path) if "$(" in value else value
    if isinstance(value, Mapping):
        return {key: _walk(item, f"{path}.{key}", leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(item, f"{path}[{index}]", leaf) for index, item in enumerate(value)]
    return value


def _replace(text: str, path: str, names: Mapping[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        if match[2] not in names:
            raise Unknown(f"{path}: $({match[2]}) is not known here (known: {', '.join(sorted(names))})")
        return names[match[2]]

    return _REFERENCE.sub(one, text)
