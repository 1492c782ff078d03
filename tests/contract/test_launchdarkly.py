"""launchdarkly gates and flags against a stand-in for its REST API."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from gatewright.core.model.holding import Standing
from gatewright.core.model.operation import Operation
from gatewright.ports import Conflict, OpenConnection, Permanent, Retryable
from gatewright.providers.common import rest
from gatewright.providers.launchdarkly import connection as launchdarkly
from gatewright.providers.registry import CONNECTIONS, FLAGS
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.fakes.flags import LaunchDarkly
from tests.fakes.serving import always, linked, serving

TOKEN = world.TOKEN


def fake() -> LaunchDarkly:
    """One flag that is on, one that is off."""
    return LaunchDarkly(
        TOKEN,
        flags={
            "voice": {"production": True, "test": False},
            "crico": {"production": False, "test": True},
            "old": {"production": True},
        },
        archived={"old"},
    )


def link(url: str, token: str = TOKEN, timeout: float = 2.0) -> OpenConnection:
    """A Connection with a token."""
    return linked("launchdarkly", {"url": url}, {"token": token}, timeout)


def config(**flags: str) -> Any:
    """What a flags step says."""
    return FLAGS["launchdarkly"].config.model_validate(
        {"project": "shop", "environment": "production", "set": flags}
    )


def operation(kind: Any = "set") -> Operation:
    """An operation of a run."""
    return Operation("7.beta.flags.1-abc123", kind, "flags/launchdarkly")


SHOP = {"project": "shop", "environment": "production"}
TABLE = [
    # fields                                                verdict      words
    ({**SHOP, "flag": "voice"}, "Good", "voice is on in production"),
    ({**SHOP, "flag": "voice", "state": "off"}, "Breach", "voice is on in production"),
    ({**SHOP, "flag": "crico"}, "Breach", "crico is off in production"),
    ({**SHOP, "flag": "crico", "state": "off"}, "Good", "crico is off in production"),
    ({**SHOP, "environment": "test", "flag": "crico"}, "Good", ""),
    (
        {**SHOP, "environment": "nowhere", "flag": "voice", "state": "off"},
        "NotFound",
        "no environment nowhere",
    ),
    ({**SHOP, "flag": "missing", "state": "off"}, "NotFound", "there is no flag missing"),
    ({**SHOP, "project": "other", "flag": "voice"}, "NotFound", "in the project other"),
    ({**SHOP, "flag": "old"}, "Permanent", "is archived"),
]


@pytest.mark.parametrize("row", TABLE, ids=[str(row[0]) for row in TABLE])
async def test_states(row: tuple[dict[str, str], str, str]) -> None:
    async with serving(fake().app()) as url:
        kind, message = await world.verdict("launchdarkly", row[0], link(url), {})
    assert (kind, row[2] in message) == (row[1], True), f"{kind}: {message}"


VOICE = {"key": "voice", "environments": {"production": {"on": True}}}
ODD: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"key": "other"}, "not LaunchDarkly's API"),
    ({"archived": True}, "is archived"),
    ({"environments": {"production": {"on": "true"}}}, "not LaunchDarkly's API"),
    ({"environments": {"production": True}}, "not LaunchDarkly's API"),
    ({"environments": [{"production": {"on": True}}]}, "not LaunchDarkly's API"),
    ({"environments": {"test": {"on": True}}}, "no environment production"),
]


@pytest.mark.parametrize("body, words", ODD, ids=[str(row[0]) for row in ODD])
async def test_odd_answers(body: dict[str, Any], words: str) -> None:
    async with serving(always({**VOICE, **body})) as url:
        kind, message = await world.verdict("launchdarkly", TABLE[0][0], link(url), {})
    assert (kind in ("Permanent", "NotFound"), words in message) == (bool(words), True), (
        f"{kind}: {message}"
    )


async def test_credentials() -> None:
    async with serving(fake().app()) as url:
        await CONNECTIONS["launchdarkly"].check(link(url))
        with pytest.raises(Permanent, match="credentials are refused"):
            await CONNECTIONS["launchdarkly"].check(link(url, "wrong"))
        assert (await world.verdict("launchdarkly", TABLE[0][0], link(url, "wrong"), {}))[
            0
        ] == "Permanent"


async def test_set_and_back_again() -> None:
    server, flags = fake(), FLAGS["launchdarkly"]
    wanted = config(voice="on", crico="on")
    async with serving(server.app()) as url:
        connection = link(url)
        before = await flags.look(wanted, connection)
        assert (before.snapshot, before.matches) == (
            {"flags": {"crico": "off", "voice": "on"}},
            False,
        )
        assert (
            await flags.follow(wanted, connection, operation(), before.snapshot)
        ).state == "Absent"
        done = await flags.perform(wanted, connection, operation(), before.snapshot)
        assert (done.state, done.message) == ("Succeeded", "crico is on, voice is on")
        assert server.patches == [
            {
                "environmentKey": "production",
                "comment": "Gatewright set 7.beta.flags.1-abc123",
                "instructions": [{"kind": "turnFlagOn"}],
            }
        ], "what is on already is left alone, and the audit log names the operation"
        assert (await flags.look(wanted, connection)).matches
        assert (await flags.perform(wanted, connection, operation(), None)).state == "Succeeded"
        assert len(server.patches) == 1, "twice is once"
        back = await flags.perform(wanted, connection, operation("restore"), before.snapshot)
        assert (back.state, server.flags["crico"]) == (
            "Succeeded",
            {"production": False, "test": True},
        )


async def test_flags_that_somebody_switches() -> None:
    server, flags, wanted = fake(), FLAGS["launchdarkly"], config(voice="on", crico="on")
    async with serving(server.app()) as url:
        connection = link(url)
        before = (await flags.look(wanted, connection)).snapshot
        await flags.perform(wanted, connection, operation(), before)
        assert await flags.compare(wanted, connection, [operation()], before) == Standing()
        server.by_hand("crico", "test", False, "ben@foco.mx")
        assert await flags.compare(wanted, connection, [operation()], before) == Standing()
        server.by_hand("crico", "production", False, f"ana {TOKEN}")
        found = await flags.compare(wanted, connection, [operation()], before)
        assert (
            found.difference
            == "crico is off instead of on (changed at 2026-11-22T08:30:00.000Z by ana ***)"
        )
        assert (
            await flags.compare(wanted, connection, [operation(), operation("restore")], before)
            == Standing()
        )
        server.log.clear()
        found = await flags.compare(wanted, connection, [operation()], before)
    assert found.difference == "crico is off instead of on"


async def test_a_log_that_does_not_answer_hides_no_difference() -> None:
    server, flags = fake(), FLAGS["launchdarkly"]

    async def refused(request: web.Request) -> web.Response:
        return web.json_response({"code": "forbidden", "message": "no"}, status=403)

    server._audit = refused  # type: ignore[method-assign]
    async with serving(server.app()) as url:
        found = await flags.compare(config(crico="on"), link(url), [operation()], None)
    assert found.difference == "crico is off instead of on"


async def test_rollbacks_and_kill_switches_ignore_what_somebody_has_scheduled() -> None:
    server, flags = fake(), FLAGS["launchdarkly"]
    server.scheduled.add("crico")
    async with serving(server.app()) as url:
        connection = link(url)
        with pytest.raises(Permanent, match="conflicts with a change"):
            await flags.perform(config(crico="on"), connection, operation(), None)
        server.flags["crico"]["production"] = True
        back = await flags.perform(
            config(crico="on"), connection, operation("restore"), {"flags": {"crico": "off"}}
        )
        assert (back.state, server.flags["crico"]["production"]) == ("Succeeded", False)
        server.scheduled.add("voice")
        killed = await flags.perform(config(voice="off"), connection, operation(), None)
    assert (killed.state, server.flags["voice"]["production"]) == ("Succeeded", False)


async def test_two_who_change_a_flag_at_once() -> None:
    server, flags = fake(), FLAGS["launchdarkly"]
    server.busy = 1
    async with serving(server.app()) as url:
        connection = link(url)
        with pytest.raises(Conflict, match="at the same time"):
            await flags.perform(config(crico="on"), connection, operation(), None)
        assert (
            await flags.perform(config(crico="on"), connection, operation(), None)
        ).state == "Succeeded"


async def test_the_limits_window_ends_at_a_time_in_milliseconds() -> None:
    server = fake()
    server.limit = 25.0
    async with serving(server.app()) as url:
        connection = link(url)
        with pytest.raises(Retryable, match="too many requests") as caught:
            await CONNECTIONS["launchdarkly"].check(connection)
        assert 15 < caught.value.after <= 25.0
        with pytest.raises(Retryable, match="rate limit is met"):
            await launchdarkly.is_on(connection, "shop", "production", "voice")
    assert rest.MAX_WAIT_S > 25.0


async def test_a_flag_that_is_not_there_is_told_before_anything_is_touched() -> None:
    server, flags = fake(), FLAGS["launchdarkly"]
    async with serving(server.app()) as url:
        sight = await flags.look(config(crico="on", missing="on"), link(url))
        assert (sight.snapshot, sight.problem) == (
            None,
            "there is no flag missing in the project shop",
        )
        with pytest.raises(Permanent):
            await flags.perform(config(crico="on", missing="on"), link(url), operation(), None)
    assert server.patches == []


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    connection, flags = (
        link(server.url(fault), timeout=world.patience(fault)),
        FLAGS["launchdarkly"],
    )
    error = Retryable if VERDICTS[fault] == "Retryable" else Permanent
    async with world.logs() as lines:
        kind, message = await world.verdict("launchdarkly", TABLE[3][0], connection, {})
        assert kind == VERDICTS[fault], message
        for ask in (
            lambda: CONNECTIONS["launchdarkly"].check(
                link(server.url(fault), timeout=world.patience(fault))
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
        await launchdarkly.switch_flag(
            link(server.url(fault), timeout=world.patience(fault)),
            "shop",
            "a",
            "b",
            True,
            "c",
            False,
        )
    world.assert_silent(caught.value)


def test_what_it_owns() -> None:
    assert (
        FLAGS["launchdarkly"].identity(config(voice="on", crico="off"))
        == "shop/production/crico\nshop/production/voice"
    )
