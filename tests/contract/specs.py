"""Requests to vendors, checked against the vendors' own OpenAPI files.

The files are the vendors' and no part of this repository. `load` looks for them where
`GATEWRIGHT_SPECS` points to, else in `../shared/specs` beside the checkout; GitHub's comes from its
npm package, once, into the cache.

Every request that any contract test makes is checked (`vendors`), where the file is to be had:
nobody lists requests, so none can be forgotten. Tests that look at answers too, or at what a file
tells, need the file:

    async def test_requests_are_the_vendors() -> None:
        with specs.recorded() as calls:
            ...                                         # drive the provider against its fake
        specs.load("sentry").require(calls, base=link.config.url)

Such a test is skipped with the reason where the file is nowhere, and fails there in CI.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, unquote

import yaml
from multidict import CIMultiDict
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.templating.paths.exceptions import PathError
from openapi_core.templating.paths.finders import APICallPathFinder
from werkzeug.datastructures import Headers, ImmutableMultiDict
from yarl import URL

from gatewright.ports import OpenConnection
from gatewright.providers.common import client, replies
from tests.cluster.paths import CHECKOUT, cache_dir, locked
from tests.contract.world import missing

HOST = "https://vendor.invalid"
"""Stands for every server that a file names: requests are compared by what comes after it."""
PACKAGES: Mapping[str, tuple[str, str]] = {
    "github": ("@octokit/openapi@23.0.2", "package/generated/api.github.com.json"),
}
"""Files that come from npm: the package, pinned, and the file in it."""
MAPS: Mapping[str, frozenset[str]] = {"statuspage": frozenset({"incident.components"})}
"""Objects whose keys are IDs, where a file writes one field `component_id` to say so."""


@dataclass(frozen=True)
class Call:
    """A request as it was built, and its answer, if there was one."""

    request: client.Request
    reply: replies.Reply | None
    link: OpenConnection | None = None
    """The Connection it went through."""


def request(
    method: str, url: str | URL, json: Any = None, headers: Mapping[str, str] | None = None
) -> client.Request:
    """A request that nobody sends."""
    content = None if json is None else dumps(json).encode()
    kind = {} if content is None else {"Content-Type": "application/json"}
    return client.Request(method, URL(url), CIMultiDict({**kind, **(headers or {})}), content)


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Every request that providers build through our client while this lasts."""
    calls: list[Call] = []
    carry = client.Client._carry_request

    async def noting(self: client.Client, request: client.Request, *rest: Any) -> replies.Reply:
        reply = None
        try:
            reply = await carry(self, request, *rest)
            return reply
        finally:
            calls.append(Call(request, reply, self._link))

    with mock.patch.object(client.Client, "_carry_request", noting):
        yield calls


def folder() -> Path | None:
    """Where the vendors' files are, if they are here."""
    named = os.environ.get("GATEWRIGHT_SPECS")
    path = Path(named) if named else CHECKOUT.parent / "shared" / "specs"
    return path if path.is_dir() else None


@functools.cache
def load(name: str, under: str = "") -> Spec:
    """A vendor's file, by its name without suffix; skips the test where it is not to be had.

    `under` is what a Connection's URL leaves out of the server that the file names, as `/v1`.
    """
    return Spec(name, read(name), under)


def read(name: str) -> Any:
    """The same as it stands there."""
    found = folder()
    for path in sorted(found.glob(f"{name}.*")) if found is not None else []:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if name in PACKAGES:
        return json.loads(_from_npm(*PACKAGES[name]).read_text(encoding="utf-8"))
    missing(
        f"the OpenAPI file of {name} is not here: point GATEWRIGHT_SPECS to a folder that has it"
    )
    raise AssertionError("unreachable")


