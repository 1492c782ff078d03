"""One laboratory for all tests of a process that need nothing special of theirs: to start one takes longer than most tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
