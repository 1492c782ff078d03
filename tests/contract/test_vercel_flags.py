"""Flags as variables of production on Vercel: written, built in, and put back together with
production."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from gatewright.core.model.observation import LiveState
from gatewright.core.model.operation import Operation, Progress
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import EXTERNAL_TARGETS, FLAGS
from gatewright.providers.vercel.variable_marks import mark_of
from tests.contract import world
from tests.fakes import vercel
from tests.fakes.serving import linked, serving

VOICE, CRICO = "NEXT_PUBLIC_ENABLE_VOICE_SYSTEM", "NEXT_PUBLIC_ENABLE_CRICO"
SET = "7.beta.flags.1-3f2a1c"
BACK = "7.rollback.beta.flags.0-3f2a1c"
CONFIG: dict[str, Any] = {
    "project": "foco",
    "set": {VOICE: "true", CRICO: "true"},
    "smoke": {"path": "/api/health"},
}


@dataclass
class Stage:
    """The fake, a Connection to it, and the provider with a configuration."""

    fake: vercel.Vercel
    link: OpenConnection
    config: Any
    flags: Any = FLAGS["vercel"]

    async def look(self) -> LiveState:
        found = await self.flags.look(self.config, self.link)
        world.assert_silent(found)
        return found

    def _operation(self, kind: Any, key: str | None) -> Operation:
        return Operation(key or (SET if kind == "set" else BACK), kind, "flags/beta.flags")

    async def perform(
        self, kind: str, snapshot: Mapping[str, Any] | None, key: str | None = None
    ) -> Progress:
        found = await self.flags.perform(
            self.config, self.link, self._operation(kind, key), snapshot
        )
        world.assert_silent(found)
        return found

    async def follow(
        self, kind: str, snapshot: Mapping[str, Any] | None, key: str | None = None
    ) -> Progress:
        found = await self.flags.follow(
            self.config, self.link, self._operation(kind, key), snapshot
        )
        world.assert_silent(found)
        return found

    async def walk(
        self, kind: str, snapshot: Mapping[str, Any] | None = None, key: str | None = None
    ) -> list[Progress]:
        said = [await self.perform(kind, snapshot, key)]
        while said[-1].state == "Running" and len(said) < 20:
            found = await self.follow(kind, snapshot, key)
            said.append(
                await self.perform(kind, snapshot, key) if found.state == "Absent" else found
            )
        return said


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A project whose production is 2.4.0; one flag is off, the other is not there yet."""
    fake = vercel.Vercel(token=world.TOKEN)
    fake.set("OPENAI_API_KEY", "sk-5eCr3t-old", "sensitive")
    fake.set(VOICE, "false", comment="ask the voice team")
    async with serving(fake.app()) as url:
        await fake.add("2.4.0")
        link = linked("vercel", {"url": url, "teamId": "team_foco"}, {"token": world.TOKEN})
        yield Stage(fake, link, FLAGS["vercel"].config.model_validate(CONFIG))


async def test_set_builds_what_is_live_anew(stage: Stage) -> None:
    before = await stage.look()
    assert (before.matches, before.problem) == (False, None)
    assert before.snapshot is not None
    assert before.snapshot["flags"][CRICO] is None
    assert before.snapshot["flags"][VOICE]["value"] == "false"
    said = await stage.walk("set", before.snapshot)
    assert said[-1].state == "Succeeded", said
    live = stage.fake.live
    assert live is not None
    assert {key: live.baked[key] for key in (VOICE, CRICO)} == {VOICE: "true", CRICO: "true"}
    assert (live.git, live.meta["gatewrightVersion"]) == (
        stage.fake.deployments["dpl_1"].git,
        "2.4.0",
    )
    assert said[-1].outputs["deployment"] == live.id
    assert stage.fake.variable(VOICE)["comment"].startswith(
        "ask the voice team [gatewright set 7-3f2a1c was "
    )
    assert (await stage.look()).matches


