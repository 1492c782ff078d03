"""unleash gates and flags against a stand-in that answers as unleash-server 6.10 does, and where
one is installed (`tests.fakes.unleash_server`) against that one too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation
from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.registry import CONNECTIONS, FLAGS, GATES
from gatewright.providers.unleash import connection as unleash
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.fakes import unleash_server
from tests.fakes.flags import Unleash
from tests.fakes.serving import always, linked, serving

ADMIN = unleash_server.TOKEN
SERVERS = ["stand-in", "unleash-server"] if unleash_server.FOLDER else ["stand-in"]
STATES = {
    "voice": {"production": True, "development": True},
    "crico": {"production": False, "development": True},
}


def fake() -> Unleash:
    """One flag that is on, one that is off, one without a strategy."""
    return Unleash(
        ADMIN,
        flags={
            "voice": {"production": (True, 2), "development": (True, 1)},
            "crico": {"production": (False, 1), "development": (True, 1)},
            "bare": {"production": (False, 0)},
        },
    )


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest) -> Iterator[str]:
    """A real unleash-server, started once; its URL."""
    with unleash_server.unleash_server(request.getfixturevalue("database")) as url:
        yield url


@pytest.fixture(params=SERVERS)
async def standing(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An Unleash with the flags of `STATES`; its URL."""
    if request.param == "stand-in":
        async with serving(fake().app()) as url:
            yield url
        return
    url = request.getfixturevalue("installed")
    for flag, environments in STATES.items():
        await asyncio.to_thread(unleash_server.switched, url, flag, environments)
    yield url


def link(url: str, token: str = ADMIN, timeout: float = 2.0) -> OpenConnection:
    """A Connection with a token."""
    return linked("unleash", {"url": url}, {"token": token}, timeout)


def config(**flags: str) -> Any:
    """What a flags step says."""
    return FLAGS["unleash"].config.model_validate({"environment": "production", "set": flags})


def operation(kind: Any = "set") -> Operation:
    """An operation of a run."""
    return Operation("7.beta.flags.1-abc123", kind, "flags/unleash")


