"""A project on Vercel as a target: two phases forward, and back by the way that its variables ask
for.

The fake moves only when it is looked at, so a test walks as the operator does: `perform`, then
`follow` until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.core.run.clocks import format_time
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import EXTERNAL_TARGETS
from gatewright.providers.vercel.variable_marks import Mark, mark_of
from tests.contract import world
from tests.fakes import vercel
from tests.fakes.serving import linked, serving

BYPASS = "byp-5eCr3t-protection-bypass-42"
KEY = "7.security-fixes.deploy.1-3f2a1c"
BACK = "7.rollback.security-fixes.site.0-3f2a1c"
CONFIG: dict[str, Any] = {
    "project": "foco",
    "git": {"ref": "v2.4.0"},
    "smoke": {"path": "/api/health", "jsonPath": "$.version", "equals": "2.4.0"},
}
RUNNING, DONE, FAILED = "Running", "Succeeded", "Failed"


@dataclass
class Stage:
    """The fake, a Connection to it, and the provider with a configuration."""

    fake: vercel.Vercel
    link: OpenConnection
    config: Any
    host: Any = EXTERNAL_TARGETS["vercel"]

    def use(self, **fields: Any) -> None:
        """Change the target's configuration."""
        self.config = self.host.config.model_validate({**CONFIG, **fields})

    async def look(self) -> LiveState:
        found = await self.host.look(self.config, self.link)
        _silent(found)
        return found

    async def perform(
        self, kind: Any = "apply", snapshot: Mapping[str, Any] | None = None, key: str = KEY
    ) -> Progress:
        operation = Operation(key if kind == "apply" or key != KEY else BACK, kind, "target/site")
        found = await self.host.perform(self.config, self.link, operation, snapshot)
        _silent(found)
        return found

    async def follow(
        self, kind: Any = "apply", snapshot: Mapping[str, Any] | None = None, key: str = KEY
    ) -> Progress:
        operation = Operation(key if kind == "apply" or key != KEY else BACK, kind, "target/site")
        found = await self.host.follow(self.config, self.link, operation, snapshot)
        _silent(found)
        return found

    async def walk(
        self, kind: Any = "apply", snapshot: Mapping[str, Any] | None = None, looks: int = 20
    ) -> list[Progress]:
        """Perform, then follow as the operator would until it ends; what was said on the way."""
        said = [await self.perform(kind, snapshot)]
        while said[-1].state == RUNNING and len(said) < looks:
            found = await self.follow(kind, snapshot)
            said.append(await self.perform(kind, snapshot) if found.state == "Absent" else found)
        return said


