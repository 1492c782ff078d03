"""One laboratory for all tests of a process that need nothing special of theirs: to start one takes
longer than most tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web

from tests.apiserver.killing import LANES
from tests.apiserver.walking import SEED
from tests.contract import world
from tests.harness.lab import Lab, Site, require
from tests.harness.scenarios import query


@pytest.fixture(scope="session")
def laboratory() -> Iterator[Lab]:
    require()
    with Lab(seeds=[SEED, world.TOKEN], arguments=["--log-level", "DEBUG"]) as started:
        started.operator.start()
        yield started
        assert not started.background.failures
        assert started.operator.lives == 1 or started.operator.alive


@pytest.fixture
def lab(laboratory: Lab) -> Lab:
    """With an operator, whatever became of it before."""
    if not laboratory.operator.alive:
        laboratory.operator.start()
    return laboratory


@pytest.fixture
def site(lab: Lab) -> Site:
    """A namespace with the deployment of version 1.0.0, its flags, and good answers."""
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


@pytest.fixture
def served(lab: Lab) -> Iterator[Callable[[web.Application], str]]:
    """Serves an application beside the test; its URL."""
    runners: list[web.AppRunner] = []

    async def start(app: web.Application) -> str:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield lambda app: lab.background.run(start(app))
    for runner in runners:
        lab.background.run(runner.cleanup())
