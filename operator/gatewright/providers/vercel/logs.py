"""The ends of a deployment's logs, as messages repeat them.

A log is text of whoever is at the Connection's URL, so of anybody but Vercel none is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gatewright.core.text import foreign, masking
from gatewright.ports import OpenConnection
from gatewright.providers.common import client, replies, rest, vendor_hosts
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.vercel.connection import as_object, call, team_query


async def fetch_build_log(link: OpenConnection, identity: str) -> str:
    """Return the end of a deployment's build log, in one line; of anybody but Vercel none.

    Raises Retryable, Permanent.
    """
    # A log is text of whoever is at the URL.
    if not vendor_hosts.is_vendor_host(link):
        return ""

    path = f"/v3/deployments/{rest.path_segment(identity)}/events"
    query = {"builds": 1, "direction": "backward", "limit": 30}
    reply = await call(link, "GET", path, query=query, bucket="logs")
    events = replies.json_of(reply)
    if not isinstance(events, list):
        return ""

    lines = [_printed_line(event) for event in events if _is_printed(event)]
    return log_tail(reversed(lines), link)


def _is_printed(event: Any) -> bool:
    return isinstance(event, dict) and event.get("type") in ("stdout", "stderr", "fatal")


def _printed_line(event: Mapping[str, Any]) -> str:
    return str(event.get("text") or as_object(event.get("payload")).get("text") or "")


async def fetch_runtime_log(link: OpenConnection, project_id: str, identity: str) -> str:
    """Return the end of what a deployment logged: lines of level error and fatal, else of any.

    The vendor sends a line as it happens and does not end: what has come after half the
    Connection's time is taken. Of anybody but Vercel there is none: a log is text of whoever is at
    the URL.

    Raises Retryable, Permanent.
    """
    if not vendor_hosts.is_vendor_host(link):
        return ""

    project, deployment = rest.path_segment(project_id), rest.path_segment(identity)
    path = f"/v1/projects/{project}/deployments/{deployment}/runtime-logs"
    team = [f"{name}={rest.path_segment(value)}" for name, value in team_query(link).items()]
    if team:
        path = f"{path}?{'&'.join(team)}"

    headers = {"Accept": "application/stream+json"}
    reply = await client.ask(link, "GET", path, headers=headers, enough=link.timeout / 2)
    replies.require_ok(reply)

    lines = list(_log_records(reply.body))
    bad = [line for line in lines if line.get("level") in ("error", "fatal")]
    return log_tail([str(line.get("message", "")) for line in bad or lines], link)


def _log_records(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        try:
            record = foreign.parse_json(line)
        except ValueError:
            continue  # the last line may have been cut

        if isinstance(record, dict) and record.get("source") != "delimiter":
            yield record


def log_tail(lines: Iterable[str], link: OpenConnection) -> str:
    """Return the last words of a log, in one line, without what looks like a secret."""
    return masking.mask_ending(
        hide_secrets(masking.take_end(masking.join_lines(lines)), link, masking.MOST_TEXT_CHARS)
    )


def repeatable_sentence(link: OpenConnection, sentence: Any) -> str:
    """Return what Vercel says of a deployment, as a message may repeat it.

    Of anybody else a short word.
    """
    if vendor_hosts.is_vendor_host(link):
        return log_tail([str(sentence)], link)
    return rest.repeatable_text(link, sentence)
