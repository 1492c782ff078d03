"""Production that somebody moves elsewhere: what a run has made of it is compared with what it is,
and who has moved it.

One fake, one project, a target and flags on it, as a Release has them. Snapshots are taken right
before the first change of each, as the operator takes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web

from gatewright.core.model.holding import Standing
from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import EXTERNAL_TARGETS, FLAGS
from gatewright.providers.vercel.variable_marks import mark_of
from tests.contract import world
from tests.fakes import vercel
from tests.fakes.serving import linked, serving

VOICE, CRICO = "NEXT_PUBLIC_ENABLE_VOICE_SYSTEM", "NEXT_PUBLIC_ENABLE_CRICO"
SITE = {"project": "foco", "git": {"ref": "v2.4.0"}}
BETA = {"project": "foco", "set": {VOICE: "true", CRICO: "true"}}
APPLY = Operation("7.security-fixes.deploy.1-3f2a1c", "apply", "target/site", {"vercel": SITE})
AGAIN = Operation("7.security-fixes.redeploy.1-3f2a1c", "apply", "target/site", {"vercel": SITE})
BACK = Operation(
    "7.rollback.security-fixes.site.0-3f2a1c", "restore", "target/site", changes=(APPLY,)
)
SET = Operation("7.beta.flags.1-3f2a1c", "set", "flags/beta.flags", {"vercel": BETA})
UNSET = Operation("7.rollback.beta.flags.1-3f2a1c", "restore", "flags/beta.flags", changes=(SET,))


@dataclass
class Part:
    """A target, or flags: its provider and its configuration."""

    fake: vercel.Vercel
    link: OpenConnection
    provider: Any
    config: Any

    async def look(self) -> dict[str, Any]:
        """Its snapshot."""
        found: LiveState = await self.provider.look(self.config, self.link)
        world.assert_silent(found)
        assert found.snapshot is not None, found
        return dict(found.snapshot)

    async def perform(
        self, operation: Operation, snapshot: Mapping[str, Any] | None = None
    ) -> Progress:
        found: Progress = await self.provider.perform(self.config, self.link, operation, snapshot)
        world.assert_silent(found)
        return found

    async def follow(
        self, operation: Operation, snapshot: Mapping[str, Any] | None = None
    ) -> Progress:
        found: Progress = await self.provider.follow(self.config, self.link, operation, snapshot)
        world.assert_silent(found)
        return found

    async def step(
        self, operation: Operation, snapshot: Mapping[str, Any] | None = None
    ) -> Progress:
        """What the operator does at one look: follow, and perform what was never started."""
        try:
            found = await self.follow(operation, snapshot)
            return await self.perform(operation, snapshot) if found.state == "Absent" else found
        except Retryable as error:
            return Progress("Running", f"refused for a moment: {error}")

    async def walk(
        self, operation: Operation, snapshot: Mapping[str, Any] | None = None
    ) -> Progress:
        """To its end, or to where nothing goes on."""
        found = await self.perform(operation, snapshot)
        for _ in range(20):
            if found.state in ("Succeeded", "Failed") or found.stuck:
                break
            found = await self.step(operation, snapshot)
        return found

    async def compare(
        self, *operations: Operation, snapshot: Mapping[str, Any] | None = None
    ) -> Standing:
        found: Standing = await self.provider.compare(self.config, self.link, operations, snapshot)
        world.assert_silent(found)
        assert "sk-5eCr3t" not in repr(found)
        return found


@dataclass
class Project:
    """A project on the fake, with what a Release has there."""

    fake: vercel.Vercel
    site: Part
    beta: Part

    @property
    def live(self) -> vercel.Deployment:
        """What users get."""
        assert self.fake.live is not None
        return self.fake.live


@pytest.fixture
async def project() -> AsyncIterator[Project]:
    """Production is 2.3.1, deployed an hour ago; one flag is off, the other is not there yet."""
    fake = vercel.Vercel(token=world.TOKEN)
    fake.set("OPENAI_API_KEY", "sk-5eCr3t-old", "sensitive")
    fake.set(VOICE, "false", comment="ask the voice team")
    async with serving(fake.app()) as url:
        await fake.add("2.3.1")
        link = linked("vercel", {"url": url, "teamId": "team_foco"}, {"token": world.TOKEN})
        site = Part(
            fake,
            link,
            EXTERNAL_TARGETS["vercel"],
            EXTERNAL_TARGETS["vercel"].config.model_validate(SITE),
        )
        beta = Part(fake, link, FLAGS["vercel"], FLAGS["vercel"].config.model_validate(BETA))
        yield Project(fake, site, beta)


async def released(project: Project) -> dict[str, Any]:
    """2.4.0 is production; what was recorded before."""
    before = await project.site.look()
    assert (await project.site.walk(APPLY, before)).state == "Succeeded"
    assert project.live.id == "dpl_2"
    return before


# --- a target


async def test_what_was_promoted_is_live(project: Project) -> None:
    before = await released(project)
    asked = len(project.fake.requests)
    assert await project.site.compare(APPLY, snapshot=before) == Standing(version="2.4.0")
    assert len(project.fake.requests) - asked == 2, "two requests at each look while all is well"
    assert project.fake.posts() == [
        "POST /v13/deployments",
        "POST /v10/projects/prj_foco/promote/dpl_2",
    ]


async def test_a_push_to_the_production_branch(project: Project) -> None:
    before = await released(project)
    made = await project.fake.push("main", "ana")
    found = await project.site.compare(APPLY, snapshot=before)
    assert found.difference.startswith(
        f"production is dpl_3 (main, commit {made.git['sha'][:7]}) instead of dpl_2 (2.4.0):"  # type: ignore[index]
    ), found
    assert "made by ana at 20" in found.difference
    assert "Vercel gave it the domains at 20" in found.difference
    assert "its commit is ana-at-github's" in found.difference
    assert found.version == "main"


async def test_an_instant_rollback_in_the_dashboard(project: Project) -> None:
    before = await released(project)
    project.fake.move(
        "rollback", project.fake.deployments["dpl_1"], "ana", f"checkout is slow {world.TOKEN}"
    )
    found = await project.site.compare(APPLY, snapshot=before)
    assert "production is dpl_1 (2.3.1, commit " in found.difference
    assert ' by ana ("checkout is slow ***")' in found.difference
    assert found.version == "2.3.1"


async def test_a_promotion_in_the_dashboard(project: Project) -> None:
    before = await released(project)
    other = await project.fake.push("main", "ana", promoted=False)
    assert (await project.site.compare(APPLY, snapshot=before)).difference == "", (
        "it is built, and not production"
    )
    project.fake.move("promote", other)
    found = await project.site.compare(APPLY, snapshot=before)
    assert "instead of dpl_2 (2.4.0): promoted at 20" in found.difference


async def test_a_copy_of_what_was_promoted_is_not_it(project: Project) -> None:
    """Redeploy in the dashboard makes another deployment that carries the same marks: with other
    variables, at least."""
    before = await released(project)
    await project.fake.redeploy(project.live, "ana")
    found = await project.site.compare(APPLY, snapshot=before)
    assert "production is dpl_3 (2.4.0, commit " in found.difference
    assert "instead of dpl_2 (2.4.0): " in found.difference
    assert "a copy of dpl_2, made by ana" in found.difference
    # nor is it what the operation made, for whoever follows it
    followed = await project.site.follow(APPLY)
    assert (followed.state, followed.stuck) == ("Running", True)


async def test_no_production_is_a_difference(project: Project) -> None:
    before = await released(project)
    project.fake.project |= {"targets": {}, "lastAliasRequest": None}
    found = await project.site.compare(APPLY, snapshot=before)
    assert (found.difference, found.version) == (
        "the project foco has no production deployment",
        None,
    )


async def test_what_was_promoted_is_deleted(project: Project) -> None:
    before = await released(project)
    project.fake.move("rollback", project.fake.deployments["dpl_1"], "ana")
    del project.fake.deployments["dpl_2"]
    found = await project.site.compare(APPLY, snapshot=before)
    assert "production is dpl_1 (2.3.1, commit " in found.difference
    assert "instead of what was promoted, which is gone" in found.difference


async def test_domains_on_their_way_elsewhere(project: Project) -> None:
    before = await released(project)
    project.fake._request("rollback", "dpl_1")
    project.fake.job = ["in-progress"] * 5
    found = await project.site.compare(APPLY, snapshot=before)
    assert "the production domains are moving to dpl_1 (2.3.1, commit " in found.difference
    assert found.version == "2.4.0"


async def test_a_rolling_release_of_somebody_else(project: Project) -> None:
    before = await released(project)
    other = await project.fake.push("main", "ana", promoted=False)
    project.fake.project["rollingRelease"] = {"stages": [{"targetPercentage": 30}]}
    project.fake.rolling = {"canary": other.id, "share": 30}
    found = await project.site.compare(APPLY, snapshot=before)
    assert "a rolling release gives 30% of production to dpl_3 (main, commit " in found.difference
    assert "made by ana" in found.difference


async def test_an_earlier_deployment_of_the_same_run_and_commit(project: Project) -> None:
    """Keys were rotated in between: the first deployment has the old ones."""
    before = await released(project)
    assert (await project.site.walk(AGAIN, before)).state == "Succeeded"
    assert (await project.site.compare(APPLY, AGAIN, snapshot=before)).difference == ""
    project.fake.move("rollback", project.fake.deployments["dpl_2"], "ana")
    found = await project.site.compare(APPLY, AGAIN, snapshot=before)
    assert "production is dpl_2 (2.4.0, commit " in found.difference
    assert "instead of dpl_3 (2.4.0)" in found.difference


async def test_what_was_restored_is_live(project: Project) -> None:
    before = await released(project)
    assert (await project.site.walk(BACK, before)).state == "Succeeded"
    assert await project.site.compare(APPLY, BACK, snapshot=before) == Standing(version="2.3.1")
    project.fake.move("promote", project.fake.deployments["dpl_2"])
    found = await project.site.compare(APPLY, BACK, snapshot=before)
    assert "production is dpl_2 (2.4.0, commit " in found.difference
    assert "instead of dpl_1 (2.3.1, commit " in found.difference


async def test_what_was_restored_by_building_it_again(project: Project) -> None:
    """The recorded deployment has the revoked key: it would not do any more."""
    before = await released(project)
    project.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    assert (await project.site.walk(BACK, before)).state == "Succeeded"
    assert project.live.id == "dpl_3"
    assert await project.site.compare(APPLY, BACK, snapshot=before) == Standing(version="2.3.1")
    project.fake.move("rollback", project.fake.deployments["dpl_1"], "ana")
    found = await project.site.compare(APPLY, BACK, snapshot=before)
    assert "instead of dpl_3 (2.3.1), which is dpl_1 with the current variables" in found.difference


async def test_another_run_is_somebody_else(project: Project) -> None:
    before = await released(project)
    other = replace(APPLY, key="3.other.deploy.1-ffffff")
    assert (await project.site.walk(other, before)).state == "Succeeded"
    assert (
        "production is dpl_3 (2.4.0, commit "
        in (await project.site.compare(APPLY, snapshot=before)).difference
    )


@pytest.mark.parametrize("kind", ["set", "act", "job", "stop", "ask"])
async def test_operations_that_a_target_does_not_know(project: Project, kind: Any) -> None:
    operation = replace(APPLY, kind=kind)
    for ask in (project.site.perform, project.site.follow, project.site.compare):
        with pytest.raises(Permanent, match=f"cannot {kind}"):
            await ask(operation)
    assert project.fake.posts() == []


@pytest.mark.parametrize("kind", ["apply", "act", "job", "stop", "ask"])
async def test_operations_that_flags_do_not_know(project: Project, kind: Any) -> None:
    operation = replace(SET, kind=kind)
    for ask in (project.beta.perform, project.beta.follow, project.beta.compare):
        with pytest.raises(Permanent, match=kind):
            await ask(operation)
    assert project.fake.posts() == []


async def test_without_operations_nothing_is_said(project: Project) -> None:
    for part in (project.site, project.beta):
        with pytest.raises(Permanent, match="nothing is wanted"):
            await part.compare()


@pytest.mark.parametrize(
    "path", ["/v9/projects/", "/v6/deployments", "/v10/projects/prj_foco/env", "/v13/deployments"]
)
@pytest.mark.parametrize("status, outcome", [(401, Permanent), (429, Retryable), (500, Retryable)])
async def test_no_answer_is_no_standing(
    project: Project, path: str, status: int, outcome: type[Exception]
) -> None:
    before = await released(project)
    flags = await project.beta.look()
    assert (await project.beta.walk(SET, flags)).state == "Succeeded"

    async def broken(request: web.Request) -> web.StreamResponse:
        return vercel.refused(status, "internal_server_error", f"no {world.TOKEN}")

    project.fake.faults = [("GET", path, broken)]
    for part, operation, snapshot in ((project.site, APPLY, before), (project.beta, SET, flags)):
        if part is project.site and path.endswith("/env"):
            continue  # a target is no matter of variables
        with pytest.raises(outcome) as caught:
            await part.compare(operation, snapshot=snapshot)
        world.assert_silent(caught.value)


# --- moved elsewhere while an operation is under way


async def test_moved_elsewhere_right_after_the_promotion(project: Project) -> None:
    """Between two looks: it was promoted once, which is not what was wanted; and it is not promoted
    again."""
    before = await project.site.look()
    found = await project.site.perform(APPLY, before)
    while "moving to" not in found.message:
        found = await project.site.follow(APPLY)
    project.fake._work()  # the alias job ends
    project.fake.move("rollback", project.fake.deployments["dpl_1"], "ana")
    posts = project.fake.posts()
    for ask in (project.site.follow, project.site.perform):
        found = await ask(APPLY)
        assert (found.state, found.stuck) == ("Running", True), found
        assert "dpl_2 was promoted, but production is dpl_1 (2.3.1, commit " in found.message
        assert "by ana" in found.message
    assert project.fake.posts() == posts, "two who move production would never end"


async def test_a_push_right_after_the_promotion(project: Project) -> None:
    before = await project.site.look()
    found = await project.site.perform(APPLY, before)
    while "moving to" not in found.message:
        found = await project.site.follow(APPLY)
    project.fake._work()
    await project.fake.push("main", "ana")
    found = await project.site.follow(APPLY)
    assert (found.state, found.stuck) == ("Running", True), found
    assert "dpl_2 was promoted, but production is dpl_3 (main, commit " in found.message
    assert "made by ana" in found.message


async def test_moved_elsewhere_right_after_the_rollback(project: Project) -> None:
    """A pipeline that puts the bad version back: no success, and nobody fights."""
    before = await released(project)
    await project.site.perform(BACK, before)
    while project.fake._busy():
        project.fake._work()
    await project.fake.push("v2.4.1", "a pipeline")
    posts = project.fake.posts()
    for ask in (project.site.follow, project.site.perform):
        found = await ask(BACK, before)
        assert (found.state, found.stuck) == ("Running", True), found
        assert "rolled back to dpl_1, but production is dpl_3 (2.4.1, commit " in found.message
        assert "made by a pipeline" in found.message
    assert project.fake.posts() == posts
    assert (
        await project.site.walk(replace(BACK, key=BACK.key.replace(".0-", ".5-")), before)
    ).state == "Succeeded", "a person who asks for another rollback gets one"


async def test_moved_elsewhere_after_the_source_was_built_again(project: Project) -> None:
    before = await released(project)
    project.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    found = await project.site.perform(BACK, before)
    while "moving to" not in found.message:
        found = await project.site.follow(BACK, before)
    project.fake._work()
    project.fake.move("promote", project.fake.deployments["dpl_2"])
    found = await project.site.follow(BACK, before)
    assert (found.state, found.stuck) == ("Running", True), found
    assert "dpl_3 was promoted, but production is dpl_2 (2.4.0, commit " in found.message


# --- flags


async def flagged(project: Project) -> dict[str, Any]:
    """The flags are on, in production; what was recorded before."""
    before = await project.beta.look()
    assert (await project.beta.walk(SET, before)).state == "Succeeded"
    return before


async def test_flags_are_as_wanted(project: Project) -> None:
    before = await flagged(project)
    assert await project.beta.compare(SET, snapshot=before) == Standing(version="2.3.1")


async def test_a_flag_that_somebody_changed(project: Project) -> None:
    before = await flagged(project)
    project.fake.variable(VOICE).update(
        value="maybe", updatedAt=project.fake.now(), updatedBy="user_2"
    )
    project.fake.env.pop(project.fake.variable(CRICO)["id"])
    found = await project.beta.compare(SET, snapshot=before)
    gone, changed = found.difference.split("; ")
    assert gone == f'{CRICO} is gone instead of "true"'
    assert changed.startswith(f'{VOICE} is "maybe" instead of "true" (changed at 20')
    assert changed.endswith("by user_2)")


async def test_a_flag_that_nobody_can_read_any_more(project: Project) -> None:
    before = await flagged(project)
    project.fake.variable(VOICE).update(type="sensitive")
    assert (
        f"{VOICE} is of type sensitive"
        in (await project.beta.compare(SET, snapshot=before)).difference
    )


async def test_a_value_that_may_be_a_secret_is_not_shown(project: Project) -> None:
    project.fake.set("ENABLE_VOICE", "false", "encrypted")
    raw = {"project": "foco", "set": {"ENABLE_VOICE": "true"}}
    project.beta.config = project.beta.provider.config.model_validate(raw)
    operation = replace(SET, config={"vercel": raw})
    before = await project.beta.look()
    assert (await project.beta.walk(operation, before)).state == "Succeeded"
    assert (await project.beta.compare(operation, snapshot=before)).difference == ""
    project.fake.variable("ENABLE_VOICE").update(value="sk-5eCr3t-pasted-by-mistake")
    found = await project.beta.compare(operation, snapshot=before)
    assert 'ENABLE_VOICE is another value instead of "true"' in found.difference


async def test_production_without_the_flags(project: Project) -> None:
    """The variables are as wanted, and nobody has them: a deployment keeps those it was built
    with."""
    before = await flagged(project)
    project.fake.move("rollback", project.fake.deployments["dpl_1"], "ana")
    found = await project.beta.compare(SET, snapshot=before)
    assert "production is dpl_1 (2.3.1, commit " in found.difference
    assert "which was built before these flags were set: rolled back to at 20" in found.difference
    assert "by ana" in found.difference


async def test_a_later_deployment_has_the_flags_too(project: Project) -> None:
    before = await flagged(project)
    await project.fake.push("main", "ana")
    assert await project.beta.compare(SET, snapshot=before) == Standing(version="main")


async def test_flags_that_were_restored(project: Project) -> None:
    before = await flagged(project)
    assert (await project.beta.walk(UNSET, before)).state == "Succeeded"
    assert await project.beta.compare(SET, UNSET, snapshot=before) == Standing(version="2.3.1")
    project.fake.move("promote", project.fake.deployments["dpl_2"])
    found = await project.beta.compare(SET, UNSET, snapshot=before)
    assert "which was built with the flags as they were set: promoted at 20" in found.difference
    project.fake.variable(VOICE).update(value="true", updatedAt=project.fake.now())
    found = await project.beta.compare(SET, UNSET, snapshot=before)
    assert f'{VOICE} is "true" instead of "false"' in found.difference


# --- a target and flags of one project


async def test_flags_on_top_of_what_was_promoted_are_no_difference(project: Project) -> None:
    before = await released(project)
    flags = await flagged(project)
    assert project.live.id == "dpl_3"
    assert (await project.site.compare(APPLY, snapshot=before)).difference == ""
    assert (await project.beta.compare(SET, snapshot=flags)).difference == ""
    project.fake.move("rollback", project.fake.deployments["dpl_2"], "ana")
    assert (await project.site.compare(APPLY, snapshot=before)).difference == "", (
        "it is what the target promoted"
    )
    assert (
        "built before these flags" in (await project.beta.compare(SET, snapshot=flags)).difference
    )
    await project.fake.redeploy(project.fake.deployments["dpl_3"], "ana")
    assert "a copy of dpl_3" in (await project.site.compare(APPLY, snapshot=before)).difference


async def test_only_the_flags_go_back(project: Project) -> None:
    """One stage is undone; what an earlier one has promoted stays."""
    before = await released(project)
    flags = await flagged(project)
    assert (await project.beta.walk(UNSET, flags)).state == "Succeeded"
    assert (project.live.id, project.fake.variable(VOICE)["value"]) == ("dpl_2", "false")
    assert (await project.site.compare(APPLY, snapshot=before)).difference == ""


async def test_only_the_target_goes_back(project: Project) -> None:
    """Flags were set by an earlier stage: the recorded deployment has them, and what is built anew
    has them too."""
    flags = await flagged(project)
    before = await project.site.look()
    assert (await project.site.walk(APPLY, before)).state == "Succeeded"
    project.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    found = await project.site.walk(BACK, before)
    assert found.state == "Succeeded", found
    assert (project.live.baked[VOICE], project.live.baked["OPENAI_API_KEY"]) == (
        "true",
        "sk-5eCr3t-new",
    )
    assert (await project.site.compare(APPLY, BACK, snapshot=before)).difference == ""
    assert (await project.beta.compare(SET, snapshot=flags)).difference == ""


@pytest.mark.parametrize("rotated", [False, True], ids=["", "rotated"])
@pytest.mark.parametrize(
    "order", [["flags", "target"], ["target", "flags"]], ids=["flags first", "target first"]
)
@pytest.mark.parametrize("forward", ["target then flags", "flags then target"])
@pytest.mark.parametrize(
    "names", [[VOICE, CRICO], [VOICE]], ids=["and one that was not there", "one flag"]
)
@pytest.mark.parametrize("together", [True, False], ids=["side by side", "one by one"])
async def test_both_go_back(
    project: Project,
    together: bool,
    names: list[str],
    forward: str,
    order: list[str],
    rotated: bool,
) -> None:
    """Each was recorded right before its first change, so one of the two recorded what the other
    had made. Whichever begins, production ends as the old version with valid keys and old flags,
    and both say so afterwards."""
    source = project.live.git
    raw = {"project": "foco", "set": dict.fromkeys(names, "true")}
    beta = replace(project.beta, config=project.beta.provider.config.model_validate(raw))
    turned_on = replace(SET, config={"vercel": raw})
    if forward == "target then flags":
        before = await released(project)
    flags = await beta.look()
    assert (await beta.walk(turned_on, flags)).state == "Succeeded"
    if forward == "flags then target":
        before = await project.site.look()
        assert (await project.site.walk(APPLY, before)).state == "Succeeded"
    if rotated:
        project.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    unset = replace(UNSET, changes=(turned_on,))
    parts = {"flags": (beta, unset, flags), "target": (project.site, BACK, before)}
    said: dict[str, Progress] = {}
    first, second = order
    # Who waits goes on then.
    for which in order * 30 if together else [first] * 30 + [second] * 30 + [first] * 30:
        part, operation, snapshot = parts[which]
        if which not in said or said[which].state not in ("Succeeded", "Failed"):
            said[which] = await part.step(operation, snapshot)
    assert {which: item.state for which, item in said.items()} == {
        "flags": "Succeeded",
        "target": "Succeeded",
    }, said
    assert project.live.git == source, said
    assert (project.live.baked[VOICE], CRICO in project.live.baked) == ("false", False), said
    assert project.live.baked["OPENAI_API_KEY"] == ("sk-5eCr3t-new" if rotated else "sk-5eCr3t-old")
    assert (await project.site.compare(APPLY, BACK, snapshot=before)).difference == ""
    assert (await beta.compare(turned_on, unset, snapshot=flags)).difference == ""


async def test_restores_take_turns(project: Project) -> None:
    """What flags have read of production still holds when they act, although the target goes back
    at the same time."""
    before = await released(project)
    flags = await flagged(project)
    slow = [0.5]

    async def listed(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(slow.pop() if slow else 0.0)
        return await project.fake._env_list(request)

    async def to_its_end(part: Part, operation: Operation, snapshot: Mapping[str, Any]) -> Progress:
        found = await part.step(operation, snapshot)
        while found.state == "Running":
            await asyncio.sleep(0.01)
            found = await part.step(operation, snapshot)
        return found

    project.fake.faults = [("GET", "/v10/projects/prj_foco/env", listed)]
    first = asyncio.create_task(project.beta.perform(UNSET, flags))
    while slow:
        await asyncio.sleep(0.01)  # the flags have read what production is, and not acted yet
    assert (await to_its_end(project.site, BACK, before)).state == "Succeeded"
    await first
    assert (await to_its_end(project.beta, UNSET, flags)).state == "Succeeded"
    assert project.live.id == "dpl_1"


# --- as wide as the change


async def test_only_flags_that_the_run_has_set_go_back(project: Project) -> None:
    before = await project.beta.look()
    narrow = replace(SET, config={"vercel": {"project": "foco", "set": {VOICE: "true"}}})
    part = replace(
        project.beta, config=project.beta.provider.config.model_validate(narrow.config["vercel"])
    )
    assert (await part.walk(narrow, before)).state == "Succeeded"
    project.fake.set(CRICO, "by-ana", age=0)
    found = await project.beta.walk(replace(UNSET, changes=(narrow,)), before)
    assert found.state == "Succeeded", found
    assert project.fake.variable(VOICE)["value"] == "false"
    assert project.fake.variable(CRICO)["value"] == "by-ana", "the run has not touched it"


async def test_a_flag_that_somebody_set_to_a_third_value_goes_back_all_the_same(
    project: Project,
) -> None:
    before = await flagged(project)
    project.fake.variable(VOICE).update(value="maybe", updatedAt=project.fake.now())
    assert (await project.beta.walk(UNSET, before)).state == "Succeeded"
    assert project.fake.variable(VOICE)["value"] == "false"


async def test_a_flag_of_which_nothing_was_recorded(project: Project) -> None:
    """What is known goes back; that the rest does not is said."""
    before = await flagged(project)
    del before["flags"][CRICO]
    found = await project.beta.walk(UNSET, before)
    assert (found.state, f"nothing was recorded of {CRICO}" in found.message) == ("Failed", True), (
        found
    )
    assert (project.fake.variable(VOICE)["value"], project.live.id) == ("false", "dpl_1")


async def test_a_change_that_does_not_say_what_it_set(project: Project) -> None:
    before = await flagged(project)
    for config in ({}, {"vercel": {}}, ["x"]):
        with pytest.raises(Permanent, match="does not say which flags it set"):
            await project.beta.perform(
                replace(UNSET, changes=(replace(SET, config=config),)), before
            )
    with pytest.raises(Permanent, match="nothing else"):
        await project.beta.perform(replace(UNSET, changes=(APPLY,)), before)
    assert project.fake.variable(VOICE)["value"] == "true"


async def test_marks_tell_when_a_flag_was_set(project: Project) -> None:
    before = await flagged(project)
    made = project.live.created
    assert (await project.beta.walk(UNSET, before)).state == "Succeeded"
    mark = mark_of(project.fake.variable(VOICE))
    assert mark is not None
    assert before["flags"][VOICE]["since"] == mark.was
    assert mark.was < mark.begun <= made < mark.at + 1000, "to the second: it is Vercel's own clock"


async def test_looking_again_changes_nothing(project: Project) -> None:
    first = [await project.site.look(), await project.beta.look()]
    assert [await project.site.look(), await project.beta.look()] == first
    assert project.fake.posts() == []
