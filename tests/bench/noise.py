"""The noisy tenant: everything that one namespace may do to an operator that it shares, all of it
at once, until it is stopped.

    python -m tests.bench.noise KUBECONFIG NAMESPACE LARGE PORT

LARGE: how many Releases of a megabyte it has. PORT: where the operator shows its metrics. It is a
process of its own, at the lowest priority once everything is there: what is measured is what it
makes the operator do, not what it does itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.fakes.postgres_logins import scram, server
from tests.fakes.postgres_server import hostile
from tests.harness.api import MERGE, tls_of

GROUP = "/apis/gatewright.dev/v1alpha1/namespaces"
HOSTILE = "key" * 340
"""A termination message that is costly to look for secrets in."""
LARGE = json.dumps(
    {"status": "success", "data": [{"n": number, "text": "x" * 90} for number in range(9000)]}
).encode()
SILENT, GATES, PATCHED = 16, 10, 20
CHECKS = 30
IDLE = 100
"""Connections to the port of metrics that say nothing."""
LISTS, DEEP = 360_000, 2_000
"""Small lists in a Job's template, and how deep one more is: as much as an API server takes."""
DATABASES, ITERATIONS = 8, 200_000
"""Iterations of SCRAM: as many as a server may ask for."""


class Tenant:
    """A user of one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.namespace = namespace
        self._url, self._tls = tls_of(kubeconfig)
        self._session: aiohttp.ClientSession | None = None
        self.refused = 0

    async def send(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> int:
        """One request and its status, 0 for none; what is refused is counted: a tenant tries what
        he may not as well."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls, limit=16)
            )
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        with contextlib.suppress(aiohttp.ClientError):
            async with self._session.request(
                method, self._url + path, data=data, headers={"Content-Type": kind}
            ) as answer:
                await answer.read()
                self.refused += answer.status >= 400
                return answer.status
        return 0

    async def make(self, kind: str, name: str, spec: Mapping[str, Any], **meta: Any) -> None:
        body = {
            "apiVersion": "gatewright.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, **meta},
            "spec": spec,
        }
        await self.send("POST", f"{GROUP}/{self.namespace}/{kind.lower()}s", body)

    async def change(self, name: str, spec: Mapping[str, Any]) -> None:
        await self.send("PATCH", f"{GROUP}/{self.namespace}/releases/{name}", {"spec": spec}, MERGE)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def main(kubeconfig: Path, namespace: str, large: int, port: int) -> None:
    tenant = Tenant(kubeconfig, namespace)
    silent = await asyncio.start_server(_says_nothing, "127.0.0.1", 0)
    runner = web.AppRunner(_large())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    nobody = silent.sockets[0].getsockname()[1]
    async with server(scram(ITERATIONS, later=True)) as logins:
        with hostile("a row", after=0) as floods:
            await _open(
                tenant, f"http://127.0.0.1:{nobody}", f"http://127.0.0.1:{runner.addresses[0][1]}"
            )
            await _open_databases(tenant, logins, floods)
            await _fill(tenant, large)
            lists = await _make_hostile(tenant)
            os.nice(19)
            print(f"ready {tenant.refused} refused, {lists} lists in a template", flush=True)
            async with asyncio.TaskGroup() as group:
                group.create_task(_edit(tenant))
                group.create_task(_ask_people(tenant))
                group.create_task(_new_versions(tenant))
                group.create_task(_annotate(tenant))
                for _ in range(IDLE):
                    group.create_task(_idle(port))


async def _says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass
    writer.close()


def _large() -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=LARGE, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


async def _open(tenant: Tenant, silent: str, large: str) -> None:
    await tenant.send(
        "POST",
        f"/api/v1/namespaces/{tenant.namespace}/secrets",
        {"metadata": {"name": "token"}, "stringData": {"token": "t0k3n-of-a-tenant"}},
    )
    token = {"secretRef": {"name": "token", "key": "token"}}
    for name, spec in {
        "silent-http": {"http": {"url": silent}},
        "silent-prometheus": {"prometheus": {"url": silent}},
        "silent-flags": {"unleash": {"url": silent, "token": token}},
        "large-http": {"http": {"url": large}},
        "large-prometheus": {"prometheus": {"url": large}},
        **{
            f"slow-{number}": {"http": {"url": f"http://slow-{number}.example"}}
            for number in range(16)
        },
    }.items():
        await tenant.make("Connection", name, {"timeout": "60s", **spec})


async def _open_databases(tenant: Tenant, logins: int, floods: int) -> None:
    """Databases whose login costs what it may, that ask for too much, and that send without an
    end."""
    urls = {
        f"url-{number}": f"postgresql://u:p@127.0.0.1:{logins}/d{number}?sslmode=disable"
        for number in range(DATABASES)
    }
    urls[f"url-{DATABASES}"] = f"postgresql://u:p@127.0.0.1:{floods}/d?sslmode=disable"
    await tenant.send("POST", f"/api/v1/namespaces/{tenant.namespace}/secrets",
                      {"metadata": {"name": "databases"}, "stringData": urls})  # fmt: skip
    for number, key in enumerate(urls):
        spec = {"postgres": {"url": {"secretRef": {"name": "databases", "key": key}}}}
        await tenant.make("Connection", f"database-{number}", spec)


