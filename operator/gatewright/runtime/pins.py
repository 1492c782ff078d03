"""What a run has pinned of Connections: name and UID of each one that it uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Pin(NamedTuple):
    """A Connection that a run has found."""

    name: str
    uid: str
    returning: bool = False
    """The run is on its way back: nothing may keep it, and what it uses has been proved when it
    began."""


Pins = Mapping[tuple[str, str], Pin]
"""What a run uses: kind of a Connection and its name as the spec has it ("" where it is
implied)."""

NO_PINS: Pins = {}


def no_pins(key: tuple[str, str]) -> Pins:
    """No Release has pinned anything."""
    return NO_PINS
