"""Requests of ofrep gates against the protocol's own OpenAPI file."""

from __future__ import annotations

from gatewright.providers.registry import CONNECTIONS
from tests.contract import specs, world
from tests.contract.test_ofrep import flags, link
from tests.fakes.serving import serving


async def test_requests_are_those_of_ofrep() -> None:
    async with serving(flags().app()) as url:
        connection = link(url)
        with specs.recorded() as calls:
            await CONNECTIONS["ofrep"].check(connection)
            for flag in ("voice", "theme", "missing", "invalid", "settings"):
                await world.verdict(
                    "ofrep", {"flag": flag, "users": ["ada"], "others": ["alan"]}, connection, {}
                )
    # not the answers: in the file every value is also that of a flag without one, and exactly one
    # is demanded
    specs.load("ofrep").require(calls, base=connection.config.url)
