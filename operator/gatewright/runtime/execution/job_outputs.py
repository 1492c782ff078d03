"""What a Job's container publishes: one JSON object in its termination message, in bounds.

Whoever writes the message is not trusted, so it is cut before anything looks at it. A value that
cannot be kept whole is left out and named: half of a backup's id is worse than none. A message that
begins or ends like an object and is none was most likely cut by the kubelet, which keeps its end,
and nobody can tell what it held.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_TERMINATION_MESSAGE_BYTES = 4096
"""Bytes of a termination message that the kubelet keeps at most."""
MAX_KEYS = 32
"""Outputs of one Job that are kept at most."""
MAX_VALUE_LENGTH = 1000
"""Characters of one output that are kept at most."""
_MAX_NAMES_IN_MESSAGE = 5
"""Outputs that a message names at most."""


@dataclass(frozen=True, slots=True)
class Published:
    """The outputs of a Job."""

    outputs: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    """Which outputs are not kept, and why."""
    unread: str = ""
    """Why nobody can tell what was published."""


def read_outputs(message: str) -> Published:
    """Return what a termination message publishes.

    Nothing where it is no JSON object and does not look like one.
    """
    published = object_of(message)
    if published is not None:
        return bound_outputs(published)
    if not message.strip().startswith("{") and not message.strip().endswith("}"):
        return Published()

    size = len(message.encode(errors="replace"))
    looks = f"its termination message of {size} bytes looks like a JSON object and is none"

    kept = MAX_TERMINATION_MESSAGE_BYTES

    return Published(
        unread=f"{looks}; of one that is longer than {kept} bytes only the end is kept"
    )


def object_of(message: str) -> dict[str, Any] | None:
    """Return the JSON object that a termination message is, if it is one."""
    # The kubelet keeps no more: what is longer is no message.
    if len(message) > MAX_TERMINATION_MESSAGE_BYTES:
        return None

    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return None

    return value if isinstance(value, dict) else None


def bound_outputs(published: Mapping[str, Any]) -> Published:
    """Return the outputs that can be kept whole."""
    outputs: dict[str, str] = {}

    refused: list[str] = []
    for key, value in published.items():
        output, problem = _output_and_problem(key, value)
        if not problem and len(outputs) == MAX_KEYS:
            problem = f"only {MAX_KEYS} outputs of a Job are kept"
        if problem:
            shown = key[:40].encode(errors="replace").decode()
            refused.append(f"output {shown!r} is left out: {problem}")
        else:
            outputs[key] = output

    message = "; ".join(refused[:_MAX_NAMES_IN_MESSAGE])

    more = len(refused) - _MAX_NAMES_IN_MESSAGE
    if more > 0:
        message += f"; and {more} more"

    return Published(outputs, message)


def _output_and_problem(key: str, value: Any) -> tuple[str, str]:
    """Return a value as text, and what is wrong with it."""
    try:
        output = value if isinstance(value, str) else json.dumps(value)
        (key + output).encode()
    except UnicodeEncodeError:
        return "", "it is not text (half of a surrogate pair)"
    except RecursionError:
        return "", "it is nested too deeply"

    if len(output) > MAX_VALUE_LENGTH:
        return "", f"it has {len(output)} characters, and at most {MAX_VALUE_LENGTH} are kept"

    return output, ""
