"""What flag systems have in common: flags that are on or off, returned to what they were.

    look      the state of every flag   the snapshot, and whether all are as wanted
    perform   read, switch what differs, read back
    follow    read                      all as wanted: done; else Absent, so that it is performed
                                        again
    compare   read                      which are not as wanted, and who has switched them

Only flags that the run has set go back, each to what it was. A flag's state is its own trace: to
switch it twice is to switch it once, so nothing is marked. What is switched is the flag alone; its
rules, strategies and rollouts stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints

from gatewright.core.model.holding import Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import NotFound, OpenConnection, Permanent, Retryable
from gatewright.providers.common import concurrency
from gatewright.providers.common.flag_changes import fail_unrecorded, flags_set_by, touched_flags

FlagKey = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]*$", max_length=256)
]
Switch = Literal["on", "off"]
_MAX_ASKED = 3
"""Flags of which the vendor is asked who has switched them, at most."""
Switches = Annotated[dict[FlagKey, Switch], Field(min_length=1, max_length=20)]


class FlagSwitches:
    """The External of a flag system; what differs from vendor to vendor is `_is_on`, `_switch` and
    `_switched_by`."""

    config: ClassVar[type[BaseModel]]
    connection: ClassVar[str]
    interval: ClassVar[float] = 2.0

    def identity(self, config: Any) -> str:
        """Return each flag it owns, a line a flag."""
        return "\n".join(
            f"{config.project}/{config.environment}/{flag}" for flag in sorted(config.set)
        )

    async def look(self, config: Any, link: OpenConnection) -> LiveState:
        """Return the state of every flag. Raises Retryable, Permanent."""
        try:
            switches = await self._read_switches(config, link, sorted(config.set))
        except NotFound as error:
            return LiveState(None, problem=str(error))
        return LiveState({"flags": switches}, matches=switches == config.set)

    async def perform(
        self,
        config: Any,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Switch what differs for `set` or `restore`, and read it back.

        Raises Retryable, Permanent.
        """
        wanted_states, missing = self._wanted_switches(config, operation, snapshot)
        before = await self._read_switches(config, link, sorted(wanted_states))
        changed = [flag for flag, state in wanted_states.items() if before[flag] != state]

        for flag in changed:
            await self._switch_flag(config, link, flag, wanted_states[flag] == "on", operation)
        if not changed:
            return _progress_of_done(wanted_states, missing)

        progress = await self.follow(config, link, operation, snapshot)
        # It was done already: not to see it yet is no reason to do it again.
        if progress.state == "Absent":
            return Progress("Running", progress.message)
        return progress

    async def follow(
        self,
        config: Any,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Return whether every flag is as wanted. Raises Retryable, Permanent."""
        wanted_states, missing = self._wanted_switches(config, operation, snapshot)
        live = await self._read_switches(config, link, sorted(wanted_states))
        open_flags = [flag for flag, state in wanted_states.items() if live[flag] != state]
        if open_flags:
            return Progress("Absent", f"not yet as wanted: {', '.join(open_flags)}")
        return _progress_of_done(wanted_states, missing)

    async def compare(
        self,
        config: Any,
        link: OpenConnection,
        operations: Sequence[Operation],
        snapshot: Mapping[str, Any] | None,
    ) -> Standing:
        """Return which flags are not as wanted, and who has switched them.

        Raises Retryable, Permanent.
        """
        wanted_states: dict[str, Switch] = {}
        for operation in operations:
            wanted_states |= self._wanted_switches(config, operation, snapshot)[0]
        if not wanted_states:
            raise Permanent("nothing is wanted of these flags, so nothing can be compared")

        try:
            live = await self._read_switches(config, link, sorted(wanted_states))
        except NotFound as error:
            return Standing(str(error))

        others = [flag for flag, state in sorted(wanted_states.items()) if live[flag] != state]
        asked = others[:_MAX_ASKED]
        switchers = await concurrency.ask_each(
            asked, lambda flag: self._describe_switcher(config, link, flag)
        )
        who = dict(zip(asked, switchers, strict=True))

        parts = [
            f"{flag} is {live[flag]} instead of {wanted_states[flag]}{who.get(flag, '')}"
            for flag in others
        ]
        return Standing("; ".join(parts))

    async def trouble(self, config: Any, link: OpenConnection, operation: Operation) -> str | None:
        """Return nothing: a switch has no log."""
        return None

    async def _describe_switcher(self, config: Any, link: OpenConnection, flag: str) -> str:
        # That a flag is not as wanted is known without it.
        with suppress(Retryable, Permanent):
            words = await self._switched_by(config, link, flag)
            return f" ({words})" if words else ""
        return ""

    async def _read_switches(
        self, config: Any, link: OpenConnection, flags: list[str]
    ) -> dict[str, Switch]:
        states = await concurrency.ask_each(flags, lambda flag: self._is_on(config, link, flag))
        return {flag: "on" if on else "off" for flag, on in zip(flags, states, strict=True)}

    async def _is_on(self, config: Any, link: OpenConnection, flag: str) -> bool:
        """Return whether a flag is on. Raises NotFound, Retryable, Permanent."""
        raise NotImplementedError

    async def _switch_flag(
        self, config: Any, link: OpenConnection, flag: str, on: bool, operation: Operation
    ) -> None:
        """Switch one flag; to do so twice does no harm. Raises Retryable, Permanent."""
        raise NotImplementedError

    async def _switched_by(self, config: Any, link: OpenConnection, flag: str) -> str:
        """Return who has switched a flag last, and when, in words; empty where the vendor does not
        tell.

        Raises Retryable, Permanent.
        """
        raise NotImplementedError

    def _wanted_switches(
        self, config: Any, operation: Operation, snapshot: Mapping[str, Any] | None
    ) -> tuple[dict[str, Switch], list[str]]:
        """Return what an operation brings about, and flags that the run has set although nothing
        was recorded.

        Raises Permanent.
        """
        if operation.kind != "restore":
            return flags_set_by(self.config, config, operation), []

        flags = snapshot.get("flags") if snapshot is not None else None
        if not isinstance(flags, Mapping) or not flags or not set(flags.values()) <= {"on", "off"}:
            raise Permanent("there is no snapshot of these flags to return to")

        names = touched_flags(self.config, config, operation)
        recorded = {flag: state for flag, state in flags.items() if flag in names}
        return recorded, sorted(names - flags.keys())


def _progress_of_done(wanted_states: Mapping[str, str], missing: Sequence[str]) -> Progress:
    states = ", ".join(f"{flag} is {state}" for flag, state in sorted(wanted_states.items()))
    return fail_unrecorded(Progress("Succeeded", states), missing)
