"""What flag systems have in common: flags that are on or off, returned to what they were.

    look      the state of every flag           the snapshot, and whether all are as wanted
    perform   read, switch what differs, read back
    follow    read                              all as wanted: done; else Absent, so that it is performed again

A flag's state is its own trace: to switch it twice is to switch it once, so nothing is marked. What is switched is the
flag alone; its rules, strategies and rollouts stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints

from gatewright.core.model import Operation, Progress, Sight
from gatewright.ports import Link, NotFound, Permanent
from gatewright.providers.connections import many

FlagKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]*$", max_length=256)]
Switch = Literal["on", "off"]
Switches = Annotated[dict[FlagKey, Switch], Field(min_length=1, max_length=20)]


class FlagSwitches:
    """The External of a flag system; what differs from vendor to vendor is `_is_on` and `_switch`."""

    config: ClassVar[type[BaseModel]]
    connection: ClassVar[str]
    interval: ClassVar[float] = 2.0

    def identity(self, config: Any) -> str:
        """Each flag it owns, a line a flag."""
        return "\n".join(f"{config.project}/{config.environment}/{flag}" for flag in sorted(config.set))

    async def look(self, config: Any, link: Link) -> Sight:
        """The state of every flag. Raises Retryable, Permanent."""
        problem = ""
        try:
            found = await self._read(config, link, sorted(config.set))
        except NotFound as error:
            problem = str(error)
        if problem:
            return Sight(None, problem=problem)
        return Sight({"flags": found}, matches=found == config.set)

    async def perform(
        self, config: Any, link: Link, operation: Operation, snapshot: Mapping[str, Any] | None
    ) -> Progress:
        """`set` or `restore`: switch what differs, and read it back. Raises Retryable, Permanent."""
        wanted = _wanted(config, operation, snapshot)
        before = await self._read(config, link, sorted(wanted))
        changed = [flag for flag, state in wanted.items() if before[flag] != state]
        for flag in changed:
            await self._switch(config, link, flag, wanted[flag] == "on", operation)
        found = await self.follow(config, link, operation, snapshot) if changed else _done(wanted)
        return Progress("Running", found.message) if found.state == "Absent" else found

    async def follow(
        self, config: Any, link: Link, operation: Operation, snapshot: Mapping[str, Any] | None
    ) -> Progress:
        """Whether every flag is as wanted. Raises Retryable, Permanent."""
        wanted = _wanted(config, operation, snapshot)
        found = await self._read(config, link, sorted(wanted))
        open_flags = [flag for flag, state in wanted.items() if found[flag] != state]
        if open_flags:
            return Progress("Absent", f"not yet as wanted: {', '.join(open_flags)}")
        return _done(wanted)

    async def trouble(self, config: Any, link: Link, operation: Operation) -> str | None:
        """A switch has no log."""
        return None

    async def _read(self, config: Any, link: Link, flags: list[str]) -> dict[str, Switch]:
        states = await many.each(flags, lambda flag: self._is_on(config, link, flag))
        return {flag: "on" if on else "off" for flag, on in zip(flags, states, strict=True)}

    async def _is_on(self, config: Any, link: Link, flag: str) -> bool:
        """Whether a flag is on. Raises NotFound, Retryable, Permanent."""
        raise NotImplementedError

    async def _switch(self, config: Any, link: Link, flag: str, on: bool, operation: Operation) -> None:
        """Switch one flag; to do so twice does no harm. Raises Retryable, Permanent."""
        raise NotImplementedError


def _wanted(config: Any, operation: Operation, snapshot: Mapping[str, Any] | None) -> dict[str, Switch]:
    """What an operation brings about. Raises Permanent."""
    if operation.kind == "set":
        return dict(config.set)
    if operation.kind != "restore":
        raise Permanent(f"flags can be set and restored, and nothing else ({operation.kind})")
    flags = snapshot.get("flags") if snapshot is not None else None
    if not isinstance(flags, Mapping) or not flags or not set(flags.values()) <= {"on", "off"}:
        raise Permanent("there is no snapshot of these flags to return to")
    return dict(flags)


def _done(wanted: Mapping[str, str]) -> Progress:
    return Progress("Succeeded", ", ".join(f"{flag} is {state}" for flag, state in sorted(wanted.items())))
