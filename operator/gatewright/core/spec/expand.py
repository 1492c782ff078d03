"""`$(NAME)` as in Kubernetes' own env expansion: substitution, no expressions; `$$(NAME)` stands
for itself.

Names: `version`, `vars.NAME`, `lastGood.version`, `stage`, `run`, `steps.STEP.outputs.KEY`. A name
that is none of these is an error, so that `$(veersion)` never reaches a shell. What a step has
published is known only later, so a reference to it is checked for its step before the run, and for
its key when it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

_REFERENCE = re.compile(r"\$(\$?)\(([^()\s]*)\)")
MOST_EXPANDED_CHARS = 2**20
"""Characters that the texts of one step or check may have once everything is put in; the API server
takes no more."""
OUTPUT_NAME = re.compile(r"steps\.([a-z0-9-]+)\.outputs\.([A-Za-z0-9_.-]+)")


_MOST_KEY_CHARS = 100
"""Characters of a key that a path repeats."""
_MOST_PATH_CHARS = 200
_MOST_LIST_CHARS = 150
"""Characters of a list of names."""


class UnknownReference(ValueError):
    """A `$(...)` that names nothing; the message says where and what is known."""


def expand_references(value: Any, names: Mapping[str, str], path: str = "") -> Any:
    """A copy of a JSON value with every reference replaced. Raises UnknownReference, also where
    that comes to too much."""
    left = MOST_EXPANDED_CHARS

    def leaf(text: str, where: str) -> str:
        nonlocal left
        replaced = _replace_references(text, where, names)
        left -= len(replaced)
        if left < 0:
            raise UnknownReference(
                f"{show_path(where)}: what is put in for its references has more than "
                f"{MOST_EXPANDED_CHARS} characters"
            )
        return replaced

    return _map_texts(value, path, leaf)


def find_references(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every (path, name) that a JSON value refers to, one after the other: there may be very
    many."""
    if isinstance(value, str):
        yield from ((path, match[2]) for match in _REFERENCE.finditer(value) if not match[1])
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from find_references(item, path_of_key(path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from find_references(item, f"{path}[{index}]")


def path_of_key(path: str, key: object) -> str:
    """The path of a key; of a long key only its ends."""
    return f"{path}.{cut_middle(str(key), _MOST_KEY_CHARS)}"


def show_path(path: str) -> str:
    """A path as messages show it."""
    return cut_middle(path, _MOST_PATH_CHARS)


def list_names(names: Iterable[str]) -> str:
    """Names in a row, not too many."""
    text = ", ".join(sorted(names)) or "none"
    return (
        text
        if len(text) <= _MOST_LIST_CHARS
        else f"{text[:_MOST_LIST_CHARS].rpartition(', ')[0]} and more"
    )


def cut_middle(text: str, longest: int) -> str:
    """A text without its middle where it is longer."""
    begin = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:begin]}…{text[begin + 1 - longest :]}"


def _map_texts(value: Any, path: str, leaf: Callable[[str, str], str]) -> Any:
    if isinstance(value, str):
        return leaf(value, path) if "$(" in value else value
    if isinstance(value, Mapping):
        return {key: _map_texts(item, path_of_key(path, key), leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_texts(item, f"{path}[{index}]", leaf) for index, item in enumerate(value)]
    return value


def _replace_references(text: str, path: str, names: Mapping[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        if match[2] not in names:
            raise UnknownReference(
                f"{show_path(path)}: $({cut_middle(match[2], _MOST_KEY_CHARS)}) is not "
                f"known here (known: {list_names(names)})"
            )
        return names[match[2]]

    return _REFERENCE.sub(one, text)
