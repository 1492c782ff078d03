"""What flag systems have in common: flags that are on or off, returned to what they were.

    look      the state of every flag           the snapshot, and whether all are as wanted
    perform   read, switch what differs, read back
    follow    read                              all as wanted: done; else Absent, so that it is performed again
    compare   read                              which are not as wanted, and who has switched them

Only flags that the run has set go back, each to what it was. A flag's state is its own trace: to
switch it twice is to switch it once, so nothing is marked. What is switched is the flag alone; its
rules, strategies and rollouts stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints

from gatewright.core.model import LiveState, Operation, Progress, Standing
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
        """Each flag it owns, a line a flag."""
        return "\n".join(
            f"{config.project}/{config.environment}/{flag}" for flag in sorted(config.set)
        )

    async def look(self, config: Any, link: OpenConnection) -> LiveState:
        """The state of every flag. Raises Retryable, Permanent."""
        problem = ""
        try:
            found = await self._read_switches(config, link, sorted(config.set))
        except NotFound as error:
            problem = str(error)
        if problem:
            return LiveState(None, problem=problem)
        return LiveState({"flags": found}, matches=found == config.set)

    async def perform(
        self,
        config: Any,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """`set` or `restore`: switch what differs, and read it back. Raises Retryable,
        Permanent."""
        wanted, missing = self._wanted_switches(config, operation, snapshot)
        before = await self._read_switches(config, link, sorted(wanted))
        changed = [flag for flag, state in wanted.items() if before[flag] != state]
        for flag in changed:
            await self._switch_flag(config, link, flag, wanted[flag] == "on", operation)
        if not changed:
            return _progress_of_done(wanted, missing)
        found = await self.follow(config, link, operation, snapshot)
        return Progress("Running", found.message) if found.state == "Absent" else found

    async def follow(
        self,
        config: Any,
        link: OpenConnection,
        operation: Operation,
        snapshot: Mapping[str, Any] | None,
    ) -> Progress:
        """Whether every flag is as wanted. Raises Retryable, Permanent."""
        wanted, missing = self._wanted_switches(config, operation, snapshot)
        found = await self._read_switches(config, link, sorted(wanted))
        open_flags = [flag for flag, state in wanted.items() if found[flag] != state]
        if open_flags:
            return Progress("Absent", f"not yet as wanted: {', '.join(open_flags)}")
        return _progress_of_done(wanted, missing)

    async def compare(
        self,
        config: Any,
        link: OpenConnection,
        operations: Sequence[Operation],
        snapshot: Mapping[str, Any] | None,
    ) -> Standing:
        """Which flags are not as wanted, and who has switched them. Raises Retryable, Permanent."""
        wanted: dict[str, Switch] = {}
        for operation in operations:
            wanted |= self._wanted_switches(config, operation, snapshot)[0]
        if not wanted:
            raise Permanent("nothing is wanted of these flags, so nothing can be compared")
        try:
            found = await self._read_switches(config, link, sorted(wanted))
        except NotFound as error:
            return Standing(str(error))
        others = [flag for flag, state in sorted(wanted.items()) if found[flag] != state]
        who = dict(
            zip(
                others,
                await concurrency.ask_each(
                    others[:_MAX_ASKED], lambda flag: self._describe_switcher(config, link, flag)
                ),
                strict=False,
            )
        )
        parts = [
            f"{flag} is {found[flag]} instead of {wanted[flag]}{who.get(flag, '')}"
            for flag in others
        ]
        return Standing("; ".join(parts))

    async def trouble(self, config: Any, link: OpenConnection, operation: Operation) -> str | None:
        """A switch has no log."""
        return None

    async def _describe_switcher(self, config: Any, link: OpenConnection, flag: str) -> str:
        with suppress(Retryable, Permanent):  # that a flag is not as wanted is known without it
            words = await self._switched_by(config, link, flag)
            return f" ({words})" if words else ""
        return ""

    async def _read_switches(
        self, config: Any, link: OpenConnection, flags: list[str]
    ) -> dict[str, Switch]:
        states = await concurrency.ask_each(flags, lambda flag: self._is_on(config, link, flag))
        return {flag: "on" if on else "off" for flag, on in zip(flags, states, strict=True)}

    async def _is_on(self, config: Any, link: OpenConnection, flag: str) -> bool:
        """Whether a flag is on. Raises NotFound, Retryable, Permanent."""
        raise NotImplementedError

    async def _switch_flag(
        self, config: Any, link: OpenConnection, flag: str, on: bool, operation: Operation
    ) -> None:
        """Switch one flag; to do so twice does no harm. Raises Retryable, Permanent."""
        raise NotImplementedError

    async def _switched_by(self, config: Any, link: OpenConnection, flag: str) -> str:
        """Who has switched a flag last, and when, in words; empty where the vendor does not tell.
        Raises Retryable, Permanent."""
        raise NotImplementedError

    def _wanted_switches(
        self, config: Any, operation: Operation, snapshot: Mapping[str, Any] | None
    ) -> tuple[dict[str, Switch], list[str]]:
        """What an operation brings about, and flags that the run has set although nothing was
        recorded. Raises Permanent."""
        if operation.kind != "restore":
            return flags_set_by(self.config, config, operation), []
        flags = snapshot.get("flags") if snapshot is not None else None
        if not isinstance(flags, Mapping) or not flags or not set(flags.values()) <= {"on", "off"}:
            raise Permanent("there is no snapshot of these flags to return to")
        names = touched_flags(self.config, config, operation)
        return {flag: state for flag, state in flags.items() if flag in names}, sorted(
            names - flags.keys()
        )


def _progress_of_done(wanted: Mapping[str, str], missing: Sequence[str]) -> Progress:
    states = ", ".join(f"{flag} is {state}" for flag, state in sorted(wanted.items()))
    return fail_unrecorded(Progress("Succeeded", states), missing)
