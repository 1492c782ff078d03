"""Where backups live: a directory behind HTTP, so that a Job finds what an earlier Job left.

    PUT  /objects/<name>   201; 412 if it is there already: a backup is never replaced
    GET  /objects/<name>   200 or 404
    GET  /objects          the names, sorted

Every request carries `Authorization: Bearer $BACKUP_STORE_TOKEN`. It stands for the object store of
a real installation. It needs no storage class and no hostPath, so it runs in a namespace under Pod
Security `restricted`. `Client` is the other side, for scripts.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_LIMIT = 512 * 1024 * 1024


class ExistsError(Exception):
    """The object is there already."""


class Client:
    def __init__(self, url: str, token: str, timeout: float = 60.0) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._timeout = timeout

    def _call(self, method: str, name: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"{self._url}/objects/{name}", data=body, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=self._timeout) as response:
            return bytes(response.read())

    def put(self, name: str, body: bytes) -> None:
        try:
            self._call("PUT", name, body)
        except urllib.error.HTTPError as error:
            if error.code == 412:
                raise ExistsError(name) from error
            raise

    def get(self, name: str) -> bytes | None:
        try:
            return self._call("GET", name)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def main() -> None:
    # Imported here: the scripts that need only the client stay quick and small.
    from aiohttp import web

    directory, token = Path(os.environ["BACKUP_DIRECTORY"]), os.environ["BACKUP_STORE_TOKEN"]

    @web.middleware
    async def authorized(request: web.Request, handler):  # type: ignore[no-untyped-def]
        given = request.headers.get("Authorization", "")
        if request.path != "/livez" and not hmac.compare_digest(
            given.encode(), f"Bearer {token}".encode()
        ):
            raise web.HTTPUnauthorized
        return await handler(request)

    def path(request: web.Request) -> Path:
        name = request.match_info["name"]
        if not _NAME.fullmatch(name):
            raise web.HTTPBadRequest(text="not a name")
        return directory / name

    async def put(request: web.Request) -> web.Response:
        target, partial = path(request), directory / f".partial-{id(request)}"
        try:
            with partial.open("wb") as file:
                async for chunk in request.content.iter_chunked(1 << 16):
                    file.write(chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            os.link(partial, target)  # fails if it exists: never half an object, never a second one
        except FileExistsError:
            raise web.HTTPPreconditionFailed(text="exists") from None
        finally:
            partial.unlink(missing_ok=True)
        return web.Response(status=201)

    async def get(request: web.Request) -> web.StreamResponse:
        target = path(request)
        return web.FileResponse(target) if target.is_file() else web.Response(status=404)

    async def names(_: web.Request) -> web.Response:
        return web.json_response(
            sorted(p.name for p in directory.iterdir() if not p.name.startswith("."))
        )

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    application = web.Application(middlewares=[authorized], client_max_size=_LIMIT)
    application.add_routes(
        [
            web.put("/objects/{name}", put),
            web.get("/objects/{name}", get),
            web.get("/objects", names),
            web.get("/livez", live),
        ]
    )
    host = os.environ.get("HOST", "0.0.0.0")  # a pod's only address is not known before it starts
    web.run_app(
        application,
        host=host,
        port=int(os.environ.get("PORT", "8080")),
        access_log=None,
        print=None,
    )


if __name__ == "__main__":
    main()
