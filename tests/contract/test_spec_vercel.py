"""Bodies of requests to Vercel, against the schemas of its own SDK; method, path and query are
checked everywhere."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection
from gatewright.providers.registry import CONNECTIONS, EXTERNAL_TARGETS, FLAGS
from tests.contract import specs, world
from tests.contract.sdk import Sdk
from tests.contract.test_vercel import ENV, LCP, P95, RATIO
from tests.contract.test_vercel_flags import CONFIG as SWITCHES
from tests.contract.test_vercel_target import CONFIG
from tests.fakes import vercel
from tests.fakes.serving import linked, serving

UNTOLD = re.compile(
    r"no such field in the body: (autoAssignCustomDomains|(scope|granularity)\.\w+)$"
)
"""What the SDK leaves open: a field that `vercel deploy --skip-domain` sends, and two objects that
`vercel metrics` fills."""


async def _walk(
    provider: Any,
    config: dict[str, Any],
    link: OpenConnection,
    operation: Operation,
    snapshot: Any = None,
) -> None:
    checked = provider.config.model_validate(config)
    found = await provider.perform(checked, link, operation, snapshot)
    for _ in range(20):
        if found.state != "Running":
            break
        found = await provider.follow(checked, link, operation, snapshot)
        if found.state == "Absent":
            found = await provider.perform(checked, link, operation, snapshot)
    assert found.state == "Succeeded", found


async def _everything() -> tuple[list[specs.Call], str]:
    fake = vercel.Vercel(token=world.TOKEN)
    fake.set("OPENAI_API_KEY", "sk-5eCr3t", "sensitive")
    fake.set("NEXT_PUBLIC_ENABLE_VOICE_SYSTEM", "false", comment="ask the voice team")
    async with serving(fake.app()) as url:
        await fake.add("2.3.1")
        link = linked("vercel", {"url": url, "teamId": "team_foco"}, {"token": world.TOKEN})
        with specs.recorded() as calls:
            await CONNECTIONS["vercel"].check(link)
            for question, limits in (
                (ENV, {}),
                (RATIO, {"max": "1%"}),
                (P95, {"max": "1s"}),
                (LCP, {"max": "2s"}),
            ):
                await world.verdict("vercel", question, link, limits)
            host, flags = EXTERNAL_TARGETS["vercel"], FLAGS["vercel"]
            before = (await host.look(host.config.model_validate(CONFIG), link)).snapshot
            were = (await flags.look(flags.config.model_validate(SWITCHES), link)).snapshot
            await _walk(
                host, CONFIG, link, Operation("7.deploy.deploy.1-3f2a1c", "apply", "target/site")
            )
            await _walk(
                flags, SWITCHES, link, Operation("7.beta.flags.1-3f2a1c", "set", "flags/beta.flags")
            )
            back = Operation("7.rollback.beta.beta.flags.0-3f2a1c", "restore", "flags/beta.flags")
            await _walk(flags, SWITCHES, link, back, were)
            # A rotated key: the source is built again.
            fake.set("OPENAI_API_KEY", "sk-n3w", "sensitive")
            back = Operation("7.rollback.deploy.site.0-3f2a1c", "restore", "target/site")
            await _walk(host, CONFIG, link, back, before)
    return calls, url


async def test_every_body_is_one_of_vercels() -> None:
    calls, base = await _everything()
    sdk = Sdk()
    sent = [call.request for call in calls if call.request.content]
    asked = {
        operation.template
        for request in sent
        for operation in sdk.find(request, base)
        if operation.body
    }
    assert asked == {
        "/v13/deployments",
        "/v10/projects/{idOrName}/env",
        "/v9/projects/{idOrName}/env/{id}",
        "/v2/observability/query",
    }
    assert [words for words in sdk.judge(sent, base) if not UNTOLD.search(words)] == []


@pytest.mark.parametrize(
    "method, path, body, words",
    [
        ("POST", "/v13/deployments", {"project": "foco"}, "name"),
        ("POST", "/v13/deployments", {"name": "foco", "target": "live", "metta": {}}, "metta"),
        (
            "POST",
            "/v13/deployments",
            {"name": "foco", "gitSource": {"type": "github", "ref": 5}},
            "gitSource",
        ),
        (
            "POST",
            "/v10/projects/foco/env",
            {"key": "A", "value": "1", "type": "plane", "target": ["production"]},
            "type",
        ),
        ("PATCH", "/v9/projects/foco/env/env_1", {"valve": "1"}, "valve"),
        ("POST", "/v10/projects/foco/promote/dpl_1", {"now": True}, "has no body"),
    ],
)
def test_a_body_that_is_not_vercels_is_noticed(
    method: str, path: str, body: Any, words: str
) -> None:
    request = specs.request(method, f"http://127.0.0.1:1/behind{path}", json=body)
    found = Sdk().judge([request], "http://127.0.0.1:1/behind")
    assert any(words in problem for problem in found), found


@pytest.mark.parametrize(
    "method, target",
    [
        ("GET", "/v13/deployment/dpl_1"),
        ("PUT", "/v13/deployments/dpl_1"),
        ("POST", "/v1/projects/foco/rollback/dpl_1?reason=x"),
        ("GET", "/v6/deployments?project=foco"),
        ("GET", "/v9/projects/foco?rollback=true"),
    ],
)
def test_a_request_that_is_not_vercels_is_noticed(method: str, target: str) -> None:
    call = specs.Call(specs.request(method, f"http://127.0.0.1:1/behind{target}"), None)
    assert Sdk().problems(call, "http://127.0.0.1:1/behind")
