"""Flushing a cache by prefix, whichever way leads to it.

    SCAN cursor MATCH prefix* COUNT n      a slice of the keyspace, in bounded time
    UNLINK key ...                         removed, their memory freed in the background
    SET gatewright:flush:HASH ... EX       the mark of the operation: how far it is

Each look at the operation goes on from its mark for at most `SLICE_BUDGET_S` seconds, until the
cursor is back at 0. FLUSHDB is never used. What was there when the flush began is gone when it is
done; what was written meanwhile may stay. Done twice, or from the start again because the mark was
evicted, it removes the same keys.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import StringConstraints

from gatewright.api.base import Model
from gatewright.core.fingerprints import short_fingerprint
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.redis.connection import RunCommand

SLICE_BUDGET_S = 1.0
"""Seconds of work at each look."""
SCAN_COUNT = 500
"""Keys that are looked at by one SCAN, and removed by one UNLINK at most."""
_MARK_PREFIX = "gatewright:flush:"
_MARK_TTL_S = 86_400
"""Seconds after which a mark is gone."""
_SPECIAL = re.compile(r"([*?\[\]\\^-])")
_UNREADABLE = "\ufffd"


class Flush(Model):
    """Keys to be removed."""

    prefix: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """What their names begin with, taken literally: `foco:cache:`."""


@dataclass(slots=True)
class _Mark:
    """How far an operation is."""

    cursor: str = "0"
    removed: int = 0
    unreadable: int = 0
    """Keys whose names do not survive the way here (no UTF-8), so that they cannot be removed."""
    done: bool = False


async def start(
    run: RunCommand, link: OpenConnection, flush: Flush, operation: Operation
) -> Progress:
    """Begin, or go on with what an earlier try began. Raises Retryable, Permanent."""
    return await _go_on(
        run, link, flush, operation, await _read_mark(run, link, operation) or _Mark()
    )


async def follow(
    run: RunCommand, link: OpenConnection, flush: Flush, operation: Operation
) -> Progress:
    """Go on from the mark; Absent where there is none. Raises Retryable, Permanent."""
    mark = await _read_mark(run, link, operation)
    return Progress("Absent") if mark is None else await _go_on(run, link, flush, operation, mark)


async def _go_on(
    run: RunCommand, link: OpenConnection, flush: Flush, operation: Operation, mark: _Mark
) -> Progress:
    if not mark.done:
        await _remove_slice(run, link, flush.prefix, mark)
        await _write_mark(run, link, operation, mark)
    return _progress_of(mark)


async def _remove_slice(run: RunCommand, link: OpenConnection, prefix: str, mark: _Mark) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + SLICE_BUDGET_S
    pattern = _SPECIAL.sub(r"\\\1", prefix) + "*"
    while True:
        scan = ("SCAN", mark.cursor, "MATCH", pattern, "COUNT", str(SCAN_COUNT))
        cursor, keys = _require_scan(await run(link, *scan))
        mark.unreadable += sum(_is_unreadable(key) for key in keys)

        removable = [key for key in keys if _is_removable(key, prefix)]
        for index in range(0, len(removable), SCAN_COUNT):
            batch = removable[index : index + SCAN_COUNT]
            mark.removed += _require_count(await run(link, "UNLINK", *batch))

        mark.cursor, mark.done = cursor, cursor == "0"
        if mark.done or clock() > deadline:
            return


def _is_removable(key: str | bytes, prefix: str) -> bool:
    """Return whether a key has the prefix, whatever the server makes of the pattern.

    Marks stay: without its own, a flush would begin again.
    """
    if _is_unreadable(key) or _has_prefix(key, _MARK_PREFIX):
        return False
    return _has_prefix(key, prefix)


def _require_scan(answer: Any) -> tuple[str, Sequence[str | bytes]]:
    match answer:
        case [bytes() | str() as cursor, list() as keys] if all(
            isinstance(key, str | bytes) for key in keys
        ):
            position = _to_text(cursor)
            if position.isascii() and position.isdigit():
                return position, keys
    raise Permanent("SCAN is answered by something else")


def _require_count(answer: Any) -> int:
    if not isinstance(answer, int):
        raise Permanent("UNLINK is answered by something else")
    return answer


async def _read_mark(run: RunCommand, link: OpenConnection, operation: Operation) -> _Mark | None:
    answer = await run(link, "GET", _mark_key(operation))
    if not isinstance(answer, str | bytes):
        return None
    try:
        return _Mark(**json.loads(answer))
    except (ValueError, TypeError):
        return None


async def _write_mark(
    run: RunCommand, link: OpenConnection, operation: Operation, mark: _Mark
) -> None:
    value = {
        "cursor": mark.cursor,
        "removed": mark.removed,
        "unreadable": mark.unreadable,
        "done": mark.done,
    }

    try:
        await run(link, "SET", _mark_key(operation), json.dumps(value), "EX", str(_MARK_TTL_S))
    except Retryable:
        # A server that is full takes no mark; done is done without one.
        if not mark.done:
            raise


def _mark_key(operation: Operation) -> str:
    return _MARK_PREFIX + short_fingerprint([operation.id])


def _progress_of(mark: _Mark) -> Progress:
    if not mark.done:
        return Progress("Running", f"{mark.removed} keys removed so far")

    outputs = {"removed": str(mark.removed)}
    if mark.unreadable:
        unreadable = f"the names of {mark.unreadable} are no UTF-8 and cannot be sent this way"
        message = f"{mark.removed} keys removed; {unreadable}"
        return Progress("Failed", message, outputs)

    return Progress("Succeeded", f"{mark.removed} keys removed", outputs)


def _is_unreadable(key: str | bytes) -> bool:
    return isinstance(key, str) and _UNREADABLE in key


def _has_prefix(key: str | bytes, prefix: str) -> bool:
    return key.startswith(prefix.encode()) if isinstance(key, bytes) else key.startswith(prefix)


def _to_text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
