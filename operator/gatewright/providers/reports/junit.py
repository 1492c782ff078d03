"""JUnit XML, as pytest, Surefire, gotestsum, Jest, GoogleTest ... write it: `testsuites`,
`testsuite`, `testcase`.

There is no specification, so what a case says decides, and what the suites declare may only make it
worse. The text goes through expat as it is read: nothing is built, and a document that begins with
its root element can declare no entity, so that none can be expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from gatewright.api.jobs import JunitReport
from gatewright.providers.reports.finding import Finding, MalformedReport
from gatewright.providers.reports.suites import Tally, add_tallies, judge_tally

_START = re.compile(rb"<testsuites?(?=[\s/>])")
_LEFT_OVER = re.compile(rb"</?(testsuites?|testcase)(?=[\s/>])")
_SUITES = ("testsuite", "testsuites")
_BAD = ("failure", "error")
_BAD_WORDS = ("failed", "failure", "error", "broken")
_NOT_RUN = ("notrun", "skipped", "disabled", "ignored")
"""Values of a case's `status` or `result`, where a producer has them instead of an element."""
_MAX_DOCUMENTS = 1000
"""Documents in one text."""


class Junit:
    """A case with a failure or an error, a suite that declares more than it lists, or no case that
    ran: a failure."""

    title = "JUnit report"
    exits: Mapping[int, str] = {}

    def documents(self, output: str) -> list[Any]:
        data = output.encode(errors="replace")
        tallies: list[Tally] = []
        place = 0
        while match := _START.search(data, place):
            _require_whole(data[place : match.start()])
            tally, place = _parse_at(data, match.start())
            tallies.append(tally)
            if len(tallies) > _MAX_DOCUMENTS:
                raise MalformedReport(f"there are more than {_MAX_DOCUMENTS} reports in it")

        _require_whole(data[place:])
        return tallies

    def judge(self, documents: Sequence[Any], config: JunitReport) -> Finding:
        return judge_tally(add_tallies(documents), config.minTests)


def _require_whole(between: bytes) -> None:
    """Refuse the rest of a report whose beginning is not there."""
    if _LEFT_OVER.search(between):
        raise MalformedReport("its beginning is cut off")


@dataclass(slots=True)
class _Case:
    name: str
    bad: bool = False
    flaky: bool = False
    skipped: bool = False


@dataclass(slots=True)
class _Sums:
    """What a suite declares of itself, or what those within it declare together."""

    tests: int = 0
    failed: int = 0
    idle: int = 0

    def worse_of(self, other: _Sums) -> _Sums:
        return _Sums(
            max(self.tests, other.tests),
            max(self.failed, other.failed),
            max(self.idle, other.idle),
        )

    def add(self, other: _Sums) -> None:
        self.tests += other.tests
        self.failed += other.failed
        self.idle += other.idle


@dataclass(slots=True)
class _Reader:
    tally: Tally = field(default_factory=Tally)
    path: list[str] = field(default_factory=list)
    declared: list[_Sums] = field(default_factory=list)
    inner: list[_Sums] = field(default_factory=lambda: [_Sums()])
    case: _Case | None = None
    ended: bool = False
    elements: int = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        inside = self.path[-1] if self.path else None
        self.path.append(name)
        self.elements += 1

        if name in _SUITES:
            self.declared.append(_sums_of(attributes))
            self.inner.append(_Sums())
        elif name == "testcase":
            self.case = _case_of(attributes)
        elif self.case is not None and inside == "testcase":
            self.case.bad |= name in _BAD
            self.case.skipped |= name == "skipped"
            self.case.flaky |= name in ("flakyFailure", "flakyError")
        elif name in _BAD and inside in _SUITES:
            # It is of a fixture of the whole suite.
            self.tally.outside += 1

    def end(self, name: str) -> None:
        self.path.pop()
        if name == "testcase" and self.case is not None:
            self._count_case(self.case)
            self.case = None
        elif name in _SUITES:
            within = self.inner.pop()
            self.inner[-1].add(self.declared.pop().worse_of(within))
        self.ended = not self.path

    def _count_case(self, case: _Case) -> None:
        if case.bad:
            self.tally.fail(case.name)
        elif case.skipped:
            self.tally.skipped += 1
        else:
            self.tally.passed += 1
            self.tally.flaky += case.flaky

    def result(self) -> Tally:
        """Return the cases, made worse by what is declared beyond them."""
        declared, tally = self.inner[0], self.tally
        missing = declared.failed - tally.failed - tally.outside
        if missing > 0:
            tally.failed += missing
            tally.passed = max(0, tally.passed - missing)

        ran = tally.passed + tally.failed
        if declared.tests - max(declared.idle, tally.skipped) > ran:
            listed = ran + tally.skipped
            raise MalformedReport(f"it declares {declared.tests} tests and lists {listed}")

        return tally


def _case_of(attributes: Mapping[str, str]) -> _Case:
    """Return what a case says of itself, before anything within it."""
    place = (attributes.get("classname"), attributes.get("name"))
    name = " › ".join(part for part in place if part)
    words = {attributes.get("status", "").lower(), attributes.get("result", "").lower()}
    return _Case(
        name or "a test without a name",
        bad=not words.isdisjoint(_BAD_WORDS),
        skipped=not words.isdisjoint(_NOT_RUN),
    )


def _parse_at(data: bytes, begin: int) -> tuple[Tally, int]:
    """Return the cases of the document that begins here, and where it ends.

    Raises MalformedReport.
    """
    reader = _Reader()
    index = 0
    parser = expat.ParserCreate("utf-8")

    def ended(name: str) -> None:
        nonlocal index
        reader.end(name)
        if reader.ended:
            index = parser.CurrentByteIndex

    parser.StartElementHandler, parser.EndElementHandler = reader.start, ended
    try:
        parser.Parse(memoryview(data)[begin:], True)
    except expat.ExpatError as error:
        # What follows the root element is not ours.
        if not reader.ended:
            reason = expat.ErrorString(error.code)
            raise MalformedReport(f"it is cut off or not well-formed: {reason}") from None

    return reader.result(), _end_of_root(data, begin + index, reader.elements == 1)


def _end_of_root(data: bytes, place: int, alone: bool) -> int:
    """Return the place behind the root element: expat tells where its end tag begins, or where a
    root of one tag ends."""
    if alone and data[place - 2 : place] == b"/>":
        return place
    return data.index(b">", place) + 1


def _sums_of(attributes: Mapping[str, str]) -> _Sums:
    def number(name: str) -> int:
        return _require_number(name, attributes.get(name) or "0")

    return _Sums(
        tests=number("tests"),
        failed=number("failures") + number("errors"),
        idle=number("skipped") + number("disabled") + number("ignored"),
    )


def _require_number(name: str, value: str) -> int:
    if not value.strip().isascii() or not value.strip().isdigit() or len(value) > 15:
        raise MalformedReport(f"its attribute {name} is not a number")
    return int(value)
