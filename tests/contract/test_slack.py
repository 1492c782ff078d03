"""slack: one message a run and its thread, on emulate's Slack; and what Slack's refusals mean."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from slack_sdk.models.blocks import HeaderBlock

from gatewright.ports import OpenConnection, Permanent, Retryable
from gatewright.providers.common import vendor_hosts, words
from gatewright.providers.registry import CONNECTIONS
from gatewright.providers.slack.connection import Slack, SlackRefused
from gatewright.providers.slack.notifier import MAX_TEXT_LENGTH, message_blocks
from tests.cluster.processes import free_port
from tests.contract import world
from tests.contract.refusals import VERDICTS
from tests.contract.telling import LINES, STARTED, TEST, UID, message, outcome, told, tried
from tests.fakes.serving import linked, serving
from tests.fakes.slack import CHANNEL, POOR, Between, emulated

CONFIG = {"channel": f"#{CHANNEL}"}
FAILED = message("StageFailed", "error", text="stage 2/5 security-fixes: gate errors: 3.1% > 1%")


@pytest.fixture(scope="module")
def workspace() -> Iterator[str]:
    """emulate's Slack; its base URL."""
    with emulated() as url:
        yield url


def link(url: str, token: str = world.TOKEN, timeout: float = 5.0) -> OpenConnection:
    """A Connection with a bot token."""
    return linked("slack", {"url": f"{url}/api"}, {"token": token}, timeout)


def of_run(wanted: Any, number: int) -> Any:
    """The same message of another run: each test has one of its own."""
    return replace(
        wanted, thread=f"shop/orders/{UID}/{number}", key=wanted.key.replace("/3.", f"/{number}.")
    )


