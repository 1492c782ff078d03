"""Slack: one message a run, edited in place, and a thread below it with what happened.

    first message of a run     chat.postMessage, then a reply in its thread
    every other one            chat.update of the same message, then a reply in its thread

The handle is `CHANNEL-ID/ts` of the message. Where it was lost (a crash came between), the message
is found again by its metadata; a bot that may not read the channel posts a second one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, StringConstraints
from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    HeaderBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from gatewright.api.base import Model, Name
from gatewright.ports import Message, OpenConnection, Permanent, Retryable
from gatewright.providers.common import rest
from gatewright.providers.slack.connection import Slack, SlackRefused

METADATA_TYPE = "gatewright_release"
MAX_TEXT_LENGTH = 3000
MAX_TITLE_LENGTH = HeaderBlock.text_max_length
MAX_PAGES = 5
"""Pages of channels, and of messages, that are looked through for a message whose handle was
lost."""
_GONE = frozenset(
    {"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"}
)
_UNREADABLE = frozenset(
    {"missing_scope", "not_in_channel", "channel_not_found", "not_allowed_token_type"}
)
_ID = re.compile(r"[CDG][A-Z0-9]{7,}")
_HALF = re.compile(r"&[a-z]*$")
_SIGNS: Mapping[str, str] = {"info": "🟢", "warning": "🟡", "error": "🟠", "critical": "🔴"}


class SlackNotice(Model):
    """One message a run in a channel, edited in place; what happened is told in its thread."""

    connection: Name | None = None
    """Name of a slack Connection; without it the namespace's only one."""
    channel: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    """Name (`#deployments`) or ID of the channel; the bot must be in it."""


class SlackNotifier:
    """Message and thread by the Web API."""

    config: ClassVar[type[BaseModel]] = SlackNotice
    connection: ClassVar[str] = "slack"

    async def send(
        self, config: Any, link: OpenConnection, message: Message, handle: str | None
    ) -> str | None:
        """Bring the message up to date, and reply below it. Raises Retryable, Permanent."""
        slack = Slack(link)
        if handle is None and message.again:
            handle = await _find_message(slack, config.channel, message.thread)

        handle = await _show_message(slack, config.channel, message, handle)
        try:
            await _reply_in_thread(slack, message, handle)
        except Retryable as error:
            error.handle = handle
            raise

        return handle

    async def test(self, config: Any, link: OpenConnection, message: Message) -> str:
        """Post it, beside the messages of runs. Raises Retryable, Permanent."""
        await Slack(link).chat_postMessage(
            channel=config.channel.removeprefix("#"),
            unfurl_links=False,
            text=_escape_text(message.title),
            blocks=message_blocks(message),
            metadata=_metadata_for(message.thread, message.key),
        )
        return f"posted in {config.channel}"


async def _show_message(slack: Slack, channel: str, message: Message, handle: str | None) -> str:
    content: dict[str, Any] = {
        "text": _escape_text(message.title),
        "blocks": message_blocks(message),
        "metadata": _metadata_for(message.thread, ""),
    }

    if handle is not None:
        shown_in, _, ts = handle.partition("/")
        try:
            await slack.chat_update(channel=shown_in, ts=ts, **content)
            return handle
        except SlackRefused as error:
            # What somebody has deleted cannot be edited: another one is posted.
            if error.error not in _GONE:
                raise

    posted = await slack.chat_postMessage(
        channel=channel.removeprefix("#"), unfurl_links=False, **content
    )
    if not posted.get("channel") or not posted.get("ts"):
        raise Permanent("Slack took the message and did not say where it is")

    return f"{_require_identifier(posted['channel'])}/{_require_identifier(posted['ts'])}"


async def _reply_in_thread(slack: Slack, message: Message, handle: str) -> None:
    channel, _, ts = handle.partition("/")
    # An earlier try may have got that far.
    if message.again and await _has_replied(slack, channel, ts, message.key):
        return

    reply = f"{_SIGNS[message.severity]} *{message.event}* {_escape_text(message.text)}"
    await slack.chat_postMessage(
        channel=channel,
        thread_ts=ts,
        text=_cut_text(reply, MAX_TEXT_LENGTH),
        unfurl_links=False,
        metadata=_metadata_for(message.thread, message.key),
    )


def message_blocks(message: Message) -> list[Block]:
    """Return the message, cut to what Block Kit takes."""
    title = _cut_text(f"{_SIGNS[message.severity]} {message.title}", MAX_TITLE_LENGTH)
    blocks: list[Block] = [HeaderBlock(text=PlainTextObject(text=title))]
    if message.text:
        why = _cut_text(_escape_text(message.text), MAX_TEXT_LENGTH)
        blocks.append(SectionBlock(text=MarkdownTextObject(text=why)))
    if message.lines:
        blocks.append(SectionBlock(text=MarkdownTextObject(text=_stage_table(message.lines))))

    run = message.thread.rpartition("/")[2]
    of_run = f", run {run}" if run != "0" else ""
    foot = f"{message.event} at {message.at}{of_run}"
    blocks.append(ContextBlock(elements=[MarkdownTextObject(text=foot)]))
    return blocks