TABLE = [
    # fields                                                              verdict      words
    ({"environment": "production", "flag": "voice"}, "Good", "voice is on in production"),
    (
        {"environment": "production", "flag": "voice", "state": "off"},
        "Breach",
        "voice is on in production",
    ),
    ({"environment": "production", "flag": "crico"}, "Breach", "crico is off in production"),
    (
        {"environment": "production", "flag": "crico", "state": "off"},
        "Good",
        "crico is off in production",
    ),
    ({"environment": "development", "flag": "crico"}, "Good", ""),
    ({"environment": "nowhere", "flag": "voice"}, "NotFound", "no environment nowhere"),
    (
        {"environment": "nowhere", "flag": "voice", "state": "off"},
        "NotFound",
        "no environment nowhere",
    ),
    (
        {"environment": "production", "flag": "missing", "state": "off"},
        "NotFound",
        "there is no flag missing",
    ),
    (
        {"environment": "production", "flag": "voice", "project": "other"},
        "NotFound",
        "in the project other",
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=[str(row[0]) for row in TABLE])
async def test_states(standing: str, row: tuple[dict[str, str], str, str]) -> None:
    kind, message = await world.verdict("unleash", row[0], link(standing), {})
    assert (kind, row[2] in message) == (row[1], True), f"{kind}: {message}"


async def test_credentials(standing: str) -> None:
    await CONNECTIONS["unleash"].check(link(standing))
    with pytest.raises(Permanent, match="credentials are refused"):
        await CONNECTIONS["unleash"].check(link(standing, "*:*.wrong"))
    found = await world.verdict("unleash", TABLE[0][0], link(standing, "*:*.wrong"), {})
    assert (found[0], "credentials are refused" in found[1]) == ("Permanent", True), found


VOICE = {"name": "voice", "project": "default", "archived": False}
ODD: list[tuple[dict[str, Any], str]] = [
    ({"environments": [{"name": "production", "enabled": True}]}, ""),
    (
        {"environments": [{"name": "production", "enabled": True}], "project": "other"},
        "not the admin API",
    ),
    (
        {"environments": [{"name": "production", "enabled": True}], "name": "other"},
        "not the admin API",
    ),
    ({"environments": [{"name": "production", "enabled": True}], "archived": True}, "is archived"),
    ({"environments": [{"name": "production", "enabled": True}], "archived": None}, "is archived"),
    ({"environments": [{"name": "production", "enabled": 1}]}, "not the admin API"),
    ({"environments": [{"name": "production"}]}, "not the admin API"),
    ({"environments": {"production": True}}, "not the admin API"),
    ({"environments": []}, "no environment production"),
    ({}, "not the admin API"),
]


@pytest.mark.parametrize("body, words", ODD, ids=[str(row[0]) for row in ODD])
async def test_odd_answers(body: dict[str, Any], words: str) -> None:
    async with serving(always({**VOICE, **body})) as url:
        kind, message = await world.verdict("unleash", TABLE[0][0], link(url), {})
    assert (kind in ("Permanent", "NotFound"), words in message) == (bool(words), True), (
        f"{kind}: {message}"
    )


async def test_client_tokens() -> None:
    async with serving(fake().app()) as url:
        with pytest.raises(Permanent, match="may not do this"):
            await CONNECTIONS["unleash"].check(link(url, "client:x.y"))


async def test_there_and_back(standing: str) -> None:
    flags, wanted, connection = FLAGS["unleash"], config(voice="off", crico="on"), link(standing)
    before = await flags.look(wanted, connection)
    assert (before.snapshot, before.matches) == ({"flags": {"crico": "off", "voice": "on"}}, False)
    assert (await flags.follow(wanted, connection, operation(), before.snapshot)).state == "Absent"
    assert (
        await flags.perform(wanted, connection, operation(), before.snapshot)
    ).state == "Succeeded"
    assert (await flags.look(wanted, connection)).matches
    back = await flags.perform(wanted, connection, operation("restore"), before.snapshot)
    assert (back.state, back.message) == ("Succeeded", "crico is off, voice is on")
    assert (await flags.look(wanted, connection)).snapshot == before.snapshot


async def test_set_and_back_again() -> None:
    server, flags = fake(), FLAGS["unleash"]
    wanted = config(voice="on", crico="on", bare="on")
    async with serving(server.app()) as url:
        connection = link(url)
        before = await flags.look(wanted, connection)
        assert (before.snapshot, before.matches) == (
            {"flags": {"bare": "off", "crico": "off", "voice": "on"}},
            False,
        )
        assert (
            await flags.follow(wanted, connection, operation(), before.snapshot)
        ).state == "Absent"
        done = await flags.perform(wanted, connection, operation(), before.snapshot)
        assert (done.state, done.message) == ("Succeeded", "bare is on, crico is on, voice is on")
        assert sorted(server.switched) == ["bare on", "crico on"], (
            "what is on already is left alone"
        )
        assert (await flags.look(wanted, connection)).matches
        again = await flags.perform(wanted, connection, operation(), before.snapshot)
        assert (again.state, len(server.switched)) == ("Succeeded", 2), "twice is once"

        back = await flags.perform(wanted, connection, operation("restore"), before.snapshot)
        assert back.state == "Succeeded"
        assert (await flags.look(wanted, connection)).snapshot == before.snapshot
        assert (
            await flags.follow(wanted, connection, operation("restore"), before.snapshot)
        ).state == "Succeeded"
        assert await flags.trouble(wanted, connection, operation()) is None


async def test_a_crash_between_two_flags_leaves_the_rest_to_be_done() -> None:
    server, flags = fake(), FLAGS["unleash"]
    server.refuse["voice"] = (500, {"name": "InternalError", "message": "oops"})
    wanted = config(bare="on", voice="off")
    async with serving(server.app()) as url:
        connection = link(url)
        with pytest.raises(Retryable):
            await flags.perform(wanted, connection, operation(), None)
        half = await flags.follow(wanted, connection, operation(), None)
        assert (half.state, half.message) == ("Absent", "not yet as wanted: voice")
        server.refuse.clear()
        assert (await flags.perform(wanted, connection, operation(), None)).state == "Succeeded"
    assert server.switched == ["bare on", "voice off"]


async def test_a_switch_that_did_nothing_is_no_success() -> None:
    server, flags = fake(), FLAGS["unleash"]
    server.deaf = True
    async with serving(server.app()) as url:
        found = await flags.perform(config(crico="on"), link(url), operation(), None)
        assert (found.state, found.message) == ("Running", "not yet as wanted: crico")
        assert (
            await flags.follow(config(crico="on"), link(url), operation(), None)
        ).state == "Absent"
    assert server.switched == ["crico on"]


async def test_a_flag_that_is_not_there_is_told_before_anything_is_touched() -> None:
    server, flags = fake(), FLAGS["unleash"]
    async with serving(server.app()) as url:
        sight = await flags.look(config(crico="on", missing="on"), link(url))
        assert (sight.snapshot, sight.problem) == (
            None,
            "there is no flag missing in the project default, or it is archived",
        )
        with pytest.raises(Permanent):
            await flags.perform(config(crico="on", missing="on"), link(url), operation(), None)
    assert server.switched == []


REFUSALS = [
    (
        400,
        {
            "name": "ArchivedFeatureError",
            "message": "Cannot perform this operation on archived features",
        },
        Permanent,
    ),
    (
        403,
        {"name": "PermissionError", "message": f"You need UPDATE_FEATURE_ENVIRONMENT, {ADMIN}"},
        Permanent,
    ),
    (409, {"name": "OperationDeniedError", "message": "no"}, Permanent),
    (503, {}, Retryable),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=[str(row[0]) for row in REFUSALS])
async def test_refusals(refusal: tuple[int, dict[str, str], type[Exception]]) -> None:
    server, flags = fake(), FLAGS["unleash"]
    server.refuse["crico"] = refusal[:2]
    async with serving(server.app()) as url, world.logs() as lines:
        with pytest.raises(refusal[2]) as caught:
            await flags.perform(config(crico="on"), link(url), operation(), None)
    world.assert_silent(caught.value, *lines)


@pytest.mark.parametrize(
    "snapshot", [None, {}, {"flags": {}}, {"flags": {"crico": "maybe"}}, {"flags": "off"}]
)
async def test_without_a_snapshot_nothing_is_restored(snapshot: Any) -> None:
    server = fake()
    async with serving(server.app()) as url:
        with pytest.raises(Permanent, match="no snapshot"):
            await FLAGS["unleash"].perform(
                config(crico="on"), link(url), operation("restore"), snapshot
            )
    assert server.switched == []


@pytest.mark.parametrize("kind", ["apply", "act", "job", "stop", "ask"])
async def test_other_operations_are_not_understood(kind: Any) -> None:
    flags, wanted = FLAGS["unleash"], config(crico="on")
    async with serving(fake().app()) as url:
        for ask in (flags.perform, flags.follow):
            with pytest.raises(Permanent, match=f"nothing else \\({kind}\\)"):
                await ask(wanted, link(url), operation(kind), None)
        with pytest.raises(Permanent, match=f"nothing else \\({kind}\\)"):
            await flags.compare(wanted, link(url), [operation(kind)], None)


async def test_flags_that_somebody_switches(standing: str) -> None:
    flags, wanted, connection = FLAGS["unleash"], config(voice="off", crico="on"), link(standing)
    before = (await flags.look(wanted, connection)).snapshot
    assert (await flags.perform(wanted, connection, operation(), before)).state == "Succeeded"
    assert await flags.compare(wanted, connection, [operation()], before) == Standing()
    await unleash.switch_flag(connection, "default", "production", "crico", False)
    found = await flags.compare(wanted, connection, [operation()], before)
    assert found.difference.startswith("crico is off instead of on (switched at 20"), found
    back = operation("restore")
    found = await flags.compare(wanted, connection, [operation(), back], before)
    assert found.difference.startswith("voice is off instead of on (switched at 20"), found
    assert (await flags.perform(wanted, connection, back, before)).state == "Succeeded"
    assert await flags.compare(wanted, connection, [operation(), back], before) == Standing()


async def test_who_switched_a_flag_is_told_where_unleash_tells() -> None:
    server, flags, wanted = fake(), FLAGS["unleash"], config(crico="on")
    async with serving(server.app()) as url:
        connection = link(url)
        await flags.perform(wanted, connection, operation(), None)
        server.by_hand("crico", "development", False, "ben")
        assert (await flags.compare(wanted, connection, [operation()], None)).difference == ""
        server.by_hand("crico", "production", False, "ana")
        server.by_hand("crico", "development", True, "ben")
        found = await flags.compare(wanted, connection, [operation()], None)
        assert (
            found.difference
            == "crico is off instead of on (switched at 2026-11-22T08:30:02.000Z by ana)"
        )
        server.events.clear()
        assert (
            await flags.compare(wanted, connection, [operation()], None)
        ).difference == "crico is off instead of on"


async def test_a_flag_that_is_archived_meanwhile() -> None:
    server, flags, wanted = fake(), FLAGS["unleash"], config(crico="on")
    async with serving(server.app()) as url:
        await flags.perform(wanted, link(url), operation(), None)
        del server.flags["crico"]
        found = await flags.compare(wanted, link(url), [operation()], None)
    assert found.difference == "there is no flag crico in the project default, or it is archived"


async def test_only_flags_that_the_run_has_set_go_back() -> None:
    """`bare` was recorded too, and is somebody else's: the run has never set it."""
    server, flags, wanted = fake(), FLAGS["unleash"], config(crico="on", bare="on")
    narrow = {"unleash": {"environment": "production", "set": {"crico": "on"}}}
    async with serving(server.app()) as url:
        connection = link(url)
        before = (await flags.look(wanted, connection)).snapshot
        change = replace(operation(), config=narrow)
        server.flags["crico"]["production"] = server.flags["bare"]["production"] = (True, 1)
        back = replace(operation("restore"), changes=(change,))
        assert (
            await flags.follow(wanted, connection, back, before)
        ).message == "not yet as wanted: crico"
        found = await flags.perform(wanted, connection, back, before)
        assert (found.state, found.message) == ("Succeeded", "crico is off")
        assert await flags.compare(wanted, connection, [change, back], before) == Standing()
    assert (server.flags["crico"]["production"][0], server.flags["bare"]["production"][0]) == (
        False,
        True,
    )


async def test_a_flag_of_which_nothing_was_recorded() -> None:
    server, flags, wanted = fake(), FLAGS["unleash"], config(crico="on", bare="on")
    async with serving(server.app()) as url:
        connection = link(url)
        await flags.perform(wanted, connection, operation(), None)
        found = await flags.perform(
            wanted, connection, operation("restore"), {"flags": {"crico": "off"}}
        )
    assert (found.state, "nothing was recorded of bare" in found.message) == ("Failed", True), found
    assert server.flags["crico"]["production"][0] is False, "what is known goes back"


@pytest.mark.parametrize("config_of", [{}, {"unleash": {}}, ["crico"], {"a": {}, "b": {}}])
async def test_a_change_that_does_not_say_what_it_set(config_of: Any) -> None:
    async with serving(fake().app()) as url:
        back = replace(operation("restore"), changes=(replace(operation(), config=config_of),))
        with pytest.raises(Permanent, match="does not say which flags it set"):
            await FLAGS["unleash"].perform(
                config(crico="on"), link(url), back, {"flags": {"crico": "off"}}
            )


async def test_nothing_wanted_is_nothing_compared() -> None:
    async with serving(fake().app()) as url:
        with pytest.raises(Permanent, match="nothing is wanted"):
            await FLAGS["unleash"].compare(config(crico="on"), link(url), [], None)


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    connection, flags = (
        link(server.url(fault), world.TOKEN, timeout=world.patience(fault)),
        FLAGS["unleash"],
    )
    error = Retryable if VERDICTS[fault] == "Retryable" else Permanent
    async with world.logs() as lines:
        kind, message = await world.verdict("unleash", TABLE[3][0], connection, {})
        assert kind == VERDICTS[fault], message
        for ask in (
            lambda: CONNECTIONS["unleash"].check(
                link(server.url(fault), world.TOKEN, timeout=world.patience(fault))
            ),
            lambda: flags.look(config(crico="off"), connection),
            lambda: flags.perform(config(crico="off"), connection, operation(), None),
            lambda: flags.follow(config(crico="off"), connection, operation(), None),
            lambda: flags.compare(config(crico="off"), connection, [operation()], None),
        ):
            with pytest.raises(error) as caught:
                await ask()
            world.assert_silent(caught.value)
    world.assert_silent(*lines)


NO_ANSWER = (
    "400",
    "401",
    "403",
    "404",
    "422",
    "429",
    "500",
    "502-html",
    "time-out",
    "oversized",
    "redirect",
    "broken",
)


@pytest.mark.parametrize("fault", NO_ANSWER)
async def test_faults_of_a_switch(server: world.Server, fault: str) -> None:
    """Where the answer is a good one, whatever is in it, the flag is read back."""
    with pytest.raises(Retryable if VERDICTS[fault] == "Retryable" else Permanent) as caught:
        await unleash.switch_flag(
            link(server.url(fault), world.TOKEN, timeout=world.patience(fault)),
            "default",
            "production",
            "crico",
            True,
        )
    world.assert_silent(caught.value)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"environment": "production", "set": {}}, "at least 1"),
        ({"environment": "production", "set": {"voice": True}}, "'on' or 'off'"),
        ({"environment": "production", "set": {"voice": "yes"}}, "'on' or 'off'"),
        ({"environment": "../x", "set": {"voice": "on"}}, "pattern"),
        ({"set": {"voice": "on"}}, "environment"),
    ],
)
def test_what_cannot_be_set(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FLAGS["unleash"].config.model_validate(fields)


def test_what_it_owns() -> None:
    flags = FLAGS["unleash"]
    assert (
        flags.identity(config(voice="on", crico="off"))
        == "default/production/crico\ndefault/production/voice"
    )
    assert GATES["unleash"].config.model_validate(TABLE[0][0]).limits == "useless"  # type: ignore[attr-defined]
