"""A proxy between the operator and the API server that numbers every write, and can kill the
operator at any of them.

Towards the operator it speaks plain HTTP on 127.0.0.1, towards the API server HTTPS with the
operator's own client certificate. What stands between two writes of an operator is only reading and
thinking, so killing it at each write, in three positions, is killing it everywhere that matters:

    before      the write never reaches the API server
    committed   the API server has done it, the operator never hears of it
    after       the operator has heard of it, and had a moment to go on

Reads are not numbered, and neither are Leases, whose number depends on how long things take.
Watches are streamed as they come, and can be cut, or have single events dropped or duplicated.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from tests.harness.api import tls_of
from tests.harness.loop import Background

Position = Literal["before", "committed", "after"]
POSITIONS: tuple[Position, ...] = ("before", "committed", "after")
MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
INSTANCE = "instance/"
"""Stands in the user agent of what goes on to the API server, so that the audit log tells one
process from the next."""

_AFTER_SECONDS = 0.005  # for the operator to read a reply and begin what follows from it
_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "te",
        "trailer",
        "host",
    }
)
_NOT_SENT = _HOP | {"content-length", "authorization"}  # who the operator is, the certificate says


@dataclass(frozen=True, slots=True)
class Call:
    """One request of the operator. Times are `time.monotonic()`; `code` is 0 where no answer was
    given."""

    serial: int
    number: int | None
    """Place among the numbered writes; None for what is not numbered."""
    instance: int
    method: str
    path: str
    query: str
    agent: str
    digest: str
    body: bytes
    arrived: float
    code: int = 0
    answered: float = 0.0

    @property
    def writes(self) -> bool:
        return self.method in MUTATING

    @property
    def resource(self) -> str:
        """Plural, with its subresource: `releases/status`."""
        return resource_of(self.path)

    @property
    def makes_job(self) -> bool:
        """Whether it makes a Job; a trial of a policy (a dry run) makes none."""
        return (self.method, self.resource) == ("POST", "jobs") and "dryRun" not in self.query

    @property
    def watches(self) -> bool:
        return parse_qs(self.query).get("watch", ["0"])[0] in ("1", "true", "True")

    def __str__(self) -> str:
        return f"#{self.number} {self.method} {self.path} -> {self.code}"


Act = Literal["kill", "answer", "delay", "drop"]


@dataclass(slots=True)
class Fault:
    """What to do with which requests. It is spent after `times` uses."""

    when: Callable[[Call], bool]
    act: Act
    position: Position = "before"
    """For kill and drop."""
    code: int = 503
    retry_after: str | None = None
    seconds: float = 0.0
    times: int = 1
    used: int = 0


def kill_at(number: int, position: Position) -> Fault:
    """SIGKILL at a numbered write."""
    return Fault(lambda call: call.number == number, "kill", position)


def answer(
    code: int, when: Callable[[Call], bool], times: int = 1, retry_after: str | None = None
) -> Fault:
    """An error instead of the API server's answer; the request does not reach it."""
    return Fault(when, "answer", code=code, times=times, retry_after=retry_after)


WatchAct = Literal["drop", "duplicate", "cut"]


@dataclass(slots=True)
class WatchFault:
    """What to do with one event of a watch: the `nth` (from 1) that `when` accepts; with 0, with
    each of them."""

    when: Callable[[str, dict[str, Any]], bool]
    """Gets the resource and the event."""
    act: WatchAct
    nth: int = 1
    seen: int = 0


@dataclass(slots=True)
class _Scope:
    """Which writes are numbered."""

    namespace: str | None = None
    events: bool = False
    count: int = 0

    def counts(self, method: str, path: str) -> bool:
        if method not in MUTATING:
            return False
        resource = resource_of(path)
        if resource == "leases" or (resource == "events" and not self.events):
            return False
        return self.namespace is None or f"/namespaces/{self.namespace}/" in path + "/"


@dataclass(slots=True, eq=False)
class _Stream:
    resource: str
    response: aiohttp.ClientResponse
    cut: bool = field(default=False)


