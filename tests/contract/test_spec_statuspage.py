"""Requests of statuspage, against Statuspage's own OpenAPI file."""

from __future__ import annotations

import pytest

from gatewright.providers.registry import CONNECTIONS
from gatewright.providers.statuspage import connection as statuspage
from tests.contract import specs, world
from tests.contract.telling import STARTED, told
from tests.contract.test_statuspage import CONFIG, DOWN, ENDED, RESTORED, ROLLING, link
from tests.fakes.serving import serving
from tests.fakes.statuspage import Statuspage


async def test_requests_are_those_of_statuspage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuspage, "REQUEST_SPACING_S", 0.0)
    async with serving(Statuspage(world.TOKEN).app()) as url:
        connection, handle = link(f"{url}/v1"), None
        with specs.recorded() as calls:
            await CONNECTIONS["statuspage"].check(connection)
            for message in (STARTED, DOWN, ROLLING, RESTORED, ENDED):
                handle = await told("statuspage", CONFIG, connection, message, handle)
    assert len(calls) == 8
    specs.load("statuspage").require(calls, base=connection.config.url)
