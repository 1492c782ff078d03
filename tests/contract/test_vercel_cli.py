"""The fake is right where the vendor's own CLI gets through with it; and emulate, which others
wrote, knows our requests."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection, Permanent
from gatewright.providers.registry import CONNECTIONS, EXTERNAL_TARGETS, FLAGS
from gatewright.providers.vercel import connection as api
from gatewright.providers.vercel import logs, rollout, withdrawing
from tests.cluster.processes import free_port
from tests.fakes import npm, vercel
from tests.fakes.serving import linked, serving

CLI = "vercel@54.21.1"
SDK = "@vercel/sdk@1.28.35"
EMULATE = "emulate@0.8.0"
KEY = "7.security-fixes.deploy.1-3f2a1c"
CONFIG: dict[str, Any] = {
    "project": "foco",
    "git": {"ref": "v2.4.0"},
    "smoke": {"path": "/api/health"},
}


@dataclass
class Terminal:
    """A directory that is linked to the project, as a developer's is."""

    fake: vercel.Vercel
    link: OpenConnection
    folder: Path

    async def vercel(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of the CLI."""
        program = str(npm.installed(CLI) / "vercel" / "dist" / "index.js")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "VERCEL_TELEMETRY_DISABLED": "1",
            "NO_UPDATE_NOTIFIER": "1",
            "NO_COLOR": "1",
            "CI": "1",
        }
        scope = ["--api", self.link.config.url, "--token", self.fake.token, "--scope", "foco-inc"]
        process = await asyncio.create_subprocess_exec(
            *("node", program, *arguments, *scope),
            cwd=self.folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), 120)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, output.decode()

    async def release(self) -> None:
        """2.4.0 by the provider, to its end."""
        host = EXTERNAL_TARGETS["vercel"]
        config, operation = (
            host.config.model_validate(CONFIG),
            Operation(KEY, "apply", "target/site"),
        )
        found = await host.perform(config, self.link, operation, None)
        while found.state == "Running":
            found = await host.follow(config, self.link, operation, None)
        assert found.state == "Succeeded", found


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    """A project whose production is 2.3.1."""
    fake = vercel.Vercel(token="tokenForTheCliOfVercel24")
    fake.set("OPENAI_API_KEY", "sk-5eCr3t", "sensitive")
    (tmp_path / ".vercel").mkdir()
    (tmp_path / ".vercel" / "project.json").write_text(
        json.dumps({"orgId": "team_foco", "projectId": "prj_foco"})
    )
    async with serving(fake.app()) as url:
        await fake.add("2.3.1")
        yield Terminal(
            fake,
            linked("vercel", {"url": url, "teamId": "team_foco"}, {"token": fake.token}),
            tmp_path,
        )


async def test_rollback_and_promote(terminal: Terminal) -> None:
    await terminal.release()
    code, output = await terminal.vercel("rollback", "dpl_1", "--yes")
    assert (code, "Success! foco was rolled back to" in output) == (0, True), output
    live = terminal.fake.live
    assert live is not None
    assert live.id == "dpl_1"
    host = EXTERNAL_TARGETS["vercel"]
    assert (await host.look(host.config.model_validate(CONFIG), terminal.link)).version == "2.3.1"
    code, output = await terminal.vercel("promote", "dpl_2", "--yes")
    assert (code, "Success! foco was promoted to" in output) == (0, True), output
    sight = await host.look(host.config.model_validate(CONFIG), terminal.link)
    assert (sight.version, sight.matches) == ("2.4.0", True)


async def test_a_rollback_whose_aliases_fail(terminal: Terminal) -> None:
    await terminal.release()
    terminal.fake.jobs = ["pending", "in-progress", "failed"]
    code, output = await terminal.vercel("rollback", "dpl_1", "--yes")
    assert (code, "Failed to remap all aliases" in output, "foco.mx" in output) == (
        1,
        True,
        True,
    ), output


async def test_a_promotion_behind_a_rolling_release(terminal: Terminal) -> None:
    await terminal.release()
    terminal.fake.project["rollingRelease"] = {"stages": [{"targetPercentage": 10}]}
    terminal.fake.rolling = {"canary": "dpl_2", "share": 10}
    code, output = await terminal.vercel("promote", "dpl_1", "--yes")
    assert (code, "Promotion has been queued" in output) == (0, True), output


async def test_variables_and_what_we_wrote_into_them(terminal: Terminal) -> None:
    flags = FLAGS["vercel"]
    config = flags.config.model_validate(
        {"project": "foco", "set": {"NEXT_PUBLIC_ENABLE_CRICO": "true"}}
    )
    await flags.perform(config, terminal.link, Operation(KEY, "set", "flags/beta"), None)
    code, output = await terminal.vercel("env", "ls", "production")
    assert code == 0, output
    lines = {line.split()[0]: line for line in output.splitlines() if line.strip().endswith("ago")}
    assert lines.keys() == {"OPENAI_API_KEY", "NEXT_PUBLIC_ENABLE_CRICO"}, output
    assert all("Production" in line for line in lines.values())
    assert "sk-5eCr3t" not in output


async def test_our_deployments_are_found_by_their_meta(terminal: Terminal) -> None:
    await terminal.release()
    terminal.fake.deployments["dpl_2"].log = [
        "Cloning github.com/foco/foco",
        "Build Completed in /vercel/output [1m]",
    ]
    code, output = await terminal.vercel("list", "foco", "--meta", f"gatewrightKey={KEY}", "--yes")
    urls = [line for line in output.splitlines() if line.startswith("https://")]
    assert (code, urls) == (0, [f"https://{terminal.fake.deployments['dpl_2'].url}"]), output
    code, output = await terminal.vercel("inspect", "dpl_2", "--logs")
    assert (code, "Build Completed in /vercel/output [1m]" in output) == (0, True), output


async def test_metrics(terminal: Terminal) -> None:
    terminal.fake.metrics = {("vercel.request.count", "sum"): 20_000}
    code, output = await terminal.vercel(
        *(
            "metrics",
            "vercel.request.count",
            "--project",
            "foco",
            "--since",
            "1h",
            "--prod",
            "--format",
            "json",
        )
    )
    assert code == 0, output
    found = json.loads(output[output.index("{") :])
    assert found["summary"] == [{"vercel_request_count_sum": 20_000}]


async def test_a_token_that_is_refused(terminal: Terminal) -> None:
    terminal.fake.token = "anotherTokenThanTheirs24"
    link = linked(
        "vercel", {"url": terminal.link.config.url}, {"token": "tokenForTheCliOfVercel24"}
    )
    with pytest.raises(Permanent, match="the token is not valid"):
        await CONNECTIONS["vercel"].check(link)


async def test_the_sdk_finds_nothing_strange(terminal: Terminal) -> None:
    """It checks requests and answers against the vendor's schema, from which it is generated."""
    fake = terminal.fake
    fake.shared = [
        {"id": "env_s", "key": "SENTRY_DSN", "value": "a", "target": ["production"], "updatedAt": 1}
    ]
    fake.phases = ["READY"]
    sdk = npm.installed(SDK) / "@vercel" / "sdk" / "esm" / "index.js"
    script = Path(vercel.__file__).with_name("vercel_sdk.mjs")
    process = await asyncio.create_subprocess_exec(
        *("node", str(script), str(sdk), terminal.link.config.url, fake.token),
        cwd=terminal.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = output.decode().splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert len(lines) == 19, lines


# --- emulate


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenConnection]:
    """emulate's Vercel, with a project and its variables."""
    folder = tmp_path_factory.mktemp("emulate")
    program = str(npm.installed(EMULATE) / "emulate" / "dist" / "index.js")
    variables = [
        {
            "key": "OPENAI_API_KEY",
            "value": "sk-5eCr3t",
            "type": "sensitive",
            "target": ["production"],
        },
        {
            "key": "NEXT_PUBLIC_ENABLE_VOICE",
            "value": "false",
            "type": "plain",
            "target": ["production"],
        },
        {"key": "ONLY_PREVIEW", "value": "x", "type": "plain", "target": ["preview"]},
    ]
    seed = {
        "tokens": {"test_token_admin": {"login": "admin"}},
        "vercel": {
            "users": [{"username": "admin", "email": "admin@example.com"}],
            "projects": [{"name": "foco", "envVars": variables}],
        },
    }
    (folder / "seed.json").write_text(json.dumps(seed))
    port = free_port()
    command = ["node", program, "--service", "vercel", "--seed", "seed.json", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                request = urllib.request.Request(
                    f"{url}/v2/user", headers={"Authorization": "Bearer test_token_admin"}
                )
                urllib.request.urlopen(request, timeout=1).close()
                break
            except (OSError, urllib.error.URLError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"emulate did not start: {error}\n{(folder / 'log').read_text()}"
                    ) from error
            time.sleep(0.1)
        yield linked("vercel", {"url": url}, {"token": "test_token_admin"}, timeout=5.0)
    finally:
        process.kill()
        process.wait(10)


async def test_emulate_knows_the_account_and_the_project(emulated: OpenConnection) -> None:
    await CONNECTIONS["vercel"].check(emulated)
    project = await api.fetch_project(emulated, "foco")
    now = await api.fetch_variables(emulated, project["id"])
    assert {item["key"] for item in now.own} == {"OPENAI_API_KEY", "NEXT_PUBLIC_ENABLE_VOICE"}
    assert abs(now.now / 1000 - time.time()) < 60
    host = EXTERNAL_TARGETS["vercel"]
    sight = await host.look(host.config.model_validate(CONFIG), emulated)
    assert "not connected to a Git repository" in str(sight.problem)


async def test_emulate_takes_our_variables_and_deployments(emulated: OpenConnection) -> None:
    """Written, marked, deployed and found again; it has no promotion, which is then no success."""
    project = await api.fetch_project(emulated, "foco")
    made = {"name": "foco", "project": project["id"], "target": "production"}
    git = {"type": "github", "repoId": 4711, "ref": "v2.3.1", "sha": "a" * 40}
    first = await api.call(emulated, "POST", "/v13/deployments", body={**made, "gitSource": git})
    assert first.status == 200
    live = (await api.fetch_project(emulated, "foco"))["targets"]
    assert live.get("production"), "emulate knows what production is"
    flags = FLAGS["vercel"]
    config = flags.config.model_validate(
        {
            "project": "foco",
            "set": {"NEXT_PUBLIC_ENABLE_VOICE": "true", "NEXT_PUBLIC_ENABLE_CRICO": "true"},
        }
    )
    sight = await flags.look(config, emulated)
    assert sight.snapshot is not None, sight.problem
    assert sight.snapshot["flags"]["NEXT_PUBLIC_ENABLE_VOICE"]["value"] == "false"
    operation = Operation(KEY, "set", "flags/beta")
    found = await flags.perform(config, emulated, operation, sight.snapshot)
    assert found.state == "Running"
    assert (await flags.look(config, emulated)).matches
    (one,) = await api.list_marked(emulated, project["id"], gatewrightKey=KEY)
    assert one["id"] == found.outputs["deployment"]


async def test_emulate_puts_flags_back(emulated: OpenConnection) -> None:
    """What was there has its value again, what was not is gone; it cannot roll back, which is then
    no success."""
    project = await api.fetch_project(emulated, "foco")
    flags = FLAGS["vercel"]
    wanted = {"NEXT_PUBLIC_ENABLE_VOICE": "on", "NEXT_PUBLIC_ENABLE_BETA": "on"}
    config = flags.config.model_validate({"project": "foco", "set": wanted})
    git = {"type": "github", "repoId": 4711, "ref": "v2.3.1", "sha": "a" * 40}
    made = {"name": "foco", "project": project["id"], "target": "production", "gitSource": git}
    await api.call(emulated, "POST", "/v13/deployments", body=made)
    before = await flags.look(config, emulated)
    kept = before.snapshot["flags"]["NEXT_PUBLIC_ENABLE_VOICE"]["value"]
    await flags.perform(
        config, emulated, Operation("8.beta.flags.1-3f2a1c", "set", "flags/beta"), before.snapshot
    )
    assert (await flags.look(config, emulated)).matches
    try:
        back = Operation("8.rollback.beta.beta.flags.0-3f2a1c", "restore", "flags/beta")
        found = await flags.perform(config, emulated, back, before.snapshot)
    except Permanent as error:
        assert "no such path (404)" in str(error)
    else:
        assert found.state != "Succeeded"
    left = {item["key"]: item for item in (await api.fetch_variables(emulated, project["id"])).own}
    assert "NEXT_PUBLIC_ENABLE_BETA" not in left
    assert "NEXT_PUBLIC_ENABLE_VOICE" in left
    assert (await flags.look(config, emulated)).snapshot["flags"]["NEXT_PUBLIC_ENABLE_VOICE"][
        "value"
    ] == kept


async def test_emulate_has_logs_and_lets_deployments_go(emulated: OpenConnection) -> None:
    project = await api.fetch_project(emulated, "foco")
    made = {"name": "foco", "project": project["id"], "target": "production"}
    git = {"type": "github", "repoId": 4711, "ref": "v2.4.0", "sha": "b" * 40}
    reply = await api.call(emulated, "POST", "/v13/deployments", body={**made, "gitSource": git})
    identity = json.loads(reply.body)["id"]
    assert await logs.fetch_build_log(emulated, identity) == "", (
        "its events are states, and no lines of a log"
    )
    found = await api.fetch_deployment(emulated, identity)
    assert found is not None and found["readyState"] == "READY"
    assert await withdrawing.withdraw_deployment(emulated, found) == ""
    assert await api.fetch_deployment(emulated, identity) is None
    with pytest.raises(Permanent, match=r"no such path \(404\)"):
        await rollout.promote_deployment(emulated, project, identity)