class Proxy:
    """One proxy for one operator; `kubeconfig` is what the operator gets."""

    def __init__(self, background: Background, upstream: Path, directory: Path) -> None:
        self._background = background
        self._upstream, self._tls = tls_of(upstream)
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.watch_faults: list[WatchFault] = []
        self.on_call: Callable[[Call], None] | None = None
        """Called on the loop with every request as it arrives, before anything is done with it."""
        self.kill: Callable[[], None] = lambda: None
        """Kills the operator, hard and at once; the operator's starter sets it."""
        self.killed = threading.Event()
        self.instance = 0
        self._instances: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._serial = 0
        self._scope = _Scope()
        self._streams: set[_Stream] = set()
        self.port = background.run(self._start())
        self.kubeconfig = directory / f"proxy-{self.port}.kubeconfig"
        self.kubeconfig.write_text(json.dumps(_kubeconfig(f"http://127.0.0.1:{self.port}")))

    # ----------------------------------------------------------------------------------------------
    # What tests use

    def number(self, namespace: str | None, *, events: bool = False) -> None:
        """Begin to number again from 1: the writes in a namespace, those of Events only if asked
        for."""
        self._scope = _Scope(namespace, events)

    @property
    def count(self) -> int:
        """Numbered writes so far."""
        return self._scope.count

    def writes(self, namespace: str | None = None) -> list[Call]:
        """The numbered writes, in order of arrival."""
        return [call for call in self.calls if call.number is not None and (namespace is None or
                f"/namespaces/{namespace}/" in call.path)]  # fmt: skip

    @contextlib.contextmanager
    def fault(self, *faults: Fault | WatchFault) -> Iterator[None]:
        """Faults for the time of a block."""
        for one in faults:
            (self.faults if isinstance(one, Fault) else self.watch_faults).append(one)  # type: ignore[arg-type]
        try:
            yield
        finally:
            self.faults = [one for one in self.faults if one not in faults]
            self.watch_faults = [one for one in self.watch_faults if one not in faults]

    def cut_watches(self, resource: str | None = None) -> int:
        """Cut the open watches of a resource, or all; returns how many."""

        async def cut() -> int:
            found = [one for one in self._streams if resource in (None, one.resource)]
            for one in found:
                one.cut = True
                one.response.close()
            return len(found)

        return self._background.run(cut())

    def watched(self) -> set[str]:
        """Resources with an open watch."""
        return {one.resource for one in list(self._streams)}

    def close(self) -> None:
        self._background.run(self._stop())

    # ----------------------------------------------------------------------------------------------
    # Life

    async def _start(self) -> int:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=10),
        )
        self._runner = web.ServerRunner(
            web.Server(self._handle, keepalive_timeout=600), shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        for one in list(self._streams):
            one.response.close()
        await self._runner.cleanup()
        await self._session.close()

    # ----------------------------------------------------------------------------------------------
    # Requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        arrived = time.monotonic()
        body = await request.read()
        call = self._note(request, body, arrived)
        if self.on_call is not None:
            self.on_call(call)
        fault = next((one for one in self.faults if one.used < one.times and one.when(call)), None)
        if fault is not None:
            fault.used += 1
            return await self._faulty(request, call, fault)
        return await self._forward(request, call)

    def _note(self, request: web.BaseRequest, body: bytes, arrived: float) -> Call:
        parts = urlsplit(request.raw_path)
        number = None
        if self._scope.counts(request.method, parts.path):
            self._scope.count += 1
            number = self._scope.count
        # A request belongs to the process that opened its connection, even if it is read after that
        # one's death.
        instance = self._instances.setdefault(request.transport, self.instance)
        self._serial += 1
        agent = request.headers.get("User-Agent", "")
        digest = hashlib.sha256(body).hexdigest()[:16] if body else ""
        kept = body if request.method in MUTATING else b""
        call = Call(
            self._serial,
            number,
            instance,
            request.method,
            parts.path,
            parts.query,
            agent,
            digest,
            kept,
            arrived,
        )
        self.calls.append(call)
        return call

    async def _faulty(
        self, request: web.BaseRequest, call: Call, fault: Fault
    ) -> web.StreamResponse:
        if fault.act == "delay":
            await asyncio.sleep(fault.seconds)
            return await self._forward(request, call)
        if fault.act == "answer":
            self._answered(call, fault.code)
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            return web.json_response(_status(fault.code), status=fault.code, headers=headers)
        if fault.position == "before":
            return self._lose(request, call, fault)
        if fault.position == "committed":
            await self._fetch(call, request)
            return self._lose(request, call, fault)
        response = await self._forward(request, call)
        await response.prepare(request)
        await response.write_eof()
        await asyncio.sleep(_AFTER_SECONDS)
        return self._lose(request, call, fault, response)

    def _lose(
        self,
        request: web.BaseRequest,
        call: Call,
        fault: Fault,
        response: web.StreamResponse | None = None,
    ) -> web.StreamResponse:
        if fault.act == "kill":
            self.kill()
            self.killed.set()
        if request.transport is not None:
            request.transport.abort()
        return response or web.Response(status=502)

    async def _fetch(
        self, call: Call, request: web.BaseRequest
    ) -> tuple[int, dict[str, str], bytes]:
        async with self._send(call, request) as found:
            content = await found.read()
            self._answered(call, found.status)
            return found.status, _passed_on(found.headers), content

    def _send(self, call: Call, request: web.BaseRequest) -> Any:
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in _NOT_SENT
        }
        headers["User-Agent"] = f"{call.agent} {INSTANCE}{call.instance}"
        return self._session.request(
            call.method,
            URL(self._upstream + request.raw_path, encoded=True),
            data=call.body or None,
            headers=headers,
            skip_auto_headers=("Accept-Encoding", "Accept", "Content-Type"),
            allow_redirects=False,
        )

    async def _forward(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        if call.watches:
            return await self._stream(request, call)
        try:
            status, headers, content = await self._fetch(call, request)
        except aiohttp.ClientError as error:
            return web.json_response(_status(502, str(error)), status=502)
        return web.Response(status=status, headers=headers, body=content)

    def _answered(self, call: Call, code: int) -> None:
        self.calls[call.serial - 1] = replace(call, code=code, answered=time.monotonic())

    # ----------------------------------------------------------------------------------------------
    # Watches

    async def _stream(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        async with self._send(call, request) as found:
            self._answered(call, found.status)
            response = web.StreamResponse(status=found.status, headers=_passed_on(found.headers))
            response.enable_chunked_encoding()
            await response.prepare(request)
            stream = _Stream(call.resource, found)
            self._streams.add(stream)
            try:
                await self._pump(stream, response)
                await response.write_eof()
            except (aiohttp.ClientError, ConnectionError):
                if request.transport is not None:
                    request.transport.abort()
            finally:
                self._streams.discard(stream)
            return response

    async def _pump(self, stream: _Stream, response: web.StreamResponse) -> None:
        rest = b""
        async for chunk in stream.response.content.iter_any():
            if stream.cut:
                raise ConnectionResetError
            *lines, rest = (rest + chunk).split(b"\n")
            out = b"".join(self._event(stream.resource, line) for line in lines)
            if out:
                await response.write(out)

    def _event(self, resource: str, line: bytes) -> bytes:
        for fault in self.watch_faults:
            if 0 < fault.nth <= fault.seen or not fault.when(resource, json.loads(line)):
                continue
            fault.seen += 1
            if fault.nth in (0, fault.seen):
                if fault.act == "cut":
                    raise ConnectionResetError
                return b"" if fault.act == "drop" else (line + b"\n") * 2
        return line + b"\n"


def resource_of(path: str) -> str:
    """`releases/status` of `/apis/gatewright.dev/v1alpha1/namespaces/a/releases/b/status`."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    if not parts:
        return ""
    return f"{parts[0]}/{parts[2]}" if len(parts) > 2 else parts[0]


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_SENT}


def _status(code: int, message: str = "planted by a test") -> dict[str, Any]:
    reasons = {
        409: "Conflict",
        429: "TooManyRequests",
        500: "InternalError",
        503: "ServiceUnavailable",
    }
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reasons.get(code, "Unknown"),
        "code": code,
    }


def _kubeconfig(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "operator", "user": {"token": "the-proxy-has-the-certificate"}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        "current-context": "proxy",
    }
