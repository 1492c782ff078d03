"""`$(NAME)` as in Kubernetes' own env expansion: substitution, no expressions.

`$$(NAME)` stands for itself. Names: `version`, `vars.NAME`, `lastGood.version`, `stage`, `run`,
`steps.STEP.outputs.KEY`. A name that is none of these is an error, so that `$(veersion)` never
reaches a shell. What a step has published is known only later, so a reference to it is checked for
its step before the run, and for its key when it is used.
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
    """Return a copy of a JSON value with every reference replaced.

    Raises UnknownReference, also where that comes to too much.
    """
    left = MOST_EXPANDED_CHARS

    def expand_leaf(text: str, where: str) -> str:
        nonlocal left
        replaced = _replace_references(text, where, names)
        left -= len(replaced)
        if left < 0:
            raise UnknownReference(
                f"{show_path(where)}: what is put in for its references has more than "
                f"{MOST_EXPANDED_CHARS} characters"
            )
        return replaced

    return _map_texts(value, path, expand_leaf)


def find_references(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every (path, name) that a JSON value refers to, one by one: there may be very many."""
    if isinstance(value, str):
        yield from ((path, match[2]) for match in _REFERENCE.finditer(value) if not match[1])
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from find_references(entry, path_of_key(path, key))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from find_references(entry, f"{path}[{index}]")


def path_of_key(path: str, key: object) -> str:
    """Return the path of a key; of a long key only its ends."""
    return f"{path}.{cut_middle(str(key), _MOST_KEY_CHARS)}"


def show_path(path: str) -> str:
    """Return a path as messages show it."""
    return cut_middle(path, _MOST_PATH_CHARS)


def list_names(names: Iterable[str]) -> str:
    """Return names in a row, not too many."""
    row = ", ".join(sorted(names)) or "none"
    if len(row) <= _MOST_LIST_CHARS:
        return row
    whole_names = row[:_MOST_LIST_CHARS].rpartition(", ")[0]
    return f"{whole_names} and more"


def cut_middle(text: str, longest: int) -> str:
    """Return a text without its middle where it is longer."""
    if len(text) <= longest:
        return text
    begin = (longest - 1) // 2
    return f"{text[:begin]}…{text[begin + 1 - longest :]}"


def _map_texts(value: Any, path: str, leaf: Callable[[str, str], str]) -> Any:
    if isinstance(value, str):
        return leaf(value, path) if "$(" in value else value
    if isinstance(value, Mapping):
        return {
            key: _map_texts(entry, path_of_key(path, key), leaf) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [_map_texts(entry, f"{path}[{index}]", leaf) for index, entry in enumerate(value)]
    return value


def _replace_references(text: str, path: str, names: Mapping[str, str]) -> str:
    def replace_match(match: re.Match[str]) -> str:
        escape, name = match[1], match[2]
        if escape:
            return match[0][1:]
        if name not in names:
            raise UnknownReference(
                f"{show_path(path)}: $({cut_middle(name, _MOST_KEY_CHARS)}) is not "
                f"known here (known: {list_names(names)})"
            )
        return names[name]

    return _REFERENCE.sub(replace_match, text)
