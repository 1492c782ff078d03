"""One laboratory for all tests of a process that need nothing special of theirs: to start one takes longer than most tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.apiserver.killing import LANES
from tests.apiserver.walking import SEED
from tests.harness.lab import Lab, Site, require
from tests.harness.scenarios import query


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    require()
    with Lab(seeds=[SEED], arguments=["--log-level", "DEBUG"]) as started:
        started.operator.start()
        yield started
        assert not started.background.failures
        assert started.operator.lives == 1 or started.operator.alive


@pytest.fixture
def site(lab: Lab) -> Site:
    """A namespace with the deployment of version 1.0.0, its flags, and good answers."""
    if not lab.operator.alive:
        lab.operator.start()
    made = lab.namespace()
    made.deployment()
    made.configmap("web-flags", {"VOICE": "off", "KEPT": "yes"})
    lab.standin.number(query("errors", made.name), 0.001)
    lab.standin.number(query("latency", made.name), 0.05)
    return made


@pytest.fixture(scope="module")
def lanes() -> Iterator[list[Lab]]:
    """Laboratories that are at work side by side: most of a run that is killed is waiting."""
    require()
    with contextlib.ExitStack() as stack:
        labs = [stack.enter_context(Lab(quick_jobs=True)) for _ in range(LANES)]
        for lab in labs:
            lab.operator.start()
        yield labs
        for lab in labs:
            assert not lab.background.failures