class Spec:
    """A vendor's OpenAPI file."""

    def __init__(self, name: str, document: dict[str, Any], under: str = "") -> None:
        self.name = name
        for item in document["paths"].values():
            for place in (item, *(part for part in item.values() if isinstance(part, dict))):
                place.pop("servers", None)
        document["servers"] = [{"url": f"{HOST}{under}"}]
        # what the vendor wrote is taken as it is: some files break rules of OpenAPI itself
        self._openapi = OpenAPI.from_dict(document, config=Config(spec_validator_cls=None))

    def require(self, calls: Iterable[Call], base: str, *, replies: bool = False) -> None:
        """Fail unless there were requests, and each is one that the file describes; with `replies`,
        the answers too."""
        calls = list(calls)
        assert calls, "no request was recorded"
        found = [
            problem for call in calls for problem in self.problems(call, base, replies=replies)
        ]
        assert not found, "\n".join(found)

    def problems(self, call: Call, base: str, *, replies: bool = False) -> list[str]:
        """What the file has against a request to a Connection with this base URL."""
        request = _Request(call.request, base)
        what = f"{self.name}: {call.request.method} {request.path}"
        try:
            operation = (
                APICallPathFinder(self._openapi.spec)
                .find(request.method, f"{HOST}{request.path}")
                .operation
            )
        except PathError as error:
            return [f"{what}: {error}"]
        found = [f"{what}: {_words(error)}" for error in self._openapi.iter_request_errors(request)]
        known = {item["name"] for item in _parameters(operation) if item["in"] == "query"}
        found += [
            f"{what}: no such query parameter: {name}"
            for name in request.parameters.query
            if name not in known
        ]
        strange = (
            name
            for name in _strange(operation, request)
            if name.rpartition(".")[0] not in MAPS.get(self.name, ())
        )
        found += [f"{what}: no such field in the body: {name}" for name in strange]
        if replies and call.reply is not None:
            answers = self._openapi.iter_response_errors(request, _Response(call.reply))
            found += [f"{what}: the answer: {_words(error)}" for error in answers]
        return found


class _Request:
    """A request as openapi-core wants to see it."""

    def __init__(self, request: client.Request, base: str) -> None:
        prefix = URL(base).raw_path.rstrip("/")
        path = request.url.raw_path
        assert path.startswith(prefix), f"{path} is not below {base}"
        self.host_url = HOST
        self.path = path.removeprefix(prefix)
        self.method = request.method.lower()
        self.content_type = request.headers.get("content-type", "").lower()
        self.body = request.content or None
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(list(request.url.query.items())),
            header=Headers(list(request.headers.items())),
        )


class _Response:
    """The same of an answer."""

    def __init__(self, reply: replies.Reply) -> None:
        self.status_code = reply.status
        self.content_type = reply.headers.get("content-type", "").lower()
        self.headers = Headers(list(reply.headers.items()))
        self.data = reply.body


def _parameters(operation: Any) -> list[dict[str, Any]]:
    return [_plain(item) for item in operation["parameters"]] if "parameters" in operation else []


def _plain(item: Any) -> dict[str, Any]:
    with item.resolve() as resolved:
        return dict(resolved.contents)


def _strange(operation: Any, request: _Request) -> list[str]:
    """Fields of a body that its schema does not name, where it names any: vendors ignore what they
    do not know."""
    kind = request.content_type.partition(";")[0]
    if (
        not request.body
        or "requestBody" not in operation
        or kind not in operation / "requestBody" / "content"
    ):
        return []
    form = kind == "application/x-www-form-urlencoded"
    sent = dict(parse_qsl(request.body.decode())) if form else json.loads(request.body)
    return sorted(_unnamed(sent, operation / "requestBody" / "content" / kind / "schema"))


def _unnamed(sent: Any, schema: Any, where: str = "") -> Iterator[str]:
    if isinstance(sent, list) and "items" in schema:
        for item in sent:
            yield from _unnamed(item, schema / "items", where)
    if (
        not isinstance(sent, dict)
        or "properties" not in schema
        or schema.get("additionalProperties") is not None
    ):
        return
    for name, value in sent.items():
        if name in schema / "properties":
            yield from _unnamed(value, schema / "properties" / name, f"{where}{name}.")
        else:
            yield f"{where}{name}"


def _words(error: BaseException) -> str:
    parts = [str(error)]
    parts += [str(getattr(item, "message", item)) for item in getattr(error, "schema_errors", ())]
    cause = error.__cause__
    while cause is not None:
        parts.append(str(cause))
        parts += [
            str(getattr(item, "message", item)) for item in getattr(cause, "schema_errors", ())
        ]
        cause = cause.__cause__
    return unquote("; ".join(dict.fromkeys(parts)))[:1000]


def _from_npm(package: str, member: str) -> Path:
    """One file of an npm package, kept in the cache."""
    target = cache_dir() / "specs" / package.replace("/", "-") / Path(member).name
    with locked("specs"):
        if target.exists():
            return target
        with tempfile.TemporaryDirectory(prefix="gatewright-npm-") as directory:
            command = ["npm", "pack", "--silent", "--pack-destination", directory, package]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=300)
            except (OSError, subprocess.SubprocessError) as error:
                missing(f"npm cannot get {package}: {error}")
            with tarfile.open(next(Path(directory).glob("*.tgz"))) as archive:
                file = archive.extractfile(member)
                assert file is not None, f"{package} holds no {member}"
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_suffix(".part")
                part.write_bytes(file.read())
                part.rename(target)
    return target
