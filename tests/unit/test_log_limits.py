"""No tenant can fill the log: each kind of line is bounded for each object and each namespace; and
no rest is said."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from gatewright.__main__ import _log
from gatewright.runtime import controller, reconcile, workers
from gatewright.runtime.reconcile import MAX_ROUNDS, Reconciler
from gatewright.runtime.telling import log_limits, metrics
from gatewright.runtime.telling.log_limits import (
    MAX_LINES_PER_NAMESPACE,
    MAX_LINES_PER_OBJECT,
    LogLimits,
    about,
)
from gatewright.runtime.tracked import TrackedRelease
from tests.unit.test_deep import There, of, reconciler

RUNTIME = Path(controller.__file__).parent

OWN = {
    (
        "admission_probe: authors of Releases and Connections are trusted, whoever they are "
        "(--trust-authors)"
    ),
    "background: work beside the passes has failed",
    "leader: cannot read the Lease: %s",
    "leader: the Lease was not handed back: %s",
    "leader: the Lease was not renewed: %s",
    "listener: %s",
    "listener: %s cannot be shown",
    "interventions: Interventions are refused: %s",
    (
        "interventions: Interventions are taken at their word, whoever made them "
        "(--trust-interventions)"
    ),
    "operator: %s",
    "operator: %s: %s",
    "operator: %s; this instance stops acting and waits to be restarted",
    "operator: acting as %s; nobody watched for %.1fs",
    "operator: cannot act",
    "workers: %s",
    "controller: %s has ended",
    "relist: not all Interventions were taken in",
    "relist: the list of Releases could not be read: %s",
    "relist: what the watches have not told was not found out; the next list finds it",
    "api_servers: the endpoints of the API server cannot be read (%s); Connections are "
    "kept from its Service, and from %s; "
    "let the operator get the EndpointSlice kubernetes in namespace default, or name the "
    "others by --refuse-address",
    "api_servers: the endpoints of the API server cannot be read now: %s",
    "watch: an event of the watch of %s is passed over: %s",
    "watch: the watch of %s begins anew",
    "watch: the watch of %s has a gap; objects in use are read anew (%s)",
    "watch: the watch of %s: %s",
}
"""Lines that are about the operator itself."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    for file in sorted(RUNTIME.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if (
                isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.func.attr != "debug"
            ):
                yield file.stem, node


def test_each_line_says_whose_it_is_or_is_the_operators_own() -> None:
    own = set()
    for module, call in calls():
        words = next(
            arg.value
            for arg in call.args
            if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        )
        if not any(keyword.arg == "extra" for keyword in call.keywords):
            own.add(f"{module}: {words}")
    assert own == OWN


class Kept(logging.Handler):
    def __init__(self, limits: LogLimits) -> None:
        super().__init__()
        self.addFilter(limits)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(clock: Clock) -> Iterator[Kept]:
    handler = Kept(LogLimits(clock))
    logger = logging.getLogger("gatewright.test")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)


def say(namespace: str, name: str, error: str = "100% odd", level: int = logging.WARNING) -> None:
    logging.getLogger("gatewright.test").log(
        level, "%s/%s: %s", namespace, name, error, extra=about(namespace, name)
    )


def test_an_object_has_a_share_and_the_last_line_says_so(kept: Kept) -> None:
    before = metrics.dropped_lines.labels("gatewright.test")._value.get()
    for _ in range(1000):
        say("shop", "web")
    assert len(kept.lines) == MAX_LINES_PER_OBJECT
    assert kept.lines[0] == "shop/web: 100% odd"
    assert kept.lines[-1].startswith(
        "shop/web: 100% odd (the last line of this kind about shop/web for up to 10 minutes"
    )
    assert (
        metrics.dropped_lines.labels("gatewright.test")._value.get() - before
        == 1000 - MAX_LINES_PER_OBJECT
    )


def test_a_namespace_has_a_share_however_many_objects_it_has(kept: Kept) -> None:
    for number in range(5000):
        say("shop", f"web-{number}")
    assert (
        len(kept.lines) == MAX_LINES_PER_NAMESPACE
        and "about namespace shop for up to" in kept.lines[-1]
    )
    say("blog", "web")
    assert kept.lines[-1] == "blog/web: 100% odd", "others are not lost"


def test_what_is_remembered_of_it_is_bounded(kept: Kept) -> None:
    for number in range(5000):
        say("shop", f"web-{number}")
    limits = cast(LogLimits, kept.filters[0])
    assert len(limits._namespaces) == 1 and len(limits._objects) == MAX_LINES_PER_NAMESPACE


