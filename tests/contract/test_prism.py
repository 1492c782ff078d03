"""Every provider whose vendor has an OpenAPI file, against the server that Prism makes of it.

What is asked is judged by code that others wrote; what comes back are the file's examples, a limit,
a fault, or random data of the right shape.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from gatewright.core.model.operation import Progress
from gatewright.ports import Answer, OpenConnection, Permanent, Retryable
from gatewright.providers import registry
from gatewright.providers.common import client, replies
from gatewright.providers.statuspage import connection as statuspage
from tests.contract import cases, specs, vendors, world
from tests.contract.test_limits import ways
from tests.fakes import prism

KINDS = [key for key in vendors.VENDORS if key not in ("vercel", "prometheus")]
"""Vercel's file is in no package, and Prometheus itself is there to be asked."""
ROUNDS = 2
REQUEST = {"location": ["request"]}


@dataclass(frozen=True)
class Mocked:
    """A vendor's file that is served."""

    kind: str
    url: str

    def link(self) -> OpenConnection:
        """A Connection of its own: what one has met does not keep the next back."""
        return cases.link(self.kind, self.url, 10.0)

    def ways(self) -> list[Callable[[OpenConnection], Awaitable[Any]]]:
        """Every way of asking."""
        return [registry.CONNECTIONS[self.kind].check, *ways(self.kind)]


@pytest.fixture(scope="module", params=KINDS)
def mocked(request: pytest.FixtureRequest) -> Iterator[Mocked]:
    vendor = vendors.VENDORS[request.param]
    with prism.mocking(specs.read(vendor.file), vendor.under) as url:
        yield Mocked(request.param, url)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuspage, "REQUEST_SPACING_S", 0.0)


@pytest.fixture(autouse=True)
def _understood() -> Iterator[None]:
    with prism.understood():
        yield


async def test_every_request_is_taken(mocked: Mocked) -> None:
    for ask in mocked.ways():
        with specs.recorded() as calls, suppress(Retryable, Permanent):
            await ask(mocked.link())
        replies = [call.reply for call in calls if call.reply is not None]
        assert replies  # of questions asked at once, the others are given up when one fails
        assert [reply for reply in replies if _refused(reply)] == []


def _refused(reply: replies.Reply) -> bool:
    """Whether Prism had something against the request; it may also find its own answer wrong."""
    if reply.status < 300:
        return False
    return any(
        item["location"][0] == "request"
        for item in json.loads(reply.body).get("validation", [REQUEST])
    )


async def test_a_wrong_request_is_refused(mocked: Mocked) -> None:
    reply = await client.ask(world.http_link(mocked.url), "PATCH", "/nothing/of/the/kind")
    assert _refused(reply)


@pytest.mark.parametrize("code", prism.FORCED)
async def test_a_limit_and_a_fault_are_no_answers(mocked: Mocked, code: str) -> None:
    with prism.preferring(f"code={code}"):
        for ask in ways(mocked.kind):
            # Whose limits say that the key is good, if it is OpenAI.
            if mocked.kind == "openai" and code == "429":
                answer = await ask(mocked.link())
                assert isinstance(answer, Answer) and answer.value is None
                continue
            with pytest.raises(Retryable):
                await ask(mocked.link())


async def test_random_data_breaks_nothing(mocked: Mocked) -> None:
    with prism.preferring("dynamic=true"):
        for ask in mocked.ways() * ROUNDS:
            async with world.logs() as lines:
                try:
                    found = await ask(mocked.link())
                except (Retryable, Permanent) as error:
                    found = error
            world.assert_silent(found, *lines)
            assert not isinstance(found, Progress) or found.state != "Absent"
