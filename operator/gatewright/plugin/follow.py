"""Follow Releases: a line for each change of what people read."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gatewright.plugin import acts, show
from gatewright.plugin.cluster import Cluster, RequestFailed, api_path
from gatewright.plugin.exit_codes import DONE, FAILED, LATE
from gatewright.plugin.terminal import print_lines

LONGEST_WATCH_S = 240.0
"""Seconds after which a watch is made anew."""
ENDLESS_S = 10**9


def follow_release(cluster: Cluster, namespace: str, options: argparse.Namespace) -> int:
    """Print a line for each change of what people read, until the Release is at rest, or for ever.

    Return the exit code.
    """
    deadline = time.monotonic() + (options.timeout if options.timeout is not None else ENDLESS_S)
    query = {"fieldSelector": f"metadata.name={options.name}"} if options.name else {}
    printed: dict[str, str] = {}

    while True:
        listed = cluster.get(api_path("releases", namespace))
        releases = _require_named(listed["items"], options.name)
        for release in releases:
            code = _print_change(release, printed, options.wait)
            if code is not None:
                return code

        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return LATE if options.wait else DONE

        code = _watch_until_settled(
            cluster,
            namespace,
            listed["metadata"]["resourceVersion"],
            min(left_s, LONGEST_WATCH_S),
            query,
            printed,
            options.wait,
        )
        if code is not None:
            return code
        time.sleep(0.1)


def _require_named(releases: list[dict[str, Any]], name: str | None) -> list[dict[str, Any]]:
    """Return the Releases that are followed: all of them, or the one that is named."""
    followed = [release for release in releases if name in (None, release["metadata"]["name"])]
    if name and not followed:
        problem = f'releases.gatewright.dev "{name}" not found'
        raise RequestFailed(f"Error from server (NotFound): {problem}", 404)
    return followed


def _watch_until_settled(
    cluster: Cluster,
    namespace: str,
    version: str,
    lasting: float,
    query: dict[str, str],
    printed: dict[str, str],
    wait: bool,
) -> int | None:
    """Print changes while the watch lasts; return the exit code where nothing more is to come."""
    for event in cluster.watch(api_path("releases", namespace), version, lasting, **query):
        if event["type"] == "DELETED":
            print_lines([f"{show.clean_text(event['object']['metadata']['name'])}   deleted"])
            if query:
                return FAILED if wait else DONE
        elif event["type"] in ("ADDED", "MODIFIED"):
            code = _print_change(event["object"], printed, wait)
            if code is not None:
                return code
        else:
            return None  # the watch is too old: look again

    return None


def _print_change(release: Mapping[str, Any], printed: dict[str, str], wait: bool) -> int | None:
    """Print where a Release stands if it is news; return the exit code of one at rest."""
    line, uid = show.release_line(release), release["metadata"]["uid"]
    if printed.get(uid) != line:
        printed[uid] = line
        print_lines([f"{datetime.now(UTC):%H:%M:%SZ}   {line}"])
    return acts.exit_code_at_rest(release) if wait else None
