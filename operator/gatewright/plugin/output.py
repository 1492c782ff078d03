"""The forms of an answer: what people read, and what programs read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gatewright.plugin.show import cut_text, table_lines
from gatewright.plugin.terminal import print_lines

_UNCUT = ("NAME", "NAMESPACE")


def print_answer(
    output: str | None,
    answer: Any,
    names: Iterable[str],
    lines: Callable[[], Iterable[str]],
) -> None:
    """Print an answer in the form that was asked for; `lines` make the one for people."""
    if output == "json":
        print_lines([json.dumps(answer, indent=2)], plain=True)
    elif output == "yaml":
        print_lines([yaml_text(answer)], plain=True)
    elif output == "name":
        print_lines(names, plain=True)
    else:
        print_lines(lines())


def yaml_text(answer: Any) -> str:
    """Return YAML with its keys in the order that they have."""
    import yaml

    return str(yaml.safe_dump(answer, sort_keys=False, width=120, allow_unicode=True)).rstrip()


def server_table_lines(
    table: Mapping[str, Any], is_wide: bool = False, with_namespaces: bool = False
) -> list[str]:
    """Lay out a list as the API server has put it into columns (`meta.k8s.io/v1 Table`)."""
    columns: Sequence[Mapping[str, Any]] = table["columnDefinitions"]
    shown = [
        number for number, column in enumerate(columns) if is_wide or not column.get("priority")
    ]
    head = [str(columns[number]["name"]).upper() for number in shown]

    rows = []
    for row in table.get("rows") or ():
        cells = [
            _cell(name, row["cells"][number], is_wide)
            for name, number in zip(head, shown, strict=True)
        ]
        namespace = row["object"]["metadata"].get("namespace", "")
        rows.append([namespace, *cells] if with_namespaces else cells)

    return table_lines(["NAMESPACE", *head] if with_namespaces else head, rows)


def _cell(column: str, value: Any, is_wide: bool) -> str:
    text = "" if value is None else str(value)
    return text if is_wide or column in _UNCUT else cut_text(text)
