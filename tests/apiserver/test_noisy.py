"""One tenant does everything it may: another one's Releases walk, hold on nothing, and roll back as
they should."""

from __future__ import annotations

import pytest

from tests.bench import noisy
from tests.harness.lab import Lab

pytestmark = pytest.mark.apiserver
LIMIT = 512 * 2**20
"""Bytes: the shipped limit of memory."""


def test_a_noisy_tenant_is_in_nobodys_way() -> None:
    """Counts only: how fast it is stands in the benchmark (`python -m tests.bench noisy`)."""
    watched = {"releases": "/apis/gatewright.dev/v1alpha1/namespaces/quiet/releases"}
    with Lab(direct=True, watched=watched, arguments=["--measurements-per-second", "50"]) as lab:
        site = lab.namespace("quiet")
        lab.operator.start()
        with noisy.noise(lab, large=10) as tenant:
            found = noisy.walk(lab, site, "beside", releases=10, every=2.0)
            assert tenant.poll() is None, "the noise has ended by itself"
        assert found.wrong == []
        assert found.held == []
        assert found.probes > 100
        assert found.sick == 0, (
            f"/healthz was not well {found.sick} of {found.probes} times\n{lab.operator.tail(20)}"
        )
        assert found.peak < LIMIT, f"{found.peak / 2**20:.0f} MiB"
