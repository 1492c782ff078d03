"""One whole cluster for all end-to-end tests; without root and Docker they are skipped, and say
so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.cluster.paths import Unavailable
from tests.e2e.main_job import make_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    try:
        yield make_cluster()
    except Unavailable as reason:
        pytest.skip(f"no cluster can be had here: {reason}")