def _silent(found: object) -> None:
    world.assert_silent(found)
    for value in (BYPASS, "sk-5eCr3t"):
        assert value not in repr(found)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A project whose production is 2.3.1, deployed an hour ago; its variables are older."""
    fake = vercel.Vercel(token=world.TOKEN, bypass=BYPASS)
    fake.set("OPENAI_API_KEY", "sk-5eCr3t-old", "sensitive")
    fake.set("NEXT_PUBLIC_APP_VERSION", "2", "plain")
    async with serving(fake.app()) as url:
        await fake.add("2.3.1")
        secrets = {"token": world.TOKEN, "protectionBypass": BYPASS}
        found = Stage(fake, linked("vercel", {"url": url, "teamId": "team_foco"}, secrets), None)
        found.use()
        yield found


# --- looking


async def test_look_records_production_and_no_value(stage: Stage) -> None:
    found = await stage.look()
    assert found.problem is None
    assert (found.version, found.matches) == ("2.3.1", False)
    snapshot = found.snapshot
    assert snapshot is not None
    live = stage.fake.live
    assert live is not None
    assert (snapshot["deployment"], snapshot["createdAt"], snapshot["version"]) == (
        live.id,
        live.created,
        "2.3.1",
    )
    assert snapshot["git"] == {
        "type": "github",
        "repoId": 4711,
        "ref": "v2.3.1",
        "sha": live.git["sha"],
    }  # type: ignore[index]
    assert snapshot["env"] == [
        [item["key"], item["id"], item["updatedAt"]] for item in stage.fake.env.values()
    ], "keys, ids and times only"


@pytest.mark.parametrize(
    "fields, meta, sha, matches",
    [
        ({}, {"gatewrightVersion": "2.4.0"}, "aa11bb2", True),
        ({}, {"gatewrightVersion": "2.3.1"}, "aa11bb2", False),
        ({"git": {"ref": "v2.3.1"}}, {}, "aa11bb2", True),
        ({"git": {"ref": "2.3.1"}}, {}, "aa11bb2", True),
        ({"git": {"ref": "main"}}, {"githubCommitRef": "main"}, "aa11bb2", False),
        ({"git": {"ref": "main"}}, {"gatewrightVersion": "main"}, "aa11bb2", False),
        (
            {"git": {"ref": "main", "sha": "aa11bb2"}},
            {"gatewrightVersion": "main"},
            "aa11bb2",
            True,
        ),
        (
            {"git": {"ref": "main", "sha": "aa11bb2"}},
            {"githubCommitRef": "main"},
            "aa11bb2cc",
            True,
        ),
        (
            {"git": {"ref": "main", "sha": "aa11bb3"}},
            {"githubCommitRef": "main"},
            "aa11bb2cc",
            False,
        ),
        (
            {"git": {"ref": "main", "sha": "aa11bb3"}, "version": "9"},
            {"gatewrightVersion": "9"},
            "aa11bb2",
            False,
        ),
        ({"git": {"ref": "main"}, "version": "9"}, {"gatewrightVersion": "9"}, "aa11bb2", True),
    ],
)
async def test_versions(
    stage: Stage, fields: dict[str, Any], meta: dict[str, str], sha: str, matches: bool
) -> None:
    live = stage.fake.live
    assert live is not None
    ref = meta.get("githubCommitRef", "v2.3.1")
    live.meta, live.git = meta, {"type": "github", "repoId": 4711, "ref": ref, "sha": sha}
    stage.use(**fields)
    assert (await stage.look()).matches is matches


async def test_look_says_what_is_missing(stage: Stage) -> None:
    stage.use(project="elsewhere")
    assert "no project elsewhere" in str((await stage.look()).problem)
    stage.use()
    stage.fake.project["link"] = None
    assert "not connected to a Git repository" in str((await stage.look()).problem)


async def test_a_project_without_production_has_nothing_to_return_to(stage: Stage) -> None:
    stage.fake.project["targets"] = {}
    found = await stage.look()
    assert (found.snapshot, found.problem, found.matches) == (None, None, False)
    with pytest.raises(Permanent, match="no snapshot"):
        await stage.perform("restore", None)


# --- forward


async def test_two_phases(stage: Stage) -> None:
    said = await stage.walk()
    assert [item.state for item in said] == [RUNNING] * (len(said) - 1) + [DONE], said
    live = stage.fake.live
    assert live is not None
    assert said[-1].outputs == {"deployment": live.id, "url": f"https://{live.url}"}
    assert (live.meta["gatewrightKey"], live.meta["gatewrightVersion"]) == (KEY, "2.4.0")
    assert (live.assign, live.target, live.git["ref"]) == (False, "production", "v2.4.0")  # type: ignore[index]
    words = " | ".join(item.message for item in said)
    for step in (
        "is made",
        "is building",
        "is being promoted",
        "the domains are moving to",
        "is production",
    ):
        assert step in words, words
    assert stage.fake.posts() == [
        "POST /v13/deployments",
        f"POST /v10/projects/prj_foco/promote/{live.id}",
    ]
    assert "forceNew=1" in next(
        path for path in stage.fake.asked if "skipAutoDetectionConfirmation" in path
    )
    assert (await stage.look()).matches


async def test_the_smoke_request_goes_before_and_carries_no_token(stage: Stage) -> None:
    said = await stage.walk()
    assert said[-1].state == DONE
    made = stage.fake.made(KEY)[0]
    assert [(identity, path) for identity, path, _ in stage.fake.served] == [
        (made.id, "/api/health")
    ]
    headers = stage.fake.served[0][2]
    assert headers["x-vercel-protection-bypass"] == BYPASS
    assert "Authorization" not in headers


async def test_again_after_a_crash_at_any_point(stage: Stage) -> None:
    """`perform` in place of every `follow`: as if the operator had forgotten everything before each
    look."""
    said = [await stage.perform()]
    while said[-1].state == RUNNING and len(said) < 20:
        said.append(await stage.perform())
    assert said[-1].state == DONE, said
    assert len(stage.fake.made(KEY)) == 1
    assert len([post for post in stage.fake.posts() if "promote" in post]) == 1


async def test_a_creation_whose_answer_was_lost_is_found(stage: Stage) -> None:
    async def lost(request: web.Request) -> web.StreamResponse:
        await stage.fake._create(request)
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    stage.link = linked(
        "vercel",
        {"url": stage.link.config.url, "teamId": "team_foco"},
        {"token": world.TOKEN},
        timeout=30.0,
    )
    stage.fake.bypass = ""
    stage.fake.faults = [("POST", "/v13/deployments", lost)]
    patient, stage.link = stage.link, dataclasses.replace(stage.link, timeout=2.0)
    with pytest.raises(Retryable):
        await stage.perform()
    assert len(stage.fake.made(KEY)) == 1, "it was lost before it was made"
    stage.fake.faults, stage.link = [], patient
    assert (await stage.walk())[-1].state == DONE
    assert len(stage.fake.made(KEY)) == 1


async def test_another_attempt_builds_anew(stage: Stage) -> None:
    """The same version after keys were rotated: it must be built again to have them."""
    assert (await stage.walk())[-1].state == DONE
    stage.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    again = KEY.replace("deploy", "redeploy")
    said = [await stage.perform(key=again)]
    while said[-1].state == RUNNING and len(said) < 20:
        said.append(await stage.follow(key=again))
    assert said[-1].state == DONE, said
    live = stage.fake.live
    assert live is not None
    assert live.baked["OPENAI_API_KEY"] == "sk-5eCr3t-new"


async def test_no_trace_is_absent(stage: Stage) -> None:
    assert (await stage.follow()).state == "Absent"
    assert (await stage.walk())[-1].state == DONE
    assert (await stage.follow(key="8.other.deploy.1-3f2a1c")).state == "Absent"


async def test_a_list_that_ignores_meta_is_looked_through(stage: Stage) -> None:
    """Sixty deployments since, and a server that does not filter: found on the second page, and not
    made again."""
    await stage.perform()
    made = stage.fake.made(KEY)[0]
    for _ in range(60):
        await stage.fake._make("production", {}, made.git, ["READY"])
    whole = stage.fake._list

    async def deaf(request: web.Request) -> web.StreamResponse:
        query = {
            name: value for name, value in request.query.items() if not name.startswith("meta-")
        }
        return await whole(request.clone(rel_url=request.rel_url.with_query(query)))

    stage.fake.faults = [("GET", "/v6/deployments", deaf)]
    assert (await stage.follow()).state == RUNNING
    assert sum("until=" in path for path in stage.fake.asked) == 1
    assert (await stage.follow(key="9.none.deploy.1-aaaaaa")).state == "Absent"


BUILD = 'Command "next build" exited with 1'
BROKEN = [
    # phases                   more of the answer                                             words
    (["BUILDING", "ERROR"], {"errorMessage": BUILD}, f"is ERROR: {BUILD}"),
    (
        ["QUEUED", "CANCELED"],
        {"readyStateReason": "superseded by a newer build"},
        "is CANCELED: superseded",
    ),
    (["BLOCKED"], {"seatBlock": {"blockCode": "TEAM_ACCESS_REQUIRED"}}, "is BLOCKED: TEAM_ACCESS"),
    (["READY", "DELETED"], {}, "is DELETED"),
    (["READY"], {"checksState": "completed", "checksConclusion": "failed"}, "dpl_2 have failed"),
    (["READY"], {"checksState": "completed", "checksConclusion": "canceled"}, "have canceled"),
]


@pytest.mark.parametrize(
    "row", BROKEN, ids=[row[0][-1] + str(index) for index, row in enumerate(BROKEN)]
)
async def test_a_deployment_that_fails(
    stage: Stage, row: tuple[list[str], dict[str, Any], str]
) -> None:
    stage.fake.phases = list(row[0])
    await stage.perform()
    made = stage.fake.made(KEY)[0]
    made.extra = dict(row[1])
    made.log = [
        "Installing dependencies...",
        "\x1b[31mType error: 'x' is not a number\x1b[0m",
        "OPENAI_API_KEY=sk-5eCr3t-1",
    ]
    if row[0] == ["READY", "DELETED"]:
        stage.fake.deployments[made.id].phases = ["DELETED"]
    said = await stage.walk()
    assert said[-1].state == FAILED, said
    assert row[2] in said[-1].message
    assert stage.fake.live is not None
    assert stage.fake.live.id == "dpl_1"
    if said[-1].message.partition(":")[0].endswith(("ERROR", "CANCELED", "BLOCKED")):
        assert (
            "its log ends: Installing dependencies... / Type error: 'x' is not a number / "
            "OPENAI_API_KEY=***"
        ) in said[-1].message


@pytest.mark.parametrize("state", ["ANALYZING", "", "ready", None])
async def test_a_state_that_is_not_known_is_stuck_and_never_success(
    stage: Stage, state: str | None
) -> None:
    stage.fake.phases = ["READY"]
    await stage.perform()
    made = stage.fake.made(KEY)[0]
    made.extra = {"readyState": state or "?", "status": state or "?"}
    found = await stage.follow()
    assert (found.state, found.stuck, "no state that is known" in found.message) == (
        RUNNING,
        True,
        True,
    )
    made.extra = {"checksState": "completed", "checksConclusion": "maybe"}
    found = await stage.follow()
    assert (found.state, found.stuck, "not known here" in found.message) == (RUNNING, True, True)
    made.extra = {"checksState": "running"}
    assert "are running" in (await stage.follow()).message
    assert not [post for post in stage.fake.posts() if "promote" in post]


@pytest.mark.parametrize(
    "answer, words",
    [
        ((503, {}), "answered 503, expected 200"),
        ((200, {"version": "2.3.1"}), '$.version is "2.3.1", expected "2.4.0"'),
        ((200, {}), "$.version is not in the body"),
    ],
)
async def test_a_smoke_request_that_is_not_answered_well_never_promotes(
    stage: Stage, answer: tuple[int, Any], words: str
) -> None:
    stage.fake.phases = ["READY"]
    await stage.perform()
    made = stage.fake.made(KEY)[0]
    made.answer = answer
    made.runtime = [
        {"level": "info", "message": "listening"},
        {"level": "error", "message": "Error: connect ECONNREFUSED postgres://app:pa55@db"},
    ]
    found = await stage.follow()
    assert (found.state, found.stuck, words in found.message) == (RUNNING, True, True), found
    assert made.ready is not None
    made.ready -= 61_000
    found = await stage.follow()
    assert (found.state, words in found.message) == (FAILED, True), found
    assert "its log ends: Error: connect ECONNREFUSED postgres://db" in found.message
    assert not [post for post in stage.fake.posts() if "promote" in post]


async def test_a_protected_deployment_without_the_secret(stage: Stage) -> None:
    url = stage.link.config.url
    stage.link = linked("vercel", {"url": url, "teamId": "team_foco"}, {"token": world.TOKEN})
    stage.fake.phases = ["READY"]
    await stage.perform()
    found = await stage.follow()
    assert (
        "answered 401, expected 200 (is the deployment protected? give the Connection its "
        "protectionBypass)"
    ) in found.message


async def test_domains_that_vercel_assigned_by_itself_are_no_free_pass(stage: Stage) -> None:
    await stage.perform()
    made = stage.fake.made(KEY)[0]
    made.assign = True  # as if the wish for no domains had been ignored
    made.answer = (500, {})
    said = await stage.walk()
    assert stage.fake.live is made
    assert said[-1].state == RUNNING
    assert "answered 500" in said[-1].message
    made.answer = None
    found = await stage.follow()
    assert (found.state, "assigned the domains before" in found.message) == (DONE, True), found


JOBS = [
    # phases of the alias job                  ends       stuck  words
    (["pending", "failed"], FAILED, False, "the domains could not be moved to dpl_2: foco.mx"),
    (
        ["pending", "skipped"],
        FAILED,
        False,
        "Vercel skipped the promote of dpl_2; production is dpl_1",
    ),
    (["pending", "paused"], RUNNING, True, "the promote of dpl_2 is paused: not known here"),
    (["pending", "pending", "pending"], RUNNING, False, "the domains are moving to dpl_2"),
]


@pytest.mark.parametrize("row", JOBS, ids=[row[0][-1] for row in JOBS])
async def test_alias_jobs(stage: Stage, row: tuple[list[str], Any, bool, str]) -> None:
    stage.fake.jobs = row[0]
    said = await stage.walk()
    assert (said[-1].state, said[-1].stuck) == (row[1], row[2]), said[-1]
    assert row[3] in said[-1].message
    assert len([post for post in stage.fake.posts() if "promote" in post]) == 1, "asked once"
    trouble = await stage.host.trouble(
        stage.config, stage.link, Operation(KEY, "apply", "target/site")
    )
    assert trouble is None or "log of dpl_2" in trouble


async def test_a_promotion_that_is_refused_for_now(stage: Stage) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return vercel.refused(409, "conflict", f"Another request is in progress {world.TOKEN}")

    stage.fake.phases = ["READY"]
    stage.fake.faults = [("POST", "/promote/", busy)]
    await stage.perform()
    found = await stage.follow()
    assert (found.state, found.stuck) == (RUNNING, True)
    assert (
        "the promotion of dpl_2 is refused for now (409): Another request is in progress ***"
        in found.message
    )
    stage.fake.faults = []
    assert (await stage.walk())[-1].state == DONE


# --- rolling releases


async def test_a_rolling_release_is_followed_to_its_end(stage: Stage) -> None:
    stage.fake.project["rollingRelease"] = {
        "stages": [{"targetPercentage": 10}, {"targetPercentage": 100}]
    }
    said = await stage.walk(looks=6)
    assert (said[-1].state, said[-1].message) == (RUNNING, "the rolling release of dpl_2 is at 10%")
    assert stage.fake.rolling is not None
    stage.fake.rolling["approval"] = True
    found = await stage.follow()
    assert (found.stuck, "until somebody approves" in found.message) == (True, True)
    stage.fake.roll_out()
    found = await stage.follow()
    assert (found.state, found.outputs["deployment"]) == (DONE, "dpl_2")


async def test_a_rolling_release_of_somebody_else_is_waited_for(stage: Stage) -> None:
    stage.fake.project["rollingRelease"] = {"stages": [{"targetPercentage": 10}]}
    other = await stage.fake._make("production", {}, None, ["READY"])
    stage.fake.rolling = {"canary": other.id, "share": 30}
    said = await stage.walk(looks=6)
    assert (said[-1].state, said[-1].stuck) == (RUNNING, True)
    assert f"waits for the rolling release of {other.id} (at 30%) to end" in said[-1].message
    assert not [post for post in stage.fake.posts() if "promote" in post]
    stage.fake.roll_out()
    await stage.follow()
    stage.fake.roll_out()
    assert (await stage.follow()).state == DONE


async def test_a_promotion_that_was_queued_behind_a_rolling_release(stage: Stage) -> None:
    """202: it began between our look and our request."""
    stage.fake.phases = ["READY"]
    stage.fake.project["rollingRelease"] = {"stages": [{"targetPercentage": 10}]}
    other = await stage.fake._make("production", {}, None, ["READY"])
    await stage.perform()
    promote = stage.fake._promote

    async def begun(request: web.Request) -> web.StreamResponse:
        stage.fake.rolling = {"canary": other.id, "share": 30}
        return await promote(request)

    stage.fake.faults = [("POST", "/promote/", begun)]
    found = await stage.follow()
    assert (found.state, "is queued behind a rolling release" in found.message) == (RUNNING, True)
    assert found.notable
    stage.fake.faults = []
    found = await stage.follow()
    assert found.notable
    assert (
        found.stuck,
        "its promotion is queued: waits for the rolling release" in found.message,
    ) == (False, True)
    stage.fake.roll_out()
    assert (
        await stage.follow()
    ).message == "the rolling release of dpl_2 is at 10%" or stage.fake.rolling
    stage.fake.roll_out()
    assert (await stage.follow()).state == DONE


async def test_the_way_back_stops_a_rolling_release(stage: Stage) -> None:
    stage.fake.project["rollingRelease"] = {"stages": [{"targetPercentage": 10}]}
    snapshot = (await stage.look()).snapshot
    await stage.walk(looks=6)
    assert stage.fake.rolling is not None
    said = await stage.walk("restore", snapshot)
    assert said[-1].state == DONE, said
    assert stage.fake.rolling is None
    assert "POST /v1/projects/prj_foco/rollback/dpl_1" in stage.fake.posts()


# --- back


async def test_an_instant_rollback(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    said = await stage.walk("restore", snapshot)
    assert said[-1].state == DONE, said
    assert stage.fake.live is not None
    assert stage.fake.live.id == "dpl_1"
    assert (
        "rolled back to dpl_1 instantly (no variable of production has changed since it was built)"
        in said[-1].message
    )
    assert (
        "Vercel assigns no domains to new deployments by itself until one is promoted"
        in said[-1].message
    )
    assert all(item.notable for item in said)
    assert f"description=Gatewright+{BACK}" in next(
        path for path in stage.fake.asked if "/rollback/" in path
    )
    assert len(stage.fake.deployments) == 2, "nothing was built"
    # and the next promotion says what it ends
    said = [await stage.perform(key="8.a.deploy.1-3f2a1c")]
    assert (
        "since the rollback to dpl_1 Vercel assigns no domains by itself" in said[0].message
        and said[0].notable
    )


async def test_rolling_back_again_after_a_crash_at_any_point(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    stage.fake.jobs = ["pending", "in-progress", "in-progress", "in-progress", "succeeded"]
    said = [await stage.perform("restore", snapshot)]
    while said[-1].state == RUNNING and len(said) < 20:
        said.append(await stage.perform("restore", snapshot))
    assert said[-1].state == DONE
    assert len([post for post in stage.fake.posts() if "rollback" in post]) == 1


async def test_nothing_to_return_from(stage: Stage) -> None:
    """The build failed: production never changed, and nobody is asked for anything."""
    snapshot = (await stage.look()).snapshot
    stage.fake.phases = ["ERROR"]
    assert (await stage.walk())[-1].state == FAILED
    before = stage.fake.posts()
    found = await stage.perform("restore", snapshot)
    assert (found.state, found.message) == (DONE, "production is dpl_1, as recorded")
    assert stage.fake.posts() == before


async def test_a_promotion_under_way_is_rolled_back_after_it(stage: Stage) -> None:
    """Production is the recorded deployment still, but not for long."""
    snapshot = (await stage.look()).snapshot
    stage.fake.jobs = ["pending"] * 12 + ["succeeded"]
    said = [await stage.perform()]
    while "promoted" not in said[-1].message:
        said.append(await stage.follow())
    stage.fake.jobs = ["pending", "succeeded"]
    with pytest.raises(Retryable, match="the rollback to dpl_1 is refused for now") as caught:
        await stage.perform("restore", snapshot)
    assert caught.value.after == 2.0
    while stage.fake._busy():  # until the promotion is over, each try is refused
        with contextlib.suppress(Retryable):
            await stage.perform("restore", snapshot)
            break
    said = await stage.walk("restore", snapshot, looks=40)
    assert said[-1].state == DONE, said[-1]
    assert stage.fake.live is not None
    assert stage.fake.live.id == "dpl_1"
    assert stage.fake.project["lastAliasRequest"]["type"] == "rollback"


async def test_a_promotion_on_its_way_does_not_overtake_the_rollback(stage: Stage) -> None:
    """An operator hangs in its smoke request while another one, or a later pass, rolls back:
    nothing was promoted yet."""
    snapshot = (await stage.look()).snapshot
    stage.fake.phases = ["READY"]
    stage.fake.hold = asyncio.Event()
    await stage.perform()
    late = asyncio.create_task(stage.follow())
    while not stage.fake.served:
        await asyncio.sleep(0.01)
    assert (await stage.follow("restore", snapshot)).state == "Absent", (
        "not done: something could be promoted still"
    )
    found = await stage.perform("restore", snapshot)
    assert (found.state, found.message) == (DONE, "production is dpl_1, as recorded")
    stage.fake.hold.set()
    with pytest.raises(Permanent, match="404"):
        await late
    assert stage.fake.live is not None
    assert stage.fake.live.id == "dpl_1"
    assert (await stage.follow("restore", snapshot)).state == DONE


async def test_a_build_under_way_is_cancelled_by_the_rollback(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    stage.fake.phases = ["BUILDING"]
    await stage.perform()
    found = await stage.perform("restore", snapshot)
    assert (found.state, stage.fake.made(KEY)[0].state) == (DONE, "CANCELED")
    assert "is CANCELED" in (await stage.follow()).message


async def test_what_was_production_is_not_withdrawn(stage: Stage) -> None:
    """Two stages were deployed and promoted; both deployments stay, and so does another run's that
    is staged."""
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    again = KEY.replace("deploy", "redeploy")
    found = await stage.perform(key=again)
    while found.state == RUNNING:
        found = await stage.follow(key=again)
    await stage.perform(key="9.other.deploy.1-ffffff")
    said = await stage.walk("restore", snapshot)
    assert said[-1].state == DONE, said
    assert stage.fake.deployments.keys() == {"dpl_1", "dpl_2", "dpl_3", "dpl_4"}
    assert not [post for post in stage.fake.posts() if post.startswith(("DELETE", "PATCH"))]


async def test_a_token_that_may_not_delete(stage: Stage) -> None:
    async def refused(request: web.Request) -> web.StreamResponse:
        return vercel.refused(403, "forbidden", "Not authorized")

    snapshot = (await stage.look()).snapshot
    stage.fake.phases = ["READY"]
    stage.fake.faults = [("DELETE", "", refused)]
    await stage.perform()
    found = await stage.perform("restore", snapshot)
    assert (found.state, "dpl_2 could not be withdrawn" in found.message) == (DONE, True), found


async def test_the_trap_a_rotated_key(stage: Stage) -> None:
    """An instant rollback would serve the revoked key: the old source is built again, with the new
    one."""
    sight = await stage.look()
    snapshot = sight.snapshot
    assert sight.restore_hint.startswith(
        "instantly to dpl_1; where a variable of production has changed by then, as a rotated key"
    )
    await stage.walk()
    stage.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    assert (await stage.follow("restore", snapshot)).state == "Absent"
    said = await stage.walk("restore", snapshot)
    assert said[-1].state == DONE, said
    live = stage.fake.live
    assert live is not None
    assert live.baked["OPENAI_API_KEY"] == "sk-5eCr3t-new"
    assert live.git == stage.fake.deployments["dpl_1"].git, "the source of 2.3.1, to the commit"
    assert live.meta["gatewrightVersion"] == "2.3.1"
    assert not [post for post in stage.fake.posts() if "rollback" in post]
    for item in said:
        assert (
            "redeploying 2.3.1 (dpl_1) with the current variables, because since it was "
            "built: OPENAI_API_KEY changed"
        ) in item.message
        assert item.notable, "people are told which way is taken, also while it goes well"
    assert (await stage.look()).version == "2.3.1"
    assert len(stage.fake.made(BACK)) == 1


@pytest.mark.parametrize("how", ["removed", "shared", "hidden", "added"])
async def test_every_other_change_of_a_variable_counts_too(stage: Stage, how: str) -> None:
    stage.fake.shared = [
        {"id": "env_s", "key": "SENTRY_DSN", "value": "a", "target": ["production"], "updatedAt": 1}
    ]
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    if how == "removed":
        stage.fake.env.pop(stage.fake.variable("NEXT_PUBLIC_APP_VERSION")["id"])
    elif how == "shared":
        stage.fake.shared[0] |= {"value": "b", "updatedAt": stage.fake.now()}
    elif how == "hidden":
        stage.fake.hidden = 1
    else:
        stage.fake.set("NEW", "x", age=0)
    said = await stage.walk("restore", snapshot)
    assert said[-1].state == DONE, said
    words = {
        "removed": "NEXT_PUBLIC_APP_VERSION removed",
        "shared": "SENTRY_DSN changed",
        "hidden": "1 variables of production are hidden",
        "added": "NEW changed",
    }
    assert words[how] in said[-1].message
    assert not [post for post in stage.fake.posts() if "rollback" in post]


async def test_a_preview_variable_does_not_count(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    stage.fake.set("ONLY_PREVIEW", "x", age=0, target=["preview"])
    assert "instantly" in (await stage.walk("restore", snapshot))[-1].message


async def test_a_recorded_deployment_that_is_gone(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    del stage.fake.deployments["dpl_1"]
    said = await stage.walk("restore", snapshot)
    assert (said[-1].state, "dpl_1 is gone" in said[-1].message) == (DONE, True), said
    assert stage.fake.live is not None
    assert stage.fake.live.meta["gatewrightVersion"] == "2.3.1"


async def test_a_deployment_without_git_is_redeployed_by_its_id(stage: Stage) -> None:
    stage.fake.deployments["dpl_1"].git = None
    stage.fake.deployments["dpl_1"].meta = {}
    snapshot = (await stage.look()).snapshot
    assert snapshot is not None
    assert snapshot["git"] is None
    await stage.walk()
    stage.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    await stage.perform("restore", snapshot)
    assert stage.fake.bodies[-1][2]["deploymentId"] == "dpl_1"


async def test_a_plan_that_refuses_the_rollback_promotes_instead(stage: Stage) -> None:
    async def hobby(request: web.Request) -> web.StreamResponse:
        return vercel.refused(402, "payment_required", "Rollback to the previous deployment only")

    snapshot = (await stage.look()).snapshot
    await stage.walk()
    stage.fake.faults = [("POST", "/rollback/", hobby)]
    said = await stage.walk("restore", snapshot)
    assert said[-1].state == DONE, said
    assert "the plan refuses a rollback to it" in said[0].message
    assert stage.fake.live is not None
    assert stage.fake.live.id == "dpl_1"


BACK_JOBS = [
    (["pending", "failed"], FAILED, "the domains could not be moved to dpl_1: foco.mx"),
    (["pending", "skipped"], FAILED, "Vercel skipped the rollback of dpl_1"),
    (["pending", "lost"], RUNNING, "the rollback of dpl_1 is lost: not known here"),
]


@pytest.mark.parametrize("row", BACK_JOBS, ids=[row[0][-1] for row in BACK_JOBS])
async def test_a_rollback_that_does_not_succeed(
    stage: Stage, row: tuple[list[str], Any, str]
) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    stage.fake.jobs = row[0]
    said = await stage.walk("restore", snapshot)
    assert (said[-1].state, row[2] in said[-1].message) == (row[1], True), said[-1]
    # somebody tries again, by another operation: that it failed before is no verdict on this one
    stage.fake.jobs = ["pending", "succeeded"]
    again = BACK.replace("7.", "8.")
    found = await stage.follow("restore", snapshot, again)
    assert found.state == ("Absent" if row[1] == FAILED or "lost" in row[2] else RUNNING)
    found = await stage.perform("restore", snapshot, again)
    for _ in range(5):
        if found.state == RUNNING:
            found = await stage.follow("restore", snapshot, again)
    assert found.state == DONE, found


async def test_a_failed_redeployment_fails_the_way_back(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    stage.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    stage.fake.phases = ["ERROR"]
    said = await stage.walk("restore", snapshot)
    assert (said[-1].state, "is ERROR" in said[-1].message) == (FAILED, True), said


def _later(fake: vercel.Vercel) -> str:
    """A while after what was made so far, as Operations have it."""
    return format_time(datetime.fromtimestamp(fake.now() / 1000 + 10, UTC))


@pytest.mark.parametrize("why", ["not moved", "moved away"])
async def test_a_repeated_restore_builds_again_what_did_not_become_production(
    stage: Stage, why: str
) -> None:
    """Seen: what had become of the first build was said of the second try, which tried nothing."""
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    stage.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    if why == "not moved":
        stage.fake.jobs = ["pending", "failed"]
    said = await stage.walk("restore", snapshot)
    first = stage.fake.made(BACK)[0].id
    if why == "not moved":
        assert f"the domains could not be moved to {first}" in said[-1].message
    else:
        stage.fake._serve(stage.fake.deployments["dpl_2"])
        stage.fake.project["lastAliasRequest"] = None
        assert (await stage.follow("restore", snapshot)).stuck

    key = f"{BACK.rpartition('-')[0]}.2-3f2a1c"
    stage.fake.jobs = ["pending", "succeeded"]
    again = Operation(key, "restore", "target/site", since=_later(stage.fake))
    found = await stage.host.perform(stage.config, stage.link, again, snapshot)
    for _ in range(20):
        if found.state == "Running":
            found = await stage.host.follow(stage.config, stage.link, again, snapshot)
        if found.state == "Absent":
            found = await stage.host.perform(stage.config, stage.link, again, snapshot)
    assert found.state == DONE, found
    (second,) = stage.fake.made(key)
    assert stage.fake.live is second


async def test_a_repeated_restore_takes_what_is_production_already(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk()
    stage.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    await stage.walk("restore", snapshot)
    key = f"{BACK.rpartition('-')[0]}.2-3f2a1c"
    again = Operation(key, "restore", "target/site", since=_later(stage.fake))
    found = await stage.host.perform(stage.config, stage.link, again, snapshot)
    assert found.state == DONE and stage.fake.made(key) == []


# --- marks of flags


def test_marks() -> None:
    mark = Mark("set", Operation(KEY, "apply", "target/site").run, 1234.0)
    text = mark.text("who may see the voice system")
    assert text == "who may see the voice system [gatewright set 7-3f2a1c was 1234]"
    assert mark_of({"comment": text}) == mark
    restored = Mark("restored", "7-3f2a1c", 1234.0, 5678.0)
    assert (
        restored.text(text)
        == "who may see the voice system [gatewright restored 7-3f2a1c was 1234 at 5678]"
    )
    assert mark_of({"comment": restored.text("x" * 600)}) == restored
    assert len(restored.text("x" * 600)) == 500
    assert mark_of({"comment": "somebody wrote [gatewright] here"}) is None
    assert mark_of({}) is None


# --- trouble


async def test_trouble(stage: Stage) -> None:
    stage.fake.phases = ["BUILDING"]
    operation = Operation(KEY, "apply", "target/site")
    assert await stage.host.trouble(stage.config, stage.link, operation) is None
    await stage.perform()
    made = stage.fake.made(KEY)[0]
    made.log = [f"line {index}" for index in range(100)]
    said = await stage.host.trouble(stage.config, stage.link, operation)
    assert said is not None
    assert said.startswith("dpl_2: its log ends: ") and said.endswith("line 98 / line 99")
    assert len(said) < 560
    made.phases = ["READY"]
    made.runtime = [{"level": "fatal", "message": f"Bearer {world.TOKEN} refused, token: abc"}]
    said = await stage.host.trouble(stage.config, stage.link, operation)
    assert said is not None
    assert said == "dpl_2: its log ends: Bearer *** refused, token: ***"
    world.assert_silent(said)


# --- everything that goes wrong

FAULTS = [
    ("400", Permanent),
    ("401", Permanent),
    ("403", Permanent),
    ("429", Retryable),
    ("500", Retryable),
    ("502-html", Retryable),
    ("time-out", Retryable),
    ("drip", Retryable),
    ("html", Permanent),
    ("not-json", Permanent),
    ("no-body", Permanent),
    ("ok", Permanent),
    ("null", Permanent),
    ("other-json", Permanent),
    ("deep", Permanent),
    ("oversized", Permanent),
    ("redirect", Permanent),
    ("broken", Retryable),
    ("garbage", Retryable),
    ("echo", Permanent),
]


@pytest.mark.parametrize("name, outcome", FAULTS, ids=[name for name, _ in FAULTS])
async def test_faults(
    server: world.Server, stage: Stage, name: str, outcome: type[Exception]
) -> None:
    snapshot = (await stage.look()).snapshot
    async with world.logs() as lines:
        for method in ("look", "perform", "follow", "restore"):
            url = server.url(name)
            stage.link = linked(
                "vercel",
                {"url": url},
                {"token": world.TOKEN, "protectionBypass": BYPASS},
                timeout=world.patience(name),
            )
            with pytest.raises(outcome) as caught:
                if method == "look":
                    await stage.look()
                elif method == "restore":
                    await stage.perform("restore", snapshot)
                else:
                    await getattr(stage, method)()
            world.assert_silent(caught.value)
            assert BYPASS not in str(caught.value)
    world.assert_silent(*lines)


@pytest.mark.parametrize(
    "path", ["/v13/deployments/dpl", "/v6/deployments", "/v10/projects/prj_foco/env", "/v1/env"]
)
@pytest.mark.parametrize("status", [401, 500, 429])
async def test_one_endpoint_that_does_not_answer_is_never_a_pass(
    stage: Stage, path: str, status: int
) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk()

    async def broken(request: web.Request) -> web.StreamResponse:
        return vercel.refused(status, "internal_server_error", f"no {world.TOKEN}")

    stage.fake.faults = [("GET", path, broken)]
    for kind, given in (("apply", None), ("restore", snapshot)):
        try:
            found = await stage.follow(kind, given)
        except (Retryable, Permanent) as error:
            world.assert_silent(error)
        else:
            assert found.state != DONE or (kind == "apply" and "env" in path), found


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"git": {"ref": "a b"}}, "git.ref"),
        ({"git": {"ref": "main", "sha": "HEAD"}}, "git.sha"),
        ({"project": "a/b"}, "project"),
        ({"smoke": {"path": "api/health"}}, "not a path"),
        ({"smoke": {"path": "/", "equals": "x"}}, "equals needs jsonPath"),
        ({"domains": []}, "domains"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        EXTERNAL_TARGETS["vercel"].config.model_validate({**CONFIG, **fields})


def test_identity() -> None:
    host = EXTERNAL_TARGETS["vercel"]
    assert host.identity(host.config.model_validate(CONFIG)) == "project/foco"