def _stage_table(lines: tuple[str, ...]) -> str:
    """Return the stages; those in the middle are left out where they are too many.

    No line ends the block it stands in.
    """
    shown = [
        _cut_text(_escape_text(line).replace("```", "'''").replace("\n", " "), 400)
        for line in lines
    ]
    left_out = 0
    while len(_fence_lines(shown, left_out)) > MAX_TEXT_LENGTH:
        del shown[len(shown) // 2]
        left_out += 1
    return _fence_lines(shown, left_out)


def _fence_lines(lines: list[str], left_out: int) -> str:
    middle = [f"… {left_out} more"] if left_out else []
    half = len(lines) // 2 if left_out else len(lines)
    return "```\n" + "\n".join([*lines[:half], *middle, *lines[half:]]) + "\n```"


def _metadata_for(thread: str, key: str) -> dict[str, Any]:
    return {"event_type": METADATA_TYPE, "event_payload": {"thread": thread, "key": key}}


async def _find_message(slack: Slack, channel: str, thread: str) -> str | None:
    """Return the run's message in the channel, if it can be found."""
    channel_id: str | None = channel
    try:
        if not _ID.fullmatch(channel):
            channel_id = await _find_channel_id(slack, channel.removeprefix("#"))
        if channel_id is None:
            return None
        return await _find_in_history(slack, channel_id, thread)
    except SlackRefused as error:
        # A bot that may not read the channel posts a second message; it must not fail for that.
        if error.error not in _UNREADABLE:
            raise
    return None


async def _find_in_history(slack: Slack, channel_id: str, thread: str) -> str | None:
    cursor = ""
    for _ in range(MAX_PAGES):
        options = {
            "channel": channel_id,
            "limit": "100",
            "include_all_metadata": "true",
            "cursor": cursor or None,
        }
        page = await slack.api_call("conversations.history", data=options)

        for entry in _require_objects(page, "messages"):
            if _payload_of(entry) == (thread, ""):
                return f"{channel_id}/{_require_identifier(entry.get('ts'))}"

        cursor = _next_cursor(page)
        if not cursor:
            break
    return None


async def _find_channel_id(slack: Slack, name: str) -> str | None:
    cursor = ""
    for _ in range(MAX_PAGES):
        options = {"limit": "1000", "exclude_archived": "true", "cursor": cursor or None}
        page = await slack.api_call("conversations.list", data=options)
        for entry in _require_objects(page, "channels"):
            if entry.get("name") == name:
                return _require_identifier(entry.get("id"))

        cursor = _next_cursor(page)
        if not cursor:
            break

    return None


async def _has_replied(slack: Slack, channel: str, ts: str, key: str) -> bool:
    cursor = ""
    try:
        for _ in range(MAX_PAGES):
            options = {
                "channel": channel,
                "ts": ts,
                "limit": "100",
                "include_all_metadata": "true",
                "cursor": cursor or None,
            }
            page = await slack.api_call("conversations.replies", data=options)
            if any(_payload_of(reply)[1] == key for reply in _require_objects(page, "messages")):
                return True

            cursor = _next_cursor(page)
            if not cursor:
                return False
    except SlackRefused as error:
        # A bot that may not read the thread replies twice; it must not fail for that.
        if error.error not in _UNREADABLE | _GONE:
            raise

    return False


def _payload_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    metadata = _object_or_empty(entry.get("metadata"))
    # What another app has put there is none of ours.
    if metadata.get("event_type") != METADATA_TYPE:
        return "", ""

    payload = _object_or_empty(metadata.get("event_payload"))
    return str(payload.get("thread", "")), str(payload.get("key", ""))


def _next_cursor(page: Any) -> str:
    return rest.require_cursor(
        _object_or_empty(page.get("response_metadata")).get("next_cursor"), "Slack"
    )


def _require_identifier(value: Any) -> str:
    return rest.require_identifier(value, "Slack")


def _require_objects(page: Any, name: str) -> list[Mapping[str, Any]]:
    """Return a list of objects in an answer; none where it is missing. Raises Permanent."""
    entries = page.get(name) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Permanent("this is not the Slack API")
    return entries


def _object_or_empty(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _escape_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut_text(text: str, longest: int) -> str:
    """Return a text cut to so long at most, and not in the middle of `&amp;`."""
    return text if len(text) <= longest else f"{_HALF.sub('', text[: longest - 1])}…"
