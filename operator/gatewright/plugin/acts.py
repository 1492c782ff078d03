"""To act is to make an Intervention in one's own name, and to wait for what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gatewright.api import API_VERSION, RELEASE
from gatewright.plugin.cluster import Cluster, RequestFailed, api_path
from gatewright.plugin.exit_codes import DONE, FAILED, LATE
from gatewright.plugin.show import OPEN_FOLLOW_UPS

OF_SPEC = ("Approve", "Reject", "Confirm", "Retry", "Skip", "Promote", "Hotfix")
"""As in `api.intervention`, whose models take time to import; a test compares them."""
OF_START = ("Retry", "Hotfix")
OF_BODY = (*OF_START, "Run")
"""Acts for which it matters what the Runbook says; no way back waits for that."""
"""Likewise."""
OF_PROCEDURE = ("Run", "Approve", "Reject", "Confirm", "Abort")
"""Likewise."""
ALL_WELL = "all stages would have passed"
"""Likewise, as in `core.run.run_end`."""
GOOD_OUTCOMES: Mapping[str, tuple[str, ...]] = {
    # A run that only observes has nothing to undo.
    "Rollback": ("RolledBack", "Observed"),
    "Abort": ("Aborted", "Observed"),
    # Somebody has said no: whatever `onFailure` makes of that is what was asked for.
    "Reject": ("RolledBack", "Aborted", "Promoted", "Observed"),
}
"""How a run may end after which action; all others want it Promoted, or that it would have been."""
POLL_DELAYS_S = (0.1, 0.2, 0.3, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class InterventionRequest:
    """What somebody asks for."""

    release: str
    action: str
    stage: str | None = None
    step: str | None = None
    gate: str | None = None
    follow_up: str | None = None
    run: int | None = None
    groups: tuple[str, ...] = ()
    """Empty: those of the caller's groups that an approval of the Release asks for."""
    reason: str = ""
    spec_hash: str | None = None
    """The spec that was looked at; None: what is there now; empty: whichever it will be."""
    to: str | None = None
    """With Rollback at rest: a kept version, or the number of the run that promoted it."""
    with_database: bool = False
    procedure: str | None = None
    undo: bool = False
    confirmed: str | None = None


