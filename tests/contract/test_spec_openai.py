"""Requests of openai gates, and the stand-in's answers, against OpenAI's own OpenAPI file."""

from __future__ import annotations

from tests.contract import specs, world
from tests.contract.test_openai import MODELS, app, link
from tests.fakes.serving import serving


async def test_requests_and_answers_are_those_of_openai() -> None:
    async with serving(app(200, MODELS)) as url:
        connection = link(f"{url}/v1")
        with specs.recorded() as calls:
            assert (await world.verdict("openai", {}, connection, {}))[0] == "Good"
    specs.load("openai").require(calls, base=connection.config.url, replies=True)
