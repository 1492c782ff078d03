"""github: the checks of a commit, or the number of open issues.

    {repository: acme/shop, commit: 8f3c2e1, checks: [lint, unit]}      are they all green?
    {repository: acme/shop, openIssues: {labels: [P0]}}, max: "0"       how many?

GitHub has three kinds of checks, and a name may stand for any of them: check runs (the jobs of
GitHub Actions, and other apps), workflow runs, and the older commit statuses. Everything that has
the name must be good. Of several attempts the newest counts: by workflow, or by app where there is
none.

    success                              good
    neutral, skipped                     good only where `accept` says so, else a breach: nothing
                                         was checked
    failure, cancelled, timed_out ...    a breach
    queued, in_progress ...              no data: nobody knows yet
    not there, an unknown word           no data

A pull request is an issue to GitHub, and not to us. Issues are listed, not searched for: the search
has an index that lags, and answers that may be incomplete. No issue at all means something only if
the repository has such a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints

from gatewright.api.base import Model, Name
from gatewright.api.conditions import Condition, Given
from gatewright.api.rules import ExactlyOne, Needs, Rule, Together
from gatewright.ports import Answer, OpenConnection, Permanent
from gatewright.providers.common import words
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.github.connection import (
    ListUnfinished,
    Ref,
    Repository,
    call,
    fetch,
    list_pages,
    repository_path,
    require_objects,
)
from gatewright.providers.units import Unit

_BAD_CONCLUSIONS = frozenset(
    {"failure", "cancelled", "timed_out", "action_required", "startup_failure", "stale", "error"}
)
_OPEN_STATUSES = frozenset({"queued", "in_progress", "waiting", "requested", "pending"})

CheckName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^,]+$")]


class OpenIssues(Model):
    """Which open issues are counted."""

    labels: Annotated[list[Label], Field(min_length=1, max_length=10)]
    """Labels that an issue must have, all of them; each must exist in the repository."""


class GithubCheck(Model):
    """Whether the checks of a commit are green, or the number of open issues."""

    rules: ClassVar[tuple[Rule, ...]] = (
        ExactlyOne("checks", "openIssues"),
        Together("checks", "commit", message="checks are those of a commit: give both or none"),
        Needs(
            "accept",
            "checks",
            "accept belongs to checks: issues have no conclusion",
            at_apply=False,
        ),
    )
    needs_limit: ClassVar[Condition] = Given("openIssues")

    connection: Name | None = None
    """Name of the github Connection; the namespace's only one when left out."""
    repository: Repository
    """The repository, as `acme/shop`."""
    commit: Ref | None = None
    """The commit, branch or tag whose `checks` must be green."""
    checks: Annotated[list[CheckName], Field(min_length=1, max_length=50)] | None = None
    """Names of check runs (jobs), workflows or commit statuses; each must be there and green."""
    accept: Annotated[list[Literal["neutral", "skipped"]], Field(max_length=2)] = []
    """Conclusions that are as good as `success`; without them a check that was skipped is a
    breach."""
    openIssues: OpenIssues | None = None
    """The number of open issues, pull requests left out; needs `max`."""

    @property
    def limits(self) -> Literal["required", "useless"]:
        """Return whether max and min belong to this check."""
        return "required" if self.needs_limit.holds(self) else "useless"


