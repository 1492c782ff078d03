"""What pods are taken for a reason why nothing gets on."""

from __future__ import annotations

from typing import Any

from gatewright.providers.targets import pods


def pod(template: str, made: str, reason: str = "", gone: bool = False) -> dict[str, Any]:
    waiting = {"waiting": {"reason": reason}} if reason else {"running": {}}
    meta = {"creationTimestamp": made, "labels": {"pod-template-hash": template}}
    return {
        "metadata": meta | ({"deletionTimestamp": made} if gone else {}),
        "status": {"containerStatuses": [{"name": "app", "image": f"shop/web:{template}", "state": waiting}]},
    }


def test_a_crashing_pod_of_the_newest_template_is_the_reason():
    found = pods.trouble([pod("old", "2026-01-01T00:00:00Z"), pod("new", "2026-01-01T00:01:00Z", "CrashLoopBackOff")])
    assert found == "container app, image shop/web:new: the container crashes again and again (CrashLoopBackOff)"


def test_a_crashing_pod_of_the_version_that_is_replaced_is_none():
    assert (
        pods.trouble([pod("old", "2026-01-01T00:00:00Z", "CrashLoopBackOff"), pod("new", "2026-01-01T00:01:00Z")])
        is None
    )


def test_a_pod_that_is_going_away_is_none():
    assert pods.trouble([pod("new", "2026-01-01T00:01:00Z", "CrashLoopBackOff", gone=True)]) is None


def test_of_pods_that_were_made_in_the_same_second_each_may_be_the_newest():
    found = pods.trouble([pod("old", "2026-01-01T00:00:00Z"), pod("new", "2026-01-01T00:00:00Z", "ImagePullBackOff")])
    assert found is not None and "image shop/web:new" in found
