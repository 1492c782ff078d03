"""What pods are taken for a reason why nothing gets on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatewright.providers.workload import pods


def pod(template: str, made: str, reason: str = "", gone: bool = False) -> dict[str, Any]:
    waiting = {"waiting": {"reason": reason}} if reason else {"running": {}}
    meta = {"creationTimestamp": made, "labels": {"pod-template-hash": template}}
    return {
        "metadata": meta | ({"deletionTimestamp": made} if gone else {}),
        "status": {
            "containerStatuses": [
                {"name": "app", "image": f"shop/web:{template}", "state": waiting}
            ]
        },
    }


def test_a_crashing_pod_of_the_newest_template_is_the_reason() -> None:
    found = pods.describe_hindrance(
        [pod("old", "2026-01-01T00:00:00Z"), pod("new", "2026-01-01T00:01:00Z", "CrashLoopBackOff")]
    )
    assert found == (
        "container app, image shop/web:new: the container crashes again and again "
        "(CrashLoopBackOff)"
    )


def test_a_crash_is_said_with_how_the_container_ended() -> None:
    crashing = pod("new", "2026-01-01T00:01:00Z", "CrashLoopBackOff")
    ended = {
        "exitCode": 128,
        "reason": "StartError",
        "message": 'exec: "sh": executable file not found in $PATH',
    }
    crashing["status"]["containerStatuses"][0]["lastState"] = {"terminated": ended}
    found = pods.describe_hindrance([crashing])
    assert found is not None
    assert found.endswith(
        'ended with exit code 128 (StartError): exec: "sh": executable file not found in $PATH'
    )


def test_a_pod_that_never_gets_ready_is_named() -> None:
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    slow = pod("new", "2026-01-01T00:00:00Z")
    slow["metadata"]["name"] = "web-1"
    message = "containers with unready status: [app]"
    ready = {
        "type": "Ready",
        "status": "False",
        "lastTransitionTime": "2026-01-01T00:00:05Z",
        "message": message,
    }
    slow["status"] |= {"phase": "Running", "conditions": [ready]}
    found = pods.find_unready([slow], now)
    assert found is not None and not found.hopeless
    assert found.message.endswith(f"pod web-1 is not ready since 2026-01-01T00:00:05Z: {message}")
    assert pods.find_unready([slow], now - timedelta(seconds=40)) is None, (
        "most need a while to start"
    )


def test_a_crashing_pod_of_the_version_that_is_replaced_is_none() -> None:
    assert (
        pods.describe_hindrance(
            [
                pod("old", "2026-01-01T00:00:00Z", "CrashLoopBackOff"),
                pod("new", "2026-01-01T00:01:00Z"),
            ]
        )
        is None
    )


def test_a_pod_that_is_going_away_is_none() -> None:
    assert (
        pods.describe_hindrance([pod("new", "2026-01-01T00:01:00Z", "CrashLoopBackOff", gone=True)])
        is None
    )


def test_of_pods_that_were_made_in_the_same_second_each_may_be_the_newest() -> None:
    found = pods.describe_hindrance(
        [pod("old", "2026-01-01T00:00:00Z"), pod("new", "2026-01-01T00:00:00Z", "ImagePullBackOff")]
    )
    assert found is not None and "image shop/web:new" in found


@pytest.mark.parametrize(
    ("reason", "message", "hopeless"),
    [
        ("InvalidImageName", "couldn't parse image name", True),
        ("ErrImageNeverPull", "", True),
        ("CreateContainerConfigError", "couldn't find key token in Secret shop/keys", True),
        (
            "ErrImagePull",
            "rpc error: code = NotFound desc = failed to resolve reference: shop/web:2: not found",
            True,
        ),
        (
            "ErrImagePull",
            "manifest for shop/web:2 not found: manifest unknown: manifest unknown",
            True,
        ),
        (
            "ImagePullBackOff",
            'Back-off pulling image "shop/web:2": ErrImagePull: code = NotFound desc = no',
            True,
        ),
        ("ErrImagePull", "the repository shop/web does not exist", True),
        ("ErrImagePull", "repository does not exist or may require 'docker login'", False),
        ("ErrImagePull", "dial tcp: lookup registry.shop on 10.0.0.10:53: no such host", False),
        ("ImagePullBackOff", 'Back-off pulling image "shop/web:2"', False),
        ("CrashLoopBackOff", "back-off 10s restarting failed container", False),
        ("CreateContainerError", "context deadline exceeded", False),
    ],
)
def test_only_what_cannot_heal_by_itself_is_hopeless(
    reason: str, message: str, hopeless: bool
) -> None:
    one = pod("new", "2026-01-01T00:01:00Z", reason)
    one["status"]["containerStatuses"][0]["state"]["waiting"]["message"] = message
    found = pods.find_hindrance([one])
    assert found is not None and found.hopeless is hopeless
    assert reason in found.message and found.message.endswith(message)


def unscheduled(template: str, made: str) -> dict[str, Any]:
    one = pod(template, made)
    said = {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes"}
    one["metadata"]["name"] = template
    one["status"] = {"conditions": [said]}
    return one


def test_what_is_hopeless_is_said_first_and_what_waits_for_room_last() -> None:
    made = "2026-01-01T00:01:00Z"
    waits, crashes, hopeless = (
        unscheduled("new", made),
        pod("new", made, "CrashLoopBackOff"),
        pod("new", made),
    )
    hopeless["status"]["containerStatuses"][0]["state"] = {
        "waiting": {"reason": "InvalidImageName"}
    }
    assert "InvalidImageName" in str(pods.describe_hindrance([waits, crashes, hopeless]))
    assert "CrashLoopBackOff" in str(pods.describe_hindrance([waits, crashes]))
    assert pods.describe_hindrance([waits]) == "pod new cannot be scheduled: 0/3 nodes"
    assert (
        pods.describe_hindrance([unscheduled("old", "2026-01-01T00:00:00Z"), pod("new", made)])
        is None
    )