async def _fill(tenant: Tenant, large: int) -> None:
    made: list[tuple[str, dict[str, Any]]] = []
    for number in range(SILENT):
        made.append((f"silent-{number}", _silent(number)))
        made.append((f"deaf-{number}", _checked("silent-http", number, 2)))
        made.append((f"names-{number}", _checked(f"slow-{number}", number, 2)))
    made += [
        (f"database-{number}", _queried(f"database-{number}")) for number in range(DATABASES + 1)
    ]
    made += [(f"gates-{number}", _checked("large-http", number, CHECKS)) for number in range(GATES)]
    made += [(f"edited-{number}", _job("1")) for number in range(PATCHED)]
    await asyncio.gather(*(tenant.make("Release", name, spec) for name, spec in made))
    big = _big()
    for number in range(large):  # one after the other: a megabyte each
        await tenant.make("Release", f"large-{number}", big, annotations={"note": "x" * 200_000})


def _silent(number: int) -> dict[str, Any]:
    flags = {
        "unleash": {
            "connection": "silent-flags",
            "project": f"p{number}",
            "environment": "production",
            "set": {"voice": "on"},
        }
    }
    return {
        "version": "1",
        "stages": [{"name": "beta", "steps": [{"name": "flags", "flags": flags}]}],
    }


def _checked(connection: str, number: int, checks: int) -> dict[str, Any]:
    """Guards that are measured as often as may be, before anything is done."""
    found = [
        {
            "name": f"c{check}",
            "interval": "1s",
            "holdFor": "1h",
            "http": {
                "connection": connection,
                "path": f"/{number}/{check}",
                "jsonPath": "$..text",
                "equals": "y",
            },
        }
        for check in range(checks)
    ]
    return {
        "version": "1",
        "preflight": found,
        "stages": [{"name": "a", "steps": [{"name": "wait", "wait": "1h"}]}],
    }


def _queried(connection: str) -> dict[str, Any]:
    found = [
        {"name": f"c{check}", "interval": "1s", "holdFor": "1h", "max": "1",
         "sql": {"connection": connection, "query": f"select {check}"}}
        for check in range(CHECKS)
    ]  # fmt: skip
    return {
        "version": "1",
        "preflight": found,
        "stages": [{"name": "a", "steps": [{"name": "wait", "wait": "1h"}]}],
    }


def _job(version: str) -> dict[str, Any]:
    env = [{"name": "FAKE_EXIT", "value": "3"}, {"name": "FAKE_OUTPUT", "value": HOSTILE}]
    job = {"image": "shop/broken:$(version)", "command": ["fail"], "env": env}
    return {"version": version, "stages": [{"name": "a", "steps": [{"name": "fail", "job": job}]}]}


def _big() -> dict[str, Any]:
    """As much as the API server takes."""
    steps = [
        {
            "name": f"s{number}",
            "job": {"image": "shop/x:1", "command": ["run", "y" * 4000], "args": ["z" * 4000] * 4},
        }
        for number in range(20)
    ]
    return {
        "version": "1",
        "suspend": True,
        "stages": [{"name": f"a{number}", "steps": steps} for number in range(2)],
    }


async def _make_hostile(tenant: Tenant) -> int:
    """A Release that is as costly to read as the API server lets it be; how many lists that one
    takes."""
    lists = LISTS
    while lists > 1000:
        if (
            await tenant.send("POST", f"{GROUP}/{tenant.namespace}/releases", _hostile(lists))
            == 201
        ):
            return lists
        lists //= 2
    raise RuntimeError("the API server takes no Release with many lists")


def _hostile(lists: int) -> bytes:
    job = {"template": {"x": "@"}}
    spec = {"version": "1", "stages": [{"name": "a", "steps": [{"name": "b", "job": job}]}]}
    body = {
        "apiVersion": "gatewright.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "hostile"},
        "spec": spec,
    }
    nested = b"[" * DEEP + b"]" * DEEP + b",[]" * lists
    return json.dumps(body).encode().replace(b'"@"', b"[" + nested + b"]")


async def _annotate(tenant: Tenant) -> None:
    """All of the hostile Release is told again with each new annotation."""
    for number in itertools.count():
        body = {"metadata": {"annotations": {"edited": str(number)}}}
        await tenant.send("PATCH", f"{GROUP}/{tenant.namespace}/releases/hostile", body, MERGE)
        await asyncio.sleep(0.5)


async def _idle(port: int) -> None:
    """A connection that says nothing, and another one when it is dropped."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.read()
            writer.close()
        await asyncio.sleep(0.2)


async def _edit(tenant: Tenant) -> None:
    """The same Releases again and again, as fast as twenty times a second."""
    for number in itertools.count():
        body = {"metadata": {"annotations": {"edited": str(number)}}}
        where = f"{GROUP}/{tenant.namespace}/releases/edited-{number % PATCHED}"
        await tenant.send("PATCH", where, body, MERGE)
        await asyncio.sleep(0.05)


async def _ask_people(tenant: Tenant) -> None:
    """People who want everything."""
    for number in itertools.count():
        spec = {
            "release": f"edited-{number % PATCHED}",
            "action": ("Rollback", "Retry", "Abort")[number % 3],
        }
        await tenant.make("Intervention", f"i{number}", {**spec, "by": "admin"})
        await asyncio.sleep(0.1)


async def _new_versions(tenant: Tenant) -> None:
    """Jobs that fail with a message that is costly to read."""
    for number in itertools.count(2):
        await tenant.change(f"edited-{number % PATCHED}", {"version": str(number)})
        await asyncio.sleep(0.25)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
