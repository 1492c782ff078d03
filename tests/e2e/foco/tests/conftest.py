"""One stand-in on 127.0.0.1 for all tests here; each test of the database begins at 2.3.1 with the
seed rows."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.e2e.foco import host as stand_in
from tests.e2e.foco.host import Host, Service


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    reason = stand_in.missing()
    if reason and os.environ.get("CI"):
        pytest.fail(f"in CI nothing is skipped: {reason}")
    if reason:
        pytest.skip(reason)
    running = Host()
    try:
        running.start_postgres()
        running.start_store()
        yield running
    finally:
        running.stop()


@pytest.fixture
def database(host: Host) -> Host:
    host.reset_database()
    return host


@pytest.fixture(scope="session")
def shared(host: Host) -> Service:
    return host.start_service("2.3.1")


@pytest.fixture
def web(database: Host, shared: Service) -> Service:
    """Version 2.3.1 on a fresh database, without flags and faults."""
    (database.directory / "faults.json").unlink(missing_ok=True)
    for flag in (database.directory / "flags").iterdir():
        flag.unlink()
    assert stand_in.call(f"{shared.admin}/faults", "PUT", {})[0] == 200
    assert (
        stand_in.call(f"{shared.url}/api/organizations")[0] == 200
    )  # without a fault: the count of failures begins anew
    return shared
