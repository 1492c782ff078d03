"""A status stays under 100 KiB, whatever the schema admits and whatever is said in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewright.api.base import Condition
from gatewright.api.release import ReleaseSpec
from gatewright.api.status import (
    Answered,
    Difference,
    FollowUpStatus,
    GateStatus,
    JournalEntry,
    Notification,
    Past,
    Rejected,
    ReleaseStatus,
    Rollback,
    Run,
    StageStatus,
    StepStatus,
    Thread,
    Undo,
    WaitingFor,
    dump,
)
from gatewright.core.report import size
from gatewright.core.spec import outputs, problems
from tests.unit.sim import spec

NOW = "2026-01-01T00:00:00.000Z"
MOST = 100 * 1024


def named(kind: str, number: int, longest: int) -> str:
    return f"{kind}{number}".ljust(longest, "n")


def large(
    stages: int,
    steps: int,
    gates: int,
    compensations: int,
    targets: int,
    name: int,
    checks: int = 20,
) -> ReleaseSpec:
    """A spec of these sizes, with names of this length."""
    deploy = {"deploy": {"targets": [named("t", number, name) for number in range(targets)]}}

    def check(number: int) -> dict[str, Any]:
        return {"name": named("g", number, name), "prometheus": {"query": "q"}, "max": "1%"}

    found = spec(
        targets=[
            {
                "name": named("t", number, name),
                "workload": {
                    "kind": "Deployment",
                    "name": f"w{number}",
                    "images": {"app": "a:$(version)"},
                },
            }
            for number in range(targets)
        ],
        preflight=[check(number) for number in range(checks)],
        guards=[check(number) for number in range(checks)],
        stages=[
            {
                "name": named("s", index, name),
                "steps": [{"name": named("p", number, name), **deploy} for number in range(steps)],
                "gates": [check(number) for number in range(gates)],
                "rollback": {
                    "reach": "Release",
                    "steps": [
                        {"name": named("u", number, name), "job": {"image": "i"}}
                        for number in range(compensations)
                    ],
                },
            }
            for index in range(stages)
        ],
    )
    found["rollback"] = {"verify": [check(number) for number in range(checks)]}
    found["followUps"] = []
    return ReleaseSpec.model_validate(found)


def full(wanted: ReleaseSpec, current: int, words: str, others: int) -> ReleaseStatus:
    """The status of its run with every row there may be, in the rollback of the stage under way."""

    def row(name: str) -> GateStatus:
        return GateStatus(
            name=name,
            state="Breaching",
            value="1.234567%",
            limit="at most 1%",
            margin="-0.234567%",
            since=NOW,
            message=words[:1024],
        )

    found, journal, undo = [], [], []
    for index, stage in enumerate(wanted.stages):
        over = index < current
        steps = [
            StepStatus(
                name=step.name,
                state="Succeeded",
                attempt=2,
                key=f"1.{stage.name}.{step.name}.2-abcdef",
                startedAt=NOW,
                finishedAt=NOW,
                message=words[:1024],
            )
            for step in stage.steps
        ]
        found.append(
            StageStatus(
                name=stage.name,
                state="Passed" if over else "Failed" if index == current else "Pending",
                startedAt=NOW,
                finishedAt=NOW,
                message=words[:1024],
                steps=steps
                if index <= current
                else [StepStatus(name=one.name, state="Pending") for one in stage.steps],
                gates=[row(gate.name) for gate in stage.gates]
                if index <= current
                else [GateStatus(name=gate.name, state="Unknown") for gate in stage.gates],
            )
        )
        subjects = []
        if stage.steps:
            deploy = stage.steps[0].deploy
            assert deploy is not None
            subjects = [f"target/{target}" for target in deploy.targets]
        for step in [] if index > current else stage.steps[:1] if over else stage.steps:
            key = f"1.{stage.name}.{step.name}.2-abcdef"
            journal += [
                JournalEntry(key=key, stage=stage.name, step=step.name, subject=subject)
                for subject in subjects
            ]
        for subject in [
            *(subjects if index == current else []),
            *(f"step/{one.name}" for one in stage.rollback.steps),
        ]:
            undo.append(
                Undo(
                    kind="Compensate" if subject.startswith("step") else "Restore",
                    stage=stage.name,
                    subject=subject,
                    state="Running",
                    key=f"1.rollback.{stage.name}.{subject.partition('/')[2]}.200.2-abcdef",
                    message=words[:1024],
                    startedAt=NOW,
                    due=NOW,
                )
            )
    steps_ = [step for stage in found for step in stage.steps]
    if steps_:
        steps_[0].outputs = {
            f"o{number}": "o" * outputs.MOST_OUTPUT_CHARS
            for number in range(outputs.MOST_NAMED_BYTES // 1000)
        }
    verify = [row(check.name) for check in wanted.rollback.verify]
    run = Run(
        id=100,
        version="v" * 63,
        phase="RollingBack",
        generation=100,
        revision="r" * 63,
        bodyHash="h" * 16,
        startedAt=NOW,
        stages=found,
        journal=journal,
        plan=[words[:320]] * 100,
        people=[words[:1024]] * 20,
        preflight=[row(check.name) for check in wanted.preflight],
        guards=[row(check.name) for check in wanted.guards],
        availability=[row(target.name) for target in wanted.targets],
        differences=[
            Difference(subject=f"target/{target.name}", message=words[:1024], since=NOW)
            for target in wanted.targets
        ],
        rollback=Rollback(
            cause="Gate", reason=words[:1024], startedAt=NOW, undo=undo, verify=verify
        ),
    )
    past = Past(
        id=1,
        version="v" * 63,
        outcome="RolledBack",
        startedAt=NOW,
        finishedAt=NOW,
        reason=words[:1024],
        people=[words[:1024]] * 20,
        revision="r" * 63,
    )
    answered = Answered(
        uid="u" * 36,
        name="i" * 63,
        action="Approve",
        by="p" * 100,
        result="Accepted",
        message=words[:1024],
        at=NOW,
    )
    follow_up = FollowUpStatus(
        run=1,
        version="v" * 63,
        name="f" * 40,
        state="Done",
        dueAt=NOW,
        since=NOW,
        message=words[:1024],
    )
    condition = Condition(
        type="Ready",
        status="False",
        reason="RollingBack",
        message=words[:1024],
        lastTransitionTime=NOW,
    )
    return ReleaseStatus(
        run=run,
        message=words[:1024],
        waitingFor=WaitingFor(message=words[:1024], since=NOW),
        conditions=[condition] * 8,
        history=[past] * min(others, 10),
        interventions=[answered] * others,
        followUps=[follow_up] * others,
        notices=[
            Notification(
                id=f"1.StagePassed.{'s' * 40}.1", at=NOW, text=words[:1024], to=["slack-1a2b3c"]
            )
        ]
        * (3 * others),
        threads=[Thread(run=1, to="slack-1a2b3c", handle="C0123456789/1700000000.000000")] * others,
        rejected=[Rejected(version="v" * 63, reason=words[:1024], gate="g" * 40, at=NOW)]
        * min(others, 10),
    ).model_copy(deep=True)


def written(status: ReleaseStatus) -> int:
    return len(json.dumps(dump(status), ensure_ascii=False, separators=(",", ":")).encode())


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.tuples(
        st.integers(1, 20),
        st.integers(1, 20),
        st.integers(0, 20),
        st.integers(0, 10),
        st.integers(1, 10),
        st.integers(4, 40),
    ),
    current=st.integers(0, 19),
    words=st.sampled_from(["", "x" * 400, "x" * 1024, "\U0001f525" * 1024, '"\\\n' * 341]),
    others=st.sampled_from([0, 20]),
)
def test_a_status_fits_at_every_size(
    sizes: tuple[int, ...], current: int, words: str, others: int
) -> None:
    wanted = large(*sizes)
    if size.find_problem(wanted) is not None:
        return
    status = full(wanted, min(current, sizes[0] - 1), words, others)
    size.fit(status)
    assert written(status) < MOST
    once = dump(status)
    size.fit(status)
    assert dump(status) == once, "what fits is left as it is"
    assert status.run is not None and len(status.run.stages) == sizes[0]


@pytest.mark.parametrize("words", ["x" * 400, "\U0001f525" * 400])
def test_twenty_stages_of_twenty_gates_fit(words: str) -> None:
    wanted = large(20, 4, 20, 1, 2, 8)
    assert size.find_problem(wanted) is None
    status = full(wanted, 19, words, 20)
    size.fit(status)
    assert written(status) < MOST


def test_a_spec_whose_rows_alone_would_not_fit_is_refused_before_it_starts() -> None:
    found = [
        text for text in problems.find_problems(large(20, 10, 14, 1, 10, 40)) if "100 KiB" in text
    ]
    assert len(found) == 1
    assert found[0].startswith("spec.stages: 20 stages with 220 steps and 280 gates are too many")


def test_what_is_small_is_left_as_it_is() -> None:
    status = full(large(3, 2, 2, 1, 1, 10, checks=2), 1, "why it is so", 2)
    before = dump(status)
    size.fit(status)
    assert dump(status) == before


def test_more_steps_and_gates_than_anybody_reads_are_refused() -> None:
    words = "spec.stages: have 501 steps, gates and compensations, at most 500; split the Release"
    assert words not in list(problems.find_problems(large(20, 5, 20, 0, 1, 8)))
    wanted = large(20, 5, 20, 0, 1, 8)
    wanted.stages[0].steps.append(wanted.stages[0].steps[0].model_copy(update={"name": "more"}))
    assert words in list(problems.find_problems(wanted))
