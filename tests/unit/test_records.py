"""What is remembered of a Release: each record has one writer, and a status that was decided is not
lost by accident."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewright.runtime import records
from gatewright.runtime.status_record import StatusRecord

RUNTIME = Path(records.__file__).parent
WRITERS = {"claim": "claims", "passes": "reconcile", "work": "workers"}
"""Records of a tracked Release, and the module that writes each."""


def written(tree: ast.AST) -> Iterator[str]:
    """The records of which a field is assigned: `entry.claim.targets = ...`."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)):
            continue
        owner = node.value
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if name in WRITERS:
            yield name


def test_each_record_has_one_writer() -> None:
    found = {
        (name, file.stem)
        for file in RUNTIME.rglob("*.py")
        for name in written(ast.parse(file.read_text()))
    }
    assert found == set(WRITERS.items())


def test_what_was_decided_is_kept_until_it_is_written() -> None:
    record = StatusRecord.of({"state": "Idle"})
    assert not record.is_unwritten
    assert record.take_decided({"state": "Progressing"})
    assert not record.take_decided({"state": "Progressing"}), "the same says nothing new"
    assert record.is_unwritten and record.persisted == {"state": "Idle"}
    record.record_write("8", record.working)
    assert record.basis == "8" and not record.is_unwritten


def test_what_waits_already_waits_no_longer() -> None:
    record = StatusRecord.of({})
    record.defer(0.0)
    first = record.flush_at
    record.defer(60.0)
    assert record.flush_at == first and record.is_due
    record.settle()
    assert record.flush_at is None and not record.is_due


@pytest.mark.parametrize("known", [True, False])
def test_a_status_of_somebody_else_replaces_what_was_decided(known: bool) -> None:
    record = StatusRecord.of({"state": "Idle"})
    record.take_decided({"state": "Progressing"})
    record.defer(60.0)
    other = {"state": "Progressing"} if known else {"state": "Odd"}
    assert record.is_known(other) is known
    record.replace(other)
    assert record.working == record.persisted == other and record.flush_at is None
