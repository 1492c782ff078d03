"""Answers of the right status in a wrong shape: whatever a vendor puts where, nothing may break but
with words."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import fields
from typing import Any

from aiohttp import web

from tests.fakes.serving import serving

STRANGE: tuple[Any, ...] = (None, "strange", -7, [], {}, [None])


async def bent(fake: Any, act: Callable[[str], Awaitable[Any]]) -> AsyncIterator[str]:
    """Do something against a fake once, and once more for every strange value at every place of
    every answer it got.

    Yields what was changed, after each. The fake is each time what it was before.
    """
    bend = _Bend()
    app = fake.app()
    app.middlewares.insert(0, bend.middleware)
    before = {field.name: copy.deepcopy(getattr(fake, field.name)) for field in fields(fake)}
    async with serving(app) as url:
        await act(url)
        for name, path, value in list(bend.cases()):
            for field, kept in before.items():
                setattr(fake, field, copy.deepcopy(kept))
            bend.name, bend.path, bend.value = name, path, value
            await act(url)
            yield f"{name} {'.'.join(map(str, path))}: {value!r}"


class _Bend:
    """Puts one strange value into the answer to one kind of request; at first it notes what answers
    there are."""

    def __init__(self) -> None:
        self.name = ""
        self.path: tuple[Any, ...] = ()
        self.value: Any = None
        self._shapes: dict[str, Any] = {}

    def cases(self) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
        for name, shape in self._shapes.items():
            for path in _paths(shape):
                yield from ((name, path, value) for value in STRANGE)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        reply: web.StreamResponse = await handler(request)
        if not isinstance(reply, web.Response) or reply.content_type != "application/json":
            return reply
        name, body = f"{request.method} {request.path}", json.loads(reply.text or "null")
        if not self.name:
            self._shapes.setdefault(name, body)
        if self.name != name:
            return reply
        link = {"Link": reply.headers["Link"]} if "Link" in reply.headers else {}
        return web.json_response(
            _put(body, self.path, self.value), status=reply.status, headers=link
        )


def _paths(shape: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    # the first entry of a list stands for the others
    inner = (
        shape.items()
        if isinstance(shape, dict)
        else enumerate(shape[:1])
        if isinstance(shape, list)
        else ()
    )
    for key, value in inner:
        yield from _paths(value, (*path, key))


def _put(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.copy(body)
    if (isinstance(changed, dict) and path[0] in changed) or (
        isinstance(changed, list) and path[0] < len(changed)
    ):
        changed[path[0]] = _put(changed[path[0]], path[1:], value)
    return changed