def test_other_kinds_of_lines_and_later_ones_are_written(kept: Kept, clock: Clock) -> None:
    for _ in range(100):
        say("shop", "web")
    logging.getLogger("gatewright.test").warning("another", extra=about("shop", "web"))
    assert kept.lines[-1] == "another"
    clock.now += log_limits.WINDOW_S
    say("shop", "web")
    assert kept.lines[-1] == "shop/web: 100% odd"


def test_lines_about_nobody_are_bounded_and_debugging_is_not(kept: Kept) -> None:
    for number in range(1000):
        logging.getLogger("gatewright.test").error("number %d", number)
    assert len(kept.lines) == MAX_LINES_PER_NAMESPACE
    for _ in range(1000):
        say("shop", "web", level=logging.DEBUG)
    assert len(kept.lines) == MAX_LINES_PER_NAMESPACE + 1000


def test_the_program_logs_through_it() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        root.handlers = []
        _log("INFO", "json")
        assert any(
            isinstance(one, LogLimits) for handler in root.handlers for one in handler.filters
        )
    finally:
        root.handlers = before
        root.setLevel(level)


# No rest


class Written(There):
    """Keeps the statuses that are written."""

    def __init__(self, *releases: dict[str, Any]) -> None:
        super().__init__(*releases)
        self.statuses: list[dict[str, Any]] = []
        self.host = ""

    async def patch_for_metadata(self, path: str, body: Any, kind: str) -> dict[str, Any]:
        self.statuses += (
            [item["value"] for item in body if item["path"] == "/status"]
            if isinstance(body, list)
            else []
        )
        found = self.releases[
            path.split("/")[-2] if path.endswith("/status") else path.split("/")[-1]
        ]
        found["metadata"]["resourceVersion"] = str(int(found["metadata"]["resourceVersion"]) + 1)
        return dict(found["metadata"])


@pytest.fixture
def circling(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each decision asks for another one; counts the decisions."""
    made = [0]

    async def carry_out(self: Reconciler, *_: Any) -> bool:
        made[0] += 1
        return True

    monkeypatch.setattr(Reconciler, "_carry_out", carry_out)
    return made


async def test_a_long_walk_goes_on_and_is_not_said(
    circling: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    found = reconciler(there := Written(of("web", spec={})))
    found.runtime.releases["shop", "web"] = entry = TrackedRelease.of(there.releases["web"])
    for number in range(1, workers.MAX_RESTLESS_PASSES):
        await found.workers._reconcile_safely(entry)
        assert circling == [number * MAX_ROUNDS] and len(found.runtime.queue) == 1, (
            "others first, then the next pass"
        )
    assert not there.statuses and not [line for line in caplog.messages if "no rest" in line]


async def test_no_rest_is_said_at_the_release_and_passes_become_seldom(
    circling: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = reconciler(there := Written(of("web", spec={})))
    found.runtime.releases["shop", "web"] = entry = TrackedRelease.of(there.releases["web"])
    later: list[float] = []

    def add_after(key: tuple[str, str], delay: float) -> None:
        later.append(delay)

    monkeypatch.setattr(found.runtime.queue, "add_after", add_after)
    for _ in range(workers.MAX_RESTLESS_PASSES + 9):
        await found.workers._reconcile_safely(entry)
    [status] = there.statuses
    assert status["state"] == "Stalled"
    stalled = next(item for item in status["conditions"] if item["type"] == "Stalled")
    assert (
        stalled["status"] == "True"
        and "it comes to no rest. Two things may undo each other" in stalled["message"]
    )
    assert "then edit the spec" in stalled["message"]
    assert (
        later[: len(workers.RESTLESS_DELAYS_S)] == list(workers.RESTLESS_DELAYS_S)
        and later[-1] == 300.0
    )
    said = [record for record in caplog.records if "no rest" in record.getMessage()]
    assert said and {getattr(record, "about", None) for record in said} == {("shop", "web")}


async def test_who_comes_to_rest_begins_anew(
    circling: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = reconciler(there := Written(of("web", spec={})))
    found.runtime.releases["shop", "web"] = entry = TrackedRelease.of(there.releases["web"])
    for _ in range(workers.MAX_RESTLESS_PASSES - 1):
        await found.workers._reconcile_safely(entry)

    async def rests(self: Reconciler, *_: Any) -> bool:
        return False

    monkeypatch.setattr(reconcile.Reconciler, "_carry_out", rests)
    await found.workers._reconcile_safely(entry)
    assert entry.work.restless == 0 and not there.statuses