async def test_set_again_after_a_crash_at_any_point(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot

    async def down(request: web.Request) -> web.StreamResponse:
        return vercel.refused(500, "internal_server_error", "no")

    stage.fake.faults = [("POST", "/v13/deployments", down)]
    with pytest.raises(Retryable):
        await stage.perform("set", snapshot)
    was = mark_of(stage.fake.variable(VOICE))
    stage.fake.faults = []
    assert (await stage.follow("set", snapshot)).state == "Absent"
    said = [await stage.perform("set", snapshot)]
    while said[-1].state == "Running" and len(said) < 20:
        said.append(await stage.perform("set", snapshot))
    assert said[-1].state == "Succeeded"
    assert len(stage.fake.made(SET)) == 1
    assert mark_of(stage.fake.variable(VOICE)) == was, (
        "what it was before the first try stays known"
    )


async def test_restore_puts_flags_and_production_back(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk("set", snapshot)
    said = await stage.walk("restore", snapshot)
    assert said[-1].state == "Succeeded", said
    assert "rolled back to dpl_1 instantly" in said[-1].message
    assert stage.fake.live is not None
    assert stage.fake.live.id == "dpl_1"
    assert stage.fake.variable(VOICE)["value"] == "false"
    assert all(item["key"] != CRICO for item in stage.fake.env.values()), "it was not there before"
    assert stage.fake.variable(VOICE)["comment"].startswith(
        "ask the voice team [gatewright restored 7-3f2a1c was "
    )
    assert (await stage.follow("restore", snapshot)).state == "Succeeded"


async def test_restore_after_a_rotation_builds_anew(stage: Stage) -> None:
    """Both: the flags as they were, and the key that is valid now."""
    snapshot = (await stage.look()).snapshot
    await stage.walk("set", snapshot)
    stage.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    said = await stage.walk("restore", snapshot)
    assert said[-1].state == "Succeeded", said
    live = stage.fake.live
    assert live is not None
    assert (live.baked["OPENAI_API_KEY"], live.baked[VOICE], CRICO in live.baked) == (
        "sk-5eCr3t-new",
        "false",
        False,
    )
    assert "OPENAI_API_KEY changed" in said[-1].message
    assert VOICE not in said[-1].message


TARGET: dict[str, Any] = {"project": "foco", "git": {"ref": "v2.5.0"}}


@pytest.mark.parametrize("first", ["flags", "target"])
@pytest.mark.parametrize("rotated", [False, True])
async def test_a_target_and_flags_go_back_side_by_side(
    stage: Stage, first: str, rotated: bool
) -> None:
    """Restores do not wait for each other; whichever begins, production ends as it was, with valid
    keys and old flags."""
    host, site = (
        EXTERNAL_TARGETS["vercel"],
        EXTERNAL_TARGETS["vercel"].config.model_validate(TARGET),
    )
    before, flags = (await host.look(site, stage.link)).snapshot, (await stage.look()).snapshot
    made = Operation("7.bugs.deploy.1-3f2a1c", "apply", "target/site")
    found = await host.perform(site, stage.link, made, before)
    while found.state == "Running":
        found = await host.follow(site, stage.link, made, before)
    await stage.walk("set", flags)
    if rotated:
        stage.fake.set("OPENAI_API_KEY", "sk-5eCr3t-new", "sensitive", age=0)
    back = Operation("7.rollback.bugs.site.1-3f2a1c", "restore", "target/site")

    async def step(which: str, act: bool) -> Progress:
        try:
            if which == "flags":
                return await (stage.perform if act else stage.follow)("restore", flags)
            return await (host.perform if act else host.follow)(site, stage.link, back, before)
        except Retryable:
            return Progress("Absent", "refused for a moment")

    order = [first, "target" if first == "flags" else "flags"]
    said = {which: await step(which, True) for which in order}
    for _ in range(30):
        for which in order:
            if said[which].state == "Running":
                said[which] = await step(which, False)
            if said[which].state == "Absent":
                said[which] = await step(which, True)
    assert {which: item.state for which, item in said.items()} == {
        "flags": "Succeeded",
        "target": "Succeeded",
    }, said
    live = stage.fake.live
    assert live is not None
    assert (live.baked[VOICE], CRICO in live.baked) == ("false", False)
    assert live.baked["OPENAI_API_KEY"] == ("sk-5eCr3t-new" if rotated else "sk-5eCr3t-old")
    assert (live.id == "dpl_1") is not rotated
    assert live.git == stage.fake.deployments["dpl_1"].git
    assert len(stage.fake.deployments) == (4 if rotated else 3), "built once at most, for both"


# Several runs that go back at once

OLDER_SET, UNDO = "6.beta.flags.1-bbbbbb", "7.undo8.rollback.beta.flags.0-3f2a1c"
OLDER_RUN = "6-bbbbbb"


def flags_of(**values: str) -> Any:
    return FLAGS["vercel"].config.model_validate({"project": "foco", "set": values})


def set_by(key: str, **values: str) -> Operation:
    config = {"vercel": {"project": "foco", "set": values}}
    return Operation(key, "set", "flags/beta.flags", config)


def returned(key: str, subject: str, *changes: Operation) -> Operation:
    return Operation(key, "restore", subject, changes=changes, beside=(OLDER_RUN,))


async def to_the_end(
    stage: Stage, *work: tuple[Any, Any, Operation, Any], looks: int = 30
) -> list[Progress]:
    """Go on with operations side by side, each a provider, a configuration, and a snapshot."""

    async def step(number: int, act: bool) -> Progress:
        provider, config, operation, snapshot = work[number]
        try:
            go = provider.perform if act else provider.follow
            found: Progress = await go(config, stage.link, operation, snapshot)
            return found
        except Retryable:
            return Progress("Absent", "refused for a moment")

    said = [await step(number, True) for number in range(len(work))]
    for _ in range(looks):
        for number, found in enumerate(said):
            if found.state == "Running":
                said[number] = await step(number, False)
            if said[number].state == "Absent":
                said[number] = await step(number, True)
    return said


async def test_flags_of_an_older_run_go_back_as_well(stage: Stage) -> None:
    """Seen: a variable that only the older of two runs had made stayed as that had set it."""
    older, newer = flags_of(**{CRICO: "true"}), flags_of(**{VOICE: "true"})
    before = (await stage.flags.look(older, stage.link)).snapshot
    sets = set_by(OLDER_SET, **{CRICO: "true"}), set_by(SET, **{VOICE: "true"})
    await to_the_end(stage, (stage.flags, older, sets[0], before))
    since = (await stage.flags.look(newer, stage.link)).snapshot
    await to_the_end(stage, (stage.flags, newer, sets[1], since))

    back = returned(UNDO, "flags/beta.flags", *sets)
    merged = {**before, "flags": {**since["flags"], **before["flags"]}}
    (said,) = await to_the_end(stage, (stage.flags, newer, back, merged))

    assert said.state == "Succeeded", said
    assert "rolled back to dpl_1 instantly" in said.message
    assert stage.fake.variable(VOICE)["value"] == "false"
    assert all(item["key"] != CRICO for item in stage.fake.env.values()), "it was not there before"
    standing = await stage.flags.compare(newer, stage.link, [back], merged)
    assert standing.difference == ""


@pytest.mark.parametrize("first", ["flags", "target"])
async def test_flags_of_an_older_run_and_the_target_of_a_newer_go_back_side_by_side(
    stage: Stage, first: str
) -> None:
    """The target was deployed over flags of the older run, and returns without them."""
    host, flags = EXTERNAL_TARGETS["vercel"], flags_of(**{VOICE: "true", CRICO: "true"})
    site = host.config.model_validate(TARGET)
    made = set_by(OLDER_SET, **{VOICE: "true", CRICO: "true"})
    before = (await stage.flags.look(flags, stage.link)).snapshot
    await to_the_end(stage, (stage.flags, flags, made, before))
    production = (await host.look(site, stage.link)).snapshot
    deployed = Operation("7.bugs.deploy.1-3f2a1c", "apply", "target/site")
    await to_the_end(stage, (host, site, deployed, production))

    work = [
        (stage.flags, flags, returned(UNDO, "flags/beta.flags", made), before),
        (host, site, returned("7.undo8.rollback.bugs.site.1-3f2a1c", "target/site"), production),
    ]
    said = await to_the_end(stage, *(work if first == "flags" else reversed(work)))

    assert [item.state for item in said] == ["Succeeded", "Succeeded"], said
    live = stage.fake.live
    assert live is not None
    assert (live.baked[VOICE], CRICO in live.baked) == ("false", False)
    for provider, config, operation, snapshot in work:
        standing = await provider.compare(config, stage.link, [operation], snapshot)
        assert standing.difference == "", operation


async def test_what_an_undo_has_set_is_not_withdrawn(stage: Stage) -> None:
    """A compensation may set flags: what it builds belongs to the way back."""
    snapshot = (await stage.look()).snapshot
    await stage.walk("set", snapshot)
    compensation = "7.undo8.rollback.beta.off.2.1-3f2a1c"
    await stage.perform("set", None, compensation)
    (built,) = stage.fake.made(compensation)
    said = await stage.follow("restore", snapshot, UNDO)
    assert said.state == "Absent"
    await stage.perform("restore", snapshot, UNDO)
    assert built.id in stage.fake.deployments and built.state != "CANCELED", built


async def test_a_flag_that_was_set_back_does_not_count_in_a_later_run(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk("set", snapshot)
    await stage.walk("restore", snapshot)
    again = (await stage.look()).snapshot
    await stage.walk("set", again, "8.beta.flags.1-3f2a1c")
    said = await stage.walk("restore", again, "8.rollback.beta.flags.0-3f2a1c")
    assert "rolled back to dpl_1 instantly" in said[-1].message, said


async def test_a_flag_that_somebody_changed_after_it_was_set_back_counts(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk("set", snapshot)
    await stage.walk("restore", snapshot)
    item = stage.fake.variable(VOICE)
    # Its comment still says "set back".
    item |= {"value": "maybe", "updatedAt": item["updatedAt"] + 3_600_000}
    host, site = (
        EXTERNAL_TARGETS["vercel"],
        EXTERNAL_TARGETS["vercel"].config.model_validate(TARGET),
    )
    live = (await host.look(site, stage.link)).snapshot
    assert live is not None
    await host.perform(
        site, stage.link, Operation("9.a.deploy.1-3f2a1c", "apply", "target/site"), live
    )
    found = await host.follow(
        site, stage.link, Operation("9.a.deploy.1-3f2a1c", "apply", "target/site"), live
    )
    while found.state == "Running":
        found = await host.follow(
            site, stage.link, Operation("9.a.deploy.1-3f2a1c", "apply", "target/site"), live
        )
    said = await host.perform(
        site, stage.link, Operation("9.rollback.a.site.0-3f2a1c", "restore", "target/site"), live
    )
    assert f"{VOICE} changed" in said.message


async def test_a_flag_of_another_run_that_was_never_set_back_counts(stage: Stage) -> None:
    await stage.walk("set", (await stage.look()).snapshot, "6.beta.flags.1-bbbbbb")
    first = stage.fake.deployments["dpl_1"]
    stage.fake._serve(first)
    stage.fake.project["lastAliasRequest"] = None
    host, site = (
        EXTERNAL_TARGETS["vercel"],
        EXTERNAL_TARGETS["vercel"].config.model_validate(TARGET),
    )
    snapshot = (await host.look(site, stage.link)).snapshot
    operation = Operation("7.a.deploy.1-3f2a1c", "apply", "target/site")
    found = await host.perform(site, stage.link, operation, snapshot)
    while found.state == "Running":
        found = await host.follow(site, stage.link, operation, snapshot)
    said = await host.perform(
        site,
        stage.link,
        Operation("7.rollback.a.site.0-3f2a1c", "restore", "target/site"),
        snapshot,
    )
    assert f"{CRICO}, {VOICE} changed" in said.message


@pytest.mark.parametrize(
    "key, value, kind, problem",
    [
        ("ENABLE_VOICE", "false", "encrypted", None),
        ("ENABLE_VOICE", "25%", "encrypted", None),
        ("NEXT_PUBLIC_GREETING", "hello everybody", "encrypted", None),
        ("ENABLE_VOICE", "sk-5eCr3t-not-a-flag", "encrypted", "is encrypted and may be a secret"),
        ("ENABLE_VOICE", "false", "sensitive", "is of type sensitive: its value cannot be read"),
        ("ENABLE_VOICE", "false", "secret", "is of type secret"),
    ],
)
async def test_what_may_be_recorded(
    stage: Stage, key: str, value: str, kind: str, problem: str | None
) -> None:
    stage.fake.set(key, value, kind)
    stage.config = stage.flags.config.model_validate({"project": "foco", "set": {key: "true"}})
    found = await stage.look()
    assert (found.snapshot is None) is (problem is not None)
    assert problem is None or problem in str(found.problem)
    assert problem is None or value not in repr(found) or value == "false"
    assert problem is not None or found.snapshot["flags"][key]["value"] == value  # type: ignore[index]


async def test_an_encrypted_flag_is_read_written_and_put_back(stage: Stage) -> None:
    stage.fake.set("ENABLE_VOICE", "false", "encrypted")
    stage.config = stage.flags.config.model_validate(
        {"project": "foco", "set": {"ENABLE_VOICE": "true"}}
    )
    snapshot = (await stage.look()).snapshot
    assert (await stage.walk("set", snapshot))[-1].state == "Succeeded"
    assert (await stage.walk("restore", snapshot))[-1].state == "Succeeded"
    assert (
        stage.fake.variable("ENABLE_VOICE")["value"],
        stage.fake.variable("ENABLE_VOICE")["type"],
    ) == (
        "false",
        "encrypted",
    )


async def test_a_flag_that_somebody_deleted_meanwhile_is_made_again(stage: Stage) -> None:
    snapshot = (await stage.look()).snapshot
    await stage.walk("set", snapshot)
    stage.fake.env.pop(stage.fake.variable(VOICE)["id"])
    said = await stage.walk("restore", snapshot)
    assert said[-1].state == "Succeeded", said
    assert stage.fake.variable(VOICE)["value"] == "false"


async def test_a_variable_that_is_refused_is_no_success(stage: Stage) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        failed = [
            {
                "error": {
                    "code": "ENV_CONFLICT",
                    "message": f"conflict with {world.TOKEN}",
                    "key": CRICO,
                }
            }
        ]
        return web.json_response({"created": [], "failed": failed}, status=201)

    stage.fake.faults = [("POST", "/env$", half)]
    with pytest.raises(Permanent, match=f"{CRICO} is not set: conflict with") as caught:
        await stage.perform("set", (await stage.look()).snapshot)
    world.assert_silent(caught.value)


async def test_without_production_there_is_nothing_to_set_flags_on(stage: Stage) -> None:
    stage.fake.project["targets"] = {}
    assert "no production deployment" in str((await stage.look()).problem)
    with pytest.raises(Permanent, match="no production deployment"):
        await stage.perform("set", None)
    assert stage.fake.variable(VOICE)["value"] == "false"


async def test_no_snapshot_no_restore(stage: Stage) -> None:
    with pytest.raises(Permanent, match="no snapshot"):
        await stage.perform("restore", None)
    with pytest.raises(Permanent, match="cannot be used"):
        await stage.perform("act", None)


@pytest.mark.parametrize(
    "fields, words", [({"set": {}}, "set"), ({"set": {"A B": "x"}}, "set"), ({"env": {}}, "env")]
)
def test_what_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FLAGS["vercel"].config.model_validate({**CONFIG, **fields})


@pytest.mark.parametrize(
    "status, outcome", [(401, Permanent), (403, Permanent), (429, Retryable), (500, Retryable)]
)
async def test_faults(stage: Stage, status: int, outcome: type[Exception]) -> None:
    snapshot = (await stage.look()).snapshot

    async def broken(request: web.Request) -> web.StreamResponse:
        return vercel.refused(status, "forbidden", f"no {world.TOKEN}")

    stage.fake.faults = [("GET", "", broken)]
    for call in (
        stage.look(),
        stage.perform("set", snapshot),
        stage.follow("set", snapshot),
        stage.perform("restore", snapshot),
    ):
        with pytest.raises(outcome) as caught:
            await call
        world.assert_silent(caught.value)
