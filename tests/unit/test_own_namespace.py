"""No run begins in the namespace of the operator itself: no policy tells the operator from who acts
under its account."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from gatewright.__main__ import _parser
from gatewright.runtime.admission_probe import AdmissionProbe
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.settings import pod_namespace


class NoKube:
    """An API server that is not asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"asked: {name}")


def probe(trust: bool = True, own: str = "ops") -> AdmissionProbe:
    return AdmissionProbe(cast(Kube, NoKube()), trust, own)


@pytest.mark.parametrize("trust", [True, False])
async def test_neither_a_run_begins_there_nor_is_a_connection_opened(
    trust: bool, caplog: pytest.LogCaptureFixture
) -> None:
    found = probe(trust)
    with caplog.at_level(logging.INFO, "gatewright.admission_probe"):
        for _ in range(3):
            for ask in (found.releases, found.connections):
                doubt = await ask("ops", "web")
                assert (
                    "ops is the namespace of the operator itself" in doubt
                    and "--serve-own-namespace" in doubt
                )

    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [line.partition(":")[0] for line in errors] == [
        "no run begins in namespace ops",
        "no Connection is opened in namespace ops",
    ], "each is said once"


async def test_other_namespaces_are_served() -> None:
    assert await probe().releases("shop", "web") == ""
    assert await probe(own="").releases("ops", "web") == "", (
        "it was told to serve its own, or runs in no pod"
    )


def test_only_a_switch_serves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "ops")
    assert pod_namespace() == "ops"
    monkeypatch.delenv("POD_NAMESPACE")
    assert pod_namespace() == "", "an operator in no pod has no namespace of its own"
    assert not _parser().parse_args(["run", "--all-namespaces"]).serve_own_namespace