def build_intervention(
    cluster: Cluster, wish: InterventionRequest, release: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the Intervention for a wish. Raises RequestFailed.

    In the caller's own name and for the run that the caller sees.
    """
    user, groups = cluster.whoami()
    run = (release.get("status") or {}).get("run") or {}
    spec: dict[str, Any] = {"release": wish.release, "action": wish.action, "by": user}
    shown = list(wish.groups) or [group for group in groups if group in asked_groups(release)][:64]
    spec |= {"groups": shown} if wish.action in ("Approve", "Skip") and shown else {}
    number = wish.run or (
        _run_of_follow_up(release, wish.follow_up) if wish.follow_up else run.get("id")
    )
    # A test is of no run, and goes on beside whichever there is.
    is_of_run = not wish.procedure and (wish.action != "Notify" or wish.run is not None)
    spec |= {"run": number} if number and is_of_run else {}
    spec |= {
        name: getattr(wish, name)
        for name in ("stage", "step", "gate", "reason", "procedure", "undo", "confirmed")
        if getattr(wish, name)
    }
    spec |= {"followUp": wish.follow_up} if wish.follow_up else {}
    spec |= destination(wish, release.get("status") or {})
    looked_at = wish.spec_hash if wish.spec_hash is not None else seen_spec_hash(wish, release)
    spec |= {"specHash": looked_at} if looked_at else {}
    meta = {
        "generateName": f"{wish.release[:40].rstrip('-.')}-{wish.action.lower()}-",
        "namespace": cluster.namespace,
        "labels": {RELEASE: wish.release[:63].rstrip("-.")},
    }

    return {"apiVersion": API_VERSION, "kind": "Intervention", "metadata": meta, "spec": spec}


def destination(wish: InterventionRequest, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a Rollback leads, as an Intervention says it.

    A version goes before the number of a run.
    """
    where: dict[str, Any] = {"withDatabase": True} if wish.with_database else {}
    if wish.to is None:
        return where

    kept = status.get("kept") or ()
    versions = {promoted["before"].get("version") for promoted in kept}
    is_run = wish.to.isdigit() and wish.to not in versions and int(wish.to) > 0
    return where | ({"toRun": int(wish.to)} if is_run else {"to": wish.to})


def seen_spec_hash(wish: InterventionRequest, release: Mapping[str, Any]) -> str | None:
    """Return the hash of the spec that an act is about, where it lets something go on.

    Who says no is heard in any case.
    """
    run = (release.get("status") or {}).get("run") or {}
    # What a procedure does is pinned when it begins.
    if wish.procedure:
        return None
    if wish.action in OF_START:
        return spec_hash(release)
    if (
        wish.action in OF_SPEC
        and wish.action != "Reject"
        and not wish.follow_up
        and not run.get("outcome")
    ):
        return run.get("specHash")
    return None


def spec_hash(release: Mapping[str, Any]) -> str | None:
    """Return the hash of the spec as it is now; None where this plugin cannot read it."""
    from pydantic import ValidationError

    from gatewright.api.release import ReleaseSpec
    from gatewright.core.model.pinned_spec import hash_spec

    try:
        return hash_spec(ReleaseSpec.model_validate(release.get("spec")))
    except ValidationError:
        return None


def _run_of_follow_up(release: Mapping[str, Any], name: str) -> int | None:
    """Return the number of the run that a follow-up follows: the latest where it is open."""
    rows = (release.get("status") or {}).get("followUps") or ()
    named = sorted(
        (row for row in rows if row["name"] == name),
        key=lambda row: (row["state"] not in OPEN_FOLLOW_UPS, -row["run"]),
    )
    return int(named[0]["run"]) if named else None


def asked_groups(release: Mapping[str, Any]) -> set[str]:
    """Return every group that an approval of a Release asks for."""
    spec = release.get("spec") or {}
    approvals = [*(spec.get("preflight") or [])]
    for stage in spec.get("stages") or []:
        approvals += stage.get("steps") or []
    for procedure in spec.get("procedures") or []:
        approvals += [procedure, *(procedure.get("steps") or [])]

    groups: set[str] = set()
    for check_or_step in approvals:
        groups.update((check_or_step.get("approval") or {}).get("groups") or ())
    return groups


def wait_for_answer(cluster: Cluster, name: str, deadline: float) -> dict[str, Any] | None:
    """Return an Intervention's own status; None where nothing answered in time. Raises
    RequestFailed."""
    path = api_path("interventions", cluster.namespace, name)
    for status in poll_status(lambda: cluster.get(path), deadline):
        if status.get("result"):
            return status
    return None


def leaves_a_run(wish: InterventionRequest, release: Mapping[str, Any]) -> bool:
    """Return whether a run goes on after a wish came true, whose end can be waited for.

    A follow-up is of a run that is over. So is a Confirm when no run is under way: it says of what
    a failed rollback has left that it is good.
    """
    run = (release.get("status") or {}).get("run") or {}
    is_of_what_was_left = wish.action == "Confirm" and bool(run.get("outcome"))
    return not (wish.follow_up or is_of_what_was_left or wish.action == "Notify")


def meant_run(
    wish: InterventionRequest, release: Mapping[str, Any], answer: Mapping[str, Any]
) -> int:
    """Return the number of the run whose end shows whether a wish came true."""
    status = release.get("status") or {}
    is_over = bool((status.get("run") or {}).get("outcome"))
    # Where a Retry starts a version again, or a Rollback undoes one, it is the next one.
    starts_again = is_over and (
        wish.action in OF_START or (wish.action == "Rollback" and not status.get("unverified"))
    )
    return int(status.get("runs", 0)) + 1 if starts_again else int(answer.get("run") or 0)


def wait_for_end(
    cluster: Cluster, wish: InterventionRequest, number: int, deadline: float
) -> tuple[int, str]:
    """Return the exit code, and the words, for the end of a run. Raises RequestFailed."""
    for status in poll_status(lambda: cluster.get_release(wish.release), deadline):
        run = status.get("run") or {}
        meant = _run_numbered(status, number)
        outcome = meant.get("outcome")
        if outcome is None and run.get("id") != number and status.get("state") == "Promoted":
            outcome = "Promoted"  # it was live already, and was taken over without a run

        if outcome is not None:
            reason = meant.get("reason") or status.get("message", "")
            is_good = _is_good_end(wish.action, outcome, reason)
            return DONE if is_good else FAILED, f"{outcome}: {reason}"

    return LATE, f"run {number} is not over yet"


def _is_good_end(action: str, outcome: str, reason: str) -> bool:
    """Return whether a run ended as somebody asked for by an action."""
    if action in GOOD_OUTCOMES:
        return outcome in GOOD_OUTCOMES[action]
    return outcome == "Promoted" or (outcome == "Observed" and reason == ALL_WELL)


def _run_numbered(status: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    runs: list[Mapping[str, Any]] = [status.get("run") or {}, *status.get("history", ())]
    for run in runs:
        if run.get("id") == number:
            return run
    return {}


def exit_code_at_rest(release: Mapping[str, Any]) -> int | None:
    """Return 0 for a Release at rest whose wanted version is live; None while there is work."""
    status = release.get("status") or {}
    if status.get("observedGeneration") != release["metadata"].get("generation"):
        return None

    conditions = {
        condition["type"]: condition["status"] for condition in status.get("conditions", ())
    }
    run = status.get("run")
    is_running = run is not None and not run.get("outcome")
    if is_running or conditions.get("Reconciling") or conditions.get("Ready") == "Unknown":
        return None
    return DONE if conditions.get("Ready") == "True" else FAILED


def poll_status(look: Callable[[], Mapping[str, Any]], deadline: float) -> Iterator[dict[str, Any]]:
    """Yield the status, looked at again and again until the deadline.

    A server that is away for a moment is asked again.
    """
    for number in range(10**9):
        try:
            yield dict(look().get("status") or {})
        except RequestFailed as error:
            # What is wrong with the request stays wrong; a server that is busy or away does not.
            if 400 <= error.code < 500 and error.code != 429:
                raise
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, POLL_DELAYS_S[min(number, len(POLL_DELAYS_S) - 1)]))