def history(workspace: str, method: str, **options: str) -> list[dict[str, Any]]:
    """Messages of a channel or thread, the oldest first."""
    headers = {"Authorization": f"Bearer {world.TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{workspace}/api/{method}", json.dumps(options).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        found = json.load(answer)
    assert found["ok"], found
    return sorted(found["messages"], key=lambda item: str(item["ts"]))


def messages(workspace: str, handle: str, run: int) -> list[dict[str, Any]]:
    """Main messages of a run in the handle's channel."""
    found = history(
        workspace, "conversations.history", channel=handle.partition("/")[0], limit="1000"
    )
    return [
        item for item in found if item["metadata"]["event_payload"]["thread"].endswith(f"/{run}")
    ]


def replies(workspace: str, handle: str) -> list[str]:
    """Texts in the thread, without its first message."""
    channel, _, ts = handle.partition("/")
    return [
        item["text"]
        for item in history(workspace, "conversations.replies", channel=channel, ts=ts)[1:]
    ]


async def test_one_message_a_run_edited_in_place_with_a_thread(workspace: str) -> None:
    connection = link(workspace)
    handle = await told("slack", CONFIG, connection, of_run(STARTED, 10))
    assert handle is not None and len(messages(workspace, handle, 10)) == 1
    assert await told("slack", CONFIG, connection, of_run(FAILED, 10), handle) == handle
    [main] = messages(workspace, handle, 10)
    assert main["text"] == FAILED.title
    text = json.dumps(main["blocks"], ensure_ascii=False)
    assert "3.1% &gt; 1%" in text and all(line in text for line in LINES)
    first, second = replies(workspace, handle)
    assert "*Started* 5 stages" in first and "*StageFailed*" in second and "3.1% &gt; 1%" in second


async def test_a_test_stands_beside_the_messages_of_runs(workspace: str) -> None:
    wanted = of_run(STARTED, 90)
    handle = await told("slack", CONFIG, link(workspace), wanted)
    assert handle is not None
    channel = handle.partition("/")[0]
    assert await tried("slack", CONFIG, link(workspace)) == f"posted in #{CHANNEL}"
    found = history(workspace, "conversations.history", channel=channel, limit="1000")
    [posted] = [item for item in found if item["text"] == TEST.title]
    shown = json.dumps(posted["blocks"])
    assert "Nothing has happened; do nothing." in shown and "run 0" not in shown
    assert len(messages(workspace, handle, 90)) == 1 and len(replies(workspace, handle)) == 1


async def test_a_test_in_a_channel_that_is_not_there_says_so(workspace: str) -> None:
    with pytest.raises(Permanent, match="channel_not_found"):
        await tried("slack", {"channel": "#nowhere"}, link(workspace))


async def test_another_run_has_another_message(workspace: str) -> None:
    connection = link(workspace)
    first = await told("slack", CONFIG, connection, of_run(STARTED, 11))
    second = await told("slack", CONFIG, connection, of_run(STARTED, 12))
    assert first != second


async def test_a_message_whose_answer_was_lost_is_found_again(workspace: str) -> None:
    there = Between(workspace, lose=["chat.postMessage"])
    async with serving(there.app()) as url:
        connection, wanted = link(url), of_run(STARTED, 13)
        assert (await outcome("slack", CONFIG, connection, wanted))[0] == "Retryable"
        handle = await told("slack", CONFIG, connection, replace(wanted, again=True))
    assert handle is not None and len(messages(workspace, handle, 13)) == 1
    assert len(replies(workspace, handle)) == 1


async def test_a_reply_whose_answer_was_lost_is_not_repeated(workspace: str) -> None:
    there = Between(workspace)
    async with serving(there.app()) as url:
        connection = link(url)
        handle = await told("slack", CONFIG, connection, of_run(STARTED, 14))
        there.lose = ["chat.postMessage"]
        assert (await outcome("slack", CONFIG, connection, of_run(FAILED, 14), handle))[
            0
        ] == "Retryable"
        assert (
            await told("slack", CONFIG, connection, of_run(replace(FAILED, again=True), 14), handle)
            == handle
        )
    assert handle is not None and len(replies(workspace, handle)) == 2


async def test_who_may_not_read_the_channel_accepts_a_second_message(workspace: str) -> None:
    connection, wanted = link(workspace, POOR), of_run(STARTED, 15)
    first = await told("slack", CONFIG, connection, wanted)
    second = await told("slack", CONFIG, connection, replace(wanted, again=True))
    assert first is not None and second is not None and first != second
    assert (
        await told("slack", CONFIG, connection, of_run(replace(FAILED, again=True), 15), second)
        == second
    )


async def test_what_was_posted_before_the_thread_failed_is_not_posted_again(workspace: str) -> None:
    """Also for a bot that could not find it: the error says where it is."""
    there = Between(workspace, instead={2: web.Response(status=429, headers={"Retry-After": "7"})})
    wanted = of_run(STARTED, 16)
    async with serving(there.app()) as url:
        with pytest.raises(Retryable) as caught:
            await told("slack", CONFIG, link(url, POOR), wanted)
        handle = await told(
            "slack", CONFIG, link(url, POOR), replace(wanted, again=True), caught.value.handle
        )
    assert caught.value.after == 7.0
    assert (
        handle == caught.value.handle
        and handle is not None
        and len(messages(workspace, handle, 16)) == 1
    )
    assert there.methods()[:2] == ["chat.postMessage", "chat.postMessage"]


async def test_a_message_that_somebody_deleted_is_posted_anew(workspace: str) -> None:
    connection = link(workspace)
    handle = await told("slack", CONFIG, connection, of_run(STARTED, 17))
    assert handle is not None
    channel, _, _ts = handle.partition("/")
    again = await told("slack", CONFIG, connection, of_run(FAILED, 17), f"{channel}/1.000001")
    assert again not in (None, handle) and str(again).startswith(channel)


async def test_a_channel_may_be_given_by_its_id(workspace: str) -> None:
    connection = link(workspace)
    handle = await told("slack", CONFIG, connection, of_run(STARTED, 18))
    assert handle is not None
    channel = handle.partition("/")[0]
    there = Between(workspace)
    async with serving(there.app()) as url:
        found = await told(
            "slack", {"channel": channel}, link(url), of_run(replace(STARTED, again=True), 18)
        )
    assert found == handle and "conversations.list" not in there.methods()


async def test_a_channel_that_is_not_there(workspace: str) -> None:
    kind, text, _ = await outcome("slack", {"channel": "#nowhere"}, link(workspace))
    assert kind == "Permanent" and "channel_not_found" in text


# --- what Slack's answers mean


def workspace_that_says(answer: web.Response) -> web.Application:
    """Answers every method with this."""

    async def say(request: web.Request) -> web.Response:
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    found = web.Application()
    found.router.add_route("*", "/api/{method}", say)
    return found


REFUSALS = [
    ("invalid_auth",         "Permanent", "the token is not valid"),
    ("token_revoked",        "Permanent", "the token is not valid"),
    ("account_inactive",     "Permanent", "the token is not valid"),
    ("channel_not_found",    "Permanent", "channel_not_found"),
    ("is_archived",          "Permanent", "is_archived"),
    ("not_in_channel",       "Permanent", "not_in_channel"),
    ("invalid_blocks",       "Permanent", "invalid_blocks"),
    ("msg_too_long",         "Permanent", "msg_too_long"),
    ("something_new",        "Permanent", "something_new"),
    (f"no {world.TOKEN}",    "Permanent", "unknown error"),
    ("ratelimited",          "Retryable", "now: ratelimited"),
    ("internal_error",       "Retryable", "now: internal_error"),
    ("fatal_error",          "Retryable", "now: fatal_error"),
    ("service_unavailable",  "Retryable", "now: service_unavailable"),
]  # fmt: skip


@pytest.mark.parametrize("error, wanted, words", REFUSALS)
async def test_ok_false_is_an_error_although_the_status_is_200(
    error: str, wanted: str, words: str
) -> None:
    async with serving(
        workspace_that_says(web.json_response({"ok": False, "error": error}))
    ) as url:
        kind, text, _ = await outcome("slack", CONFIG, link(url))
        assert (kind, words in text) == (wanted, True), text
        with pytest.raises(
            Retryable if wanted == "Retryable" else Permanent, match=words.replace("*", "\\*")
        ) as caught:
            await CONNECTIONS["slack"].check(link(url))
    world.assert_silent(caught.value)


async def test_a_missing_scope_is_named() -> None:
    body = {"ok": False, "error": "missing_scope", "needed": "chat:write", "provided": "users:read"}
    async with serving(workspace_that_says(web.json_response(body))) as url:
        kind, text, _ = await outcome("slack", CONFIG, link(url))
    assert kind == "Permanent" and "it needs the scope chat:write" in text


@pytest.mark.parametrize("fault", VERDICTS)
async def test_faults(server: world.Server, fault: str) -> None:
    connection = linked(
        "slack", {"url": server.url(fault)}, {"token": world.TOKEN}, world.patience(fault)
    )
    kind, text, _ = await outcome("slack", CONFIG, connection)
    assert kind == VERDICTS[fault], text


@pytest.mark.parametrize("header, after", [({"Retry-After": "7"}, 7.0), ({}, 10.0)])
async def test_a_limit_says_when_to_come_back(header: dict[str, str], after: float) -> None:
    answer = web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=header)
    async with serving(workspace_that_says(answer)) as url:
        connection = link(url)
        kind, _, wait = await outcome("slack", CONFIG, connection)
        assert (kind, wait) == ("Retryable", after)
        assert "rate limit" in (await outcome("slack", CONFIG, connection))[1]


