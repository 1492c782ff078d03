"""Requests of pagerduty, against PagerDuty's own OpenAPI file."""

from __future__ import annotations

from gatewright.providers.registry import CONNECTIONS
from tests.contract import specs
from tests.contract.telling import STARTED, message, told
from tests.contract.test_pagerduty import link, service
from tests.fakes.serving import serving


async def test_requests_are_those_of_pagerduty() -> None:
    async with serving(service().app()) as url:
        connection = link(url)
        with specs.recorded() as calls:
            await CONNECTIONS["pagerduty"].check(connection)
            await told("pagerduty", {}, connection, STARTED)
            handle = await told("pagerduty", {}, connection, message("StageFailed", "error"))
            await told(
                "pagerduty", {}, connection, message("RolledBack", "warning", over=True), handle
            )
    assert len(calls) == 5
    # the file leaves `/v2` to its server
    specs.load("pd_events").require(calls, base=f"{connection.config.url}/v2")
