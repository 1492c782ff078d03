"""What reports of tests have in common: how many passed, failed, were flaky or skipped, and which
failed first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gatewright.providers.reports.finding import Finding, plain_line, show_amount


@dataclass(slots=True)
class Tally:
    """Tests that were counted. Flaky ones failed first and passed at last; they are among the
    passed."""

    passed: int = 0
    failed: int = 0
    flaky: int = 0
    skipped: int = 0
    first: str = ""
    """Name of the first that failed."""
    outside: int = 0
    """Errors that are no test's: a file that cannot be loaded."""
    where: str = ""
    """The file of the first such error."""

    def fail(self, name: str) -> None:
        """Count one more test that has failed."""
        self.failed += 1
        self.first = self.first or name

    def add(self, other: Tally) -> None:
        """Add those of another report."""
        self.passed += other.passed
        self.failed += other.failed
        self.flaky += other.flaky
        self.skipped += other.skipped
        self.outside += other.outside
        self.first, self.where = self.first or other.first, self.where or other.where


def add_tallies(tallies: Iterable[Tally]) -> Tally:
    """Add all reports together."""
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def judge_tally(tally: Tally, least: int) -> Finding:
    """Judge tests: none failed, nothing went wrong beside them, and at least so many passed."""
    whole = tally.passed + tally.failed + tally.skipped
    outputs = {
        "passed": str(tally.passed),
        "failed": str(tally.failed),
        "flaky": str(tally.flaky),
        "skipped": str(tally.skipped),
        "total": str(whole),
    }

    if tally.failed:
        first = f", first: {plain_line(tally.first)}" if tally.first else ""
        tests = show_amount(whole, "test")
        return Finding(False, f"{tally.failed} of {tests} failed{first}", outputs)
    # Where no test was listed either, the file that cannot be loaded says more.
    if tally.outside and whole:
        place = f" ({plain_line(tally.where)})" if tally.where else ""
        errors = show_amount(tally.outside, "error")
        return Finding(False, f"{errors} outside of the tests{place}", outputs)
    if not tally.passed:
        return Finding(False, _explain_no_test(tally), outputs)

    passed = f"{show_amount(tally.passed, 'test')} passed"
    if tally.passed < least:
        return Finding(False, f"{passed}, and at least {least} must", outputs)

    extra = [f"{tally.flaky} flaky"] if tally.flaky else []
    extra += [f"{tally.skipped} skipped"] if tally.skipped else []
    return Finding(True, ", ".join([passed, *extra]), outputs)


def _explain_no_test(tally: Tally) -> str:
    if tally.skipped:
        skipped = "the only one was" if tally.skipped == 1 else f"all {tally.skipped} were"
        return f"no test ran: {skipped} skipped"
    if tally.where:
        return f"no test ran: a file cannot be loaded ({plain_line(tally.where)})"
    return "no test ran"