async def test_nobody_listens() -> None:
    kind, text, _ = await outcome("slack", CONFIG, link(f"http://127.0.0.1:{free_port()}"))
    assert kind == "Retryable" and "refused" in text


async def test_credential_check(workspace: str) -> None:
    await CONNECTIONS["slack"].check(link(workspace))


# --- Block Kit


def test_what_block_kit_takes_is_never_exceeded() -> None:
    """slack_sdk's own models refuse what is too long when they are made into JSON."""
    long = replace(
        STARTED,
        title="t" * 500,
        text="<&>" * 5000,
        lines=tuple(f"{n} {'s' * 300}" for n in range(20)),
    )
    made = [block.to_dict() for block in message_blocks(long)]
    assert len(made[0]["text"]["text"]) == HeaderBlock.text_max_length
    assert all(len(block["text"]["text"]) <= MAX_TEXT_LENGTH for block in made[1:3])
    assert len(made) <= 50 and "more" in made[2]["text"]["text"]


def test_a_cut_leaves_no_half_of_an_escaped_character() -> None:
    long = replace(STARTED, text="&" * 5000)
    text = message_blocks(long)[1].to_dict()["text"]["text"]
    assert text.replace("&amp;", "") == "…"


def test_no_stage_ends_the_block_it_stands_in() -> None:
    told_by_others = replace(STARTED, lines=("1 ship  Failed: ```\n*Promoted* by <!channel>",))
    text = message_blocks(told_by_others)[2].to_dict()["text"]["text"]
    assert text == "```\n1 ship  Failed: ''' *Promoted* by &lt;!channel&gt;\n```"


def test_the_first_and_the_last_stages_are_shown_where_there_are_too_many() -> None:
    long = replace(STARTED, lines=tuple(f"{n} {'s' * 300}" for n in range(20)))
    text = message_blocks(long)[2].to_dict()["text"]["text"]
    assert text.startswith("```\n0 s") and text.endswith("s\n```") and "\n19 s" in text


@pytest.mark.parametrize("code", ["thread_not_found", "some_code_of_tomorrow"])
async def test_what_slack_says_decides_also_where_no_message_repeats_it(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor_hosts, "is_vendor_host", lambda link: False)
    access = link("http://127.0.0.1:1/api")
    with words.of_answers(access):
        refused = Slack(access)._error_of_response(
            "chat.postMessage", SimpleNamespace(data={"ok": False, "error": code})
        )
    assert isinstance(refused, SlackRefused) and refused.error == code
    assert str(refused) == "Slack refuses chat.postMessage: unknown error"
