"""Lists of the API server, page by page: no more than a page is in memory.

A page that has too many bytes, or takes too long, is asked for again with fewer objects; one whose
objects are small is followed by a larger one. How large the pages of a collection should be is
remembered for the next time.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson

from gatewright.ports import Keep, Retryable
from gatewright.runtime.cluster import wire
from gatewright.runtime.cluster.outline import Unreadable
from gatewright.runtime.cluster.refusals import (
    Gone,
    TimedOut,
    TooLarge,
    error_of_too_many,
    without_query,
)
from gatewright.runtime.cluster.wire import METADATA_ONLY, drop_unused_fields
from gatewright.runtime.telling.log_limits import about

FIRST_PAGE_ITEMS = 20
"""Objects that the first page of a list asks for: an object may have 1.5 MiB, and an API server
needs a second for ten."""
MAX_PAGE_ITEMS = 500
MAX_PAGE_BYTES = 2**20
"""Bytes that a page of several objects may have; as Python objects they take up to twenty times as
much, and while they are read, nothing else happens."""
MAX_LIST_ITEMS = 5_000
"""Objects that a list keeps which is read at once."""
MAX_LIST_KEPT_BYTES = 16 * 2**20
"""Bytes of JSON that these may come to."""
MAX_LIST_READ_BYTES = 128 * 2**20
"""Bytes that are read to find them."""
MAX_LIST_RESTARTS = 3
"""How often a list whose continuation was forgotten begins anew."""

log = logging.getLogger("gatewright.kube")

Read = Callable[[str, str, int | None], Awaitable[bytes]]
"""Reads a path: gets what is accepted, and how many bytes at most (None: any number)."""


@dataclass(slots=True)
class _Cursor:
    """Where a list stands, and how many objects its next page asks for."""

    path: str
    accept: str
    selectors: dict[str, str]
    limit: int
    token: str = ""
    """Where the next page begins; empty: at the beginning."""
    growth: int = MAX_PAGE_ITEMS
    """By what the limit may grow from one page to the next."""
    restarts: int = 0

    @property
    def url(self) -> str:
        """The path of the next page."""
        query = {**self.selectors, "limit": str(self.limit)}
        if self.token:
            query["continue"] = self.token
        return f"{self.path}?{urlencode(query)}"

    @property
    def selection(self) -> str:
        """What of a collection is listed; empty where it is all of it."""
        return next(iter(self.selectors.values()), "")

    def shrink(self, limit: int) -> None:
        """Ask for fewer objects, and grow slowly from then on."""
        self.limit, self.growth = limit, 2

    def grow(self, items: int, size: int) -> None:
        """Ask for as many objects as fill half a page, if they are like those of this one."""
        fitting = max(1, MAX_PAGE_BYTES * items // (2 * size))
        self.limit = min(MAX_PAGE_ITEMS, self.growth * self.limit, fitting)

    def restart(self, error: Gone) -> None:
        """Go on from where the API server still can, or begin anew. Raises Retryable."""
        if not self.token or self.restarts >= MAX_LIST_RESTARTS:
            raise Retryable(str(error)) from None
        self.restarts += 1
        self.token = error.token


@dataclass(slots=True)
class ListReader:
    """Reads lists by a function that reads a path."""

    read: Read
    page_sizes: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many objects a page of a collection is to have, where it is not `FIRST_PAGE_ITEMS`."""

    async def all(
        self, path: str, selector: str, fields: str, accept: str, keep: Keep, most: int | None
    ) -> list[dict[str, Any]]:
        """Return all objects at once, as far as `keep` wants them.

        Raises Retryable, Permanent, also where there are too many.
        """
        most = MAX_LIST_READ_BYTES if most is None else most
        objects: dict[tuple[str, str], dict[str, Any]] = {}

        size = 0
        async for obj in self.each(path, selector, fields, accept, most):
            kept = keep(obj)
            if kept is None:
                continue

            meta = obj["metadata"]
            objects[meta.get("namespace", ""), meta["name"]] = kept
            size += _json_bytes(kept)
            if len(objects) > MAX_LIST_ITEMS or size > MAX_LIST_KEPT_BYTES:
                amount = f"{len(objects)} objects of {size // 2**20} MiB"
                raise error_of_too_many(path, selector or fields, amount)

        return list(objects.values())

    async def each(
        self, path: str, selector: str, fields: str, accept: str, most: int | None
    ) -> AsyncGenerator[dict[str, Any]]:
        """Yield one object after the other. Raises Retryable, Permanent, also after `most` bytes.

        No `resourceVersion=0`: with it some API servers ignore the limit.
        """
        selectors = {"labelSelector": selector, "fieldSelector": fields}
        chosen = {name: value for name, value in selectors.items() if value}
        first_limit = self.page_sizes.get((path, accept), FIRST_PAGE_ITEMS)
        cursor = _Cursor(path, accept, chosen, first_limit)

        read = 0
        while True:
            page, size = await self._next_page(cursor)
            read += size
            if most is not None and read > most:
                amount = f"more than {most // 2**20} MiB"
                raise error_of_too_many(path, cursor.selection, amount)

            items = page.get("items") or []  # null where a list of metadata alone is empty
            token = page.get("metadata", {}).get("continue")

            if items:
                cursor.grow(len(items), size)

            # Whoever takes long over an object does not keep those before it in memory.
            del page
            items.reverse()

            while items:
                yield items.pop()

            if not token:
                break

            cursor.token = token

        self._remember_size(cursor)

    async def _next_page(self, cursor: _Cursor) -> tuple[dict[str, Any], int]:
        """Return the next page and its bytes, asked for again with fewer objects until it comes."""
        while True:
            most = MAX_PAGE_BYTES if cursor.limit > 1 else None

            try:
                return await self._read_page(cursor.url, cursor.accept, most)
            except (TooLarge, TimedOut):
                if cursor.limit == 1:
                    raise
                cursor.shrink(max(1, cursor.limit // 4))
            except Unreadable as error:
                # One that cannot be read must not take the others with it.
                if cursor.limit == 1:
                    return await self._skip_unreadable(cursor, error), 1
                cursor.shrink(1)
            except Gone as error:
                cursor.restart(error)

    async def _read_page(
        self, url: str, accept: str, most: int | None
    ) -> tuple[dict[str, Any], int]:
        """Return a page of a list, and its bytes."""
        text = await self.read(url, accept, most)
        page = wire.decode_page(text, alone=most is None)
        for item in page.get("items") or ():
            drop_unused_fields(item)
        return page, len(text)

    async def _skip_unreadable(self, cursor: _Cursor, error: Unreadable) -> dict[str, Any]:
        """Return a page without its only object, which cannot be read.

        Its metadata say which one that is.
        """
        page, _ = await self._read_page(cursor.url, METADATA_ONLY, None)
        for item in page.get("items") or ():
            meta = item["metadata"]
            log.error(
                "%s %s/%s is passed over: %s",
                without_query(cursor.path),
                meta.get("namespace", ""),
                meta["name"],
                error,
                extra=about(meta.get("namespace", ""), meta["name"]),
            )

        return page | {"items": []}

    def _remember_size(self, cursor: _Cursor) -> None:
        key = (cursor.path, cursor.accept)
        # A part of a collection says little about all of it.
        if cursor.limit == FIRST_PAGE_ITEMS or cursor.selection:
            self.page_sizes.pop(key, None)
        else:
            self.page_sizes[key] = cursor.limit


def _json_bytes(obj: dict[str, Any]) -> int:
    try:
        return len(orjson.dumps(obj))
    except TypeError:
        # Nested deeper than can be written.
        return MAX_LIST_KEPT_BYTES + 1