class GithubGate(PresentGate):
    """Asks GitHub's REST API."""

    config: ClassVar[type[BaseModel]] = GithubCheck
    connection: ClassVar[str] = "github"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: GithubCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        return "number" if config.openIssues is not None else "boolean"

    async def measure(self, config: GithubCheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        try:
            if config.openIssues is not None:
                return await _measure_issues(config.repository, config.openIssues.labels, link)
            assert config.commit is not None
            return await _measure_checks(config, config.commit, link)
        except ListUnfinished as error:
            return Answer(None, str(error))


# --- checks


async def _measure_checks(config: GithubCheck, ref: str, link: OpenConnection) -> Answer:
    commit, statuses = await _fetch_statuses(config.repository, ref, link)
    workflow_by_suite, runs = await _fetch_workflow_runs(config.repository, commit, link)
    jobs = await _fetch_check_runs(config.repository, commit, workflow_by_suite, link)

    assert config.checks is not None
    results = [*statuses, *runs, *jobs]
    return _judge_checks(config.checks, results, frozenset(config.accept), link)


async def _fetch_workflow_runs(
    repository: str, commit: str, link: OpenConnection
) -> tuple[dict[int, int], list[_CheckResult]]:
    """Return the workflow of each check suite, and the results of workflow runs."""
    path = repository_path(repository, "actions", "runs")
    query = {"head_sha": commit, "exclude_pull_requests": "true"}
    workflow_by_suite: dict[int, int] = {}
    results: list[_CheckResult] = []
    async for page in list_pages(link, path, query, "workflow_runs"):
        for run in (run for run in page if run.get("head_sha") == commit):
            workflow = _number_in(run, "workflow_id")
            # Whoever re-runs a workflow keeps its run and raises the attempt; whoever starts it
            # again gets a new run.
            attempts = ("run_number", "run_attempt", "id")
            age = tuple(_number_in(run, name) for name in attempts)
            if run.get("check_suite_id"):
                workflow_by_suite[_number_in(run, "check_suite_id")] = workflow

            source = ("workflow", workflow)
            results.append(_CheckResult(str(run.get("name")), source, age, _conclusion_of(run)))

    return workflow_by_suite, results


async def _fetch_check_runs(
    repository: str, commit: str, workflow_by_suite: Mapping[int, int], link: OpenConnection
) -> list[_CheckResult]:
    path = repository_path(repository, "commits", commit, "check-runs")
    results: list[_CheckResult] = []
    async for page in list_pages(link, path, {"filter": "latest"}, "check_runs", 20):
        for run in page:
            suite = _number_in(_object_in(run, "check_suite"), "id")
            source: tuple[str, int | str] = ("app", str(_object_in(run, "app").get("slug")))
            if suite in workflow_by_suite:
                source = ("job", workflow_by_suite[suite])

            age = (_number_in(run, "id"),)
            results.append(_CheckResult(str(run.get("name")), source, age, _conclusion_of(run)))

    return results


async def _fetch_statuses(
    repository: str, ref: str, link: OpenConnection
) -> tuple[str, list[_CheckResult]]:
    """Return the full name of the commit, and its statuses.

    GitHub lists the newest of each context.
    """
    path = repository_path(repository, "commits", ref, "status")
    results: list[_CheckResult] = []
    for page in range(1, 11):
        answer = await fetch(link, path, query={"per_page": 100, "page": page})
        statuses = require_objects(answer.get("statuses"), path)
        commit = answer.get("sha")
        if not isinstance(commit, str):
            raise Permanent("the answer about the commit holds no sha; is this the GitHub API?")

        results += [_result_of_status(status) for status in statuses]
        if len(results) >= _number_in(answer, "total_count") or not statuses:
            return commit, results

    raise ListUnfinished("more than 1000 statuses, which is more than are read")


def _result_of_status(status: Mapping[str, Any]) -> _CheckResult:
    name, age = str(status.get("context")), (_number_in(status, "id"),)
    return _CheckResult(name, ("status", ""), age, str(status.get("state")))


class _CheckResult:
    """A check run, workflow run or status: what it is called, who it is an attempt of, and how it
    ended."""

    __slots__ = ("age", "name", "source", "word")

    def __init__(
        self, name: str, source: tuple[str, int | str], age: tuple[int, ...], word: str
    ) -> None:
        self.name, self.source, self.age, self.word = name, source, age, word


def _conclusion_of(run: Mapping[str, Any]) -> str:
    """Return the conclusion of a run that is over, else its status."""
    if run.get("status") == "completed":
        return str(run.get("conclusion") or "without a conclusion")
    return str(run.get("status"))


def _judge_checks(
    names: Iterable[str],
    results: Sequence[_CheckResult],
    accept: frozenset[str],
    link: OpenConnection,
) -> Answer:
    bad: list[str] = []
    unknown: list[str] = []
    for name in dict.fromkeys(names):
        conclusions = list(_newest_results(name, results))
        if not conclusions:
            unknown.append(f"{name} is not there yet")

        for word in conclusions:
            was_skipped = word in ("neutral", "skipped") and word not in accept
            if word in _BAD_CONCLUSIONS or was_skipped:
                bad.append(f"{name}: {word}")
            elif word in _OPEN_STATUSES:
                unknown.append(f"{name}: {word}")
            elif word != "success" and word not in accept:
                unknown.append(f"{name}: {words.quote_value(word)}, which is not known")

    # One that is red is a breach, whatever the others come to.
    if bad:
        return Answer(False, hide_secrets(", ".join(dict.fromkeys(bad)), link))
    if unknown:
        return Answer(None, hide_secrets(", ".join(dict.fromkeys(unknown)), link))
    return Answer(True, "all green")


def _newest_results(name: str, results: Iterable[_CheckResult]) -> Iterator[str]:
    newest: dict[tuple[str, int | str], _CheckResult] = {}
    for result in results:
        if result.name != name:
            continue
        if result.source not in newest or newest[result.source].age < result.age:
            newest[result.source] = result

    return (result.word for result in newest.values())


def _object_in(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _number_in(record: Mapping[str, Any], name: str) -> int:
    value = record.get(name, 0)
    if not isinstance(value, int):
        raise Permanent(f"{name} is not a number; is this the GitHub API?")
    return value


# --- issues


async def _measure_issues(repository: str, labels: Sequence[str], link: OpenConnection) -> Answer:
    path = repository_path(repository, "issues")
    query = {"labels": ",".join(labels), "state": "open", "sort": "created", "direction": "asc"}
    numbers: dict[int, None] = {}
    async for page in list_pages(link, path, query):
        for issue in page:
            # A pull request is an issue to GitHub, and not to us.
            if "pull_request" not in issue:
                numbers[_number_in(issue, "number")] = None

    if not numbers:
        await _require_labels(repository, labels, link)
        return Answer(0.0)

    shown = ", ".join(f"#{number}" for number in list(numbers)[:5])
    return Answer(float(len(numbers)), f"{shown}{' …' if len(numbers) > 5 else ''}")


async def _require_labels(repository: str, labels: Sequence[str], link: OpenConnection) -> None:
    """Raise Permanent unless there are such labels: without, no issue means nothing."""
    for label in labels:
        path = repository_path(repository, "labels", label)
        reply = await call(link, "GET", path, accepted=frozenset({404}))
        if reply.status == 404:
            problem = f'{repository} has no label "{label}", so no issue can have it'
            raise Permanent(hide_secrets(problem, link))
