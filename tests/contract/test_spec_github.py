"""Every request to GitHub, against GitHub's own description of its API, which comes from npm."""

from __future__ import annotations

from gatewright.providers.registry import ACTIONS, CONNECTIONS
from tests.contract import specs, world
from tests.contract.test_github import (
    CHECKS,
    DEPLOYMENT,
    ISSUES,
    SMOKE,
    do,
    follow,
    link,
    look,
    of,
    operation,
)
from tests.fakes.github import Github
from tests.fakes.serving import serving


async def test_every_request_is_one_of_githubs() -> None:
    fake = Github(world.TOKEN)
    with specs.recorded() as calls:
        async with serving(fake.app()) as url:
            connection = link(url)
            await _everything(fake, url)
    specs.load("github").require(calls, base=connection.config.url)
    assert len({(call.request.method, _shape(call.request.url.path)) for call in calls}) >= 16


async def _everything(fake: Github, url: str) -> None:
    connection = link(url)
    await CONNECTIONS["github"].check(connection)
    fake.labels |= {"P0"}
    for number in range(35):
        fake.check(f"lint {number}", "success")
    await world.verdict("github", CHECKS, connection, {})
    await world.verdict("github", ISSUES, connection, {"max": "0"})
    for config in (
        DEPLOYMENT,
        of(
            DEPLOYMENT,
            state="success",
            environmentUrl="https://a.example",
            logUrl="https://b.example",
        ),
    ):
        assert (await look(config, connection)).problem is None
        key = f"3.{config['deployment'].get('state', 'begin')}.mark.1-abc123"
        assert (await do(config, connection, key)).state == "Succeeded"
        assert (await follow(config, connection, key)).state == "Succeeded"
    smoke = of(SMOKE, inputs={"name": "x"})
    assert (await look(smoke, connection)).problem is None
    assert (await do(smoke, connection)).state == "Running"
    assert (await follow(smoke, connection)).state == "Running"
    fake.runs[0] |= {"status": "completed", "conclusion": "failure"}
    external = ACTIONS["github"]
    assert await external.trouble(external.config.model_validate(smoke), connection, operation())


def _shape(path: str) -> str:
    return "/".join("0" if part.isdigit() else part for part in path.split("/"))


def test_the_headers_are_githubs_own() -> None:
    access = link("https://api.github.com").config
    assert access.auth_headers(lambda source: "t") == {
        "Authorization": "Bearer t",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    assert type(access).model_fields["url"].default == "https://api.github.com"


async def test_a_request_that_is_not_githubs_is_noticed() -> None:
    fake = Github(world.TOKEN)
    with specs.recorded() as calls:
        async with serving(fake.app()) as url:
            await _everything(fake, url)
    spec = specs.load("github")
    post = next(
        call
        for call in calls
        if call.request.url.path.endswith("/deployments") and call.request.method == "POST"
    )
    base = str(post.request.url.with_path("/"))
    for wrong in (
        {"url": post.request.url.with_path("/repos/acme/shop/deploys")},
        {"url": f"{post.request.url}?environment=x"},
        {"json": {"environment": "production"}},
        {"json": {"ref": "main", "environement": "production"}},
        {"json": {"ref": "main", "required_contexts": "none"}},
    ):
        request = specs.request(
            "POST", **{"url": post.request.url, "json": {"ref": "main"}, **wrong}
        )
        assert spec.problems(specs.Call(request, None), base), wrong
    assert not spec.problems(post, base)
