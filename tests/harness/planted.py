"""The operator with one known bug, to prove that the harness would catch it:

    python -m tests.harness.planted effect-before-intent run --all-namespaces ...

Each bug is a few lines put over the real program at its start, so that the program itself never has
to be broken.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping
from typing import Any


def effect_before_intent() -> None:
    """Effects are started, and only then is the status written that intends them."""
    from gatewright.runtime.execution import handlers
    from gatewright.runtime.reconcile import Reconciler

    carry_out = Reconciler._carry_out

    async def hasty(self: Any, entry: Any, view: Any, decision: Any, *more: Any) -> bool:
        for item in decision.operations:
            if item.kind in ("apply", "job", "set"):
                await handlers.perform_operation(self.runtime.cached, view, item, None)
        return await carry_out(self, entry, view, decision, *more)

    Reconciler._carry_out = hasty  # type: ignore[method-assign, assignment]  # that is the bug


def job_by_chance() -> None:
    """A Job's name is not deterministic: what was made before the crash is not found after it, and
    made again."""
    from gatewright.runtime.execution import job_state, job_stops, jobs

    create, where = jobs.create_job, job_state.job_path
    names: dict[str, str] = {}

    def here(namespace: str, subject: str) -> str:
        return where(namespace, names.get(subject, subject))

    async def careless(cluster: Any, view: Any, operation: Any) -> Any:
        names[operation.subject] = f"{operation.subject}-{secrets.token_hex(3)}"
        return await create(_Renaming(cluster, names[operation.subject]), view, operation)  # type: ignore[arg-type]

    jobs.create_job = careless
    for module in (job_state, job_stops, jobs):
        vars(module)["job_path"] = here


class _Renaming:
    """A cluster in which whatever is created gets another name."""

    def __init__(self, cluster: Any, subject: str) -> None:
        self._cluster, self._name = cluster, subject.partition("/")[2]

    async def create(self, path: str, body: Any) -> Any:
        return await self._cluster.create(
            path, body | {"metadata": body["metadata"] | {"name": self._name}}
        )

    async def get(self, path: str) -> Any:
        return await self._cluster.get(path)


def empty_is_good() -> None:
    """No data is taken for zero errors."""
    from gatewright.ports import Answer
    from gatewright.providers.prometheus.gate import PrometheusGate

    measure = PrometheusGate.measure

    async def trusting(self: Any, config: Any, link: Any) -> Answer:
        answer = await measure(self, config, link)
        return Answer(0.0) if answer.value is None else answer

    PrometheusGate.measure = trusting  # type: ignore[method-assign]  # that is the bug


def rollback_forgets_flags() -> None:
    """A ConfigMap is marked as restored, nothing is restored, and the mark is believed."""
    from gatewright.api import KEY
    from gatewright.core.model.holding import Standing
    from gatewright.core.model.operation import Progress
    from gatewright.runtime.execution import config_standings, configs

    async def believe(*_: Any) -> Progress:
        return Progress("Succeeded")

    async def trust(*_: Any) -> Standing:
        return Standing()

    async def forget(cluster: Any, view: Any, operation: Any, snapshot: Any) -> Progress:
        body = {"metadata": {"annotations": {KEY: operation.key}}}
        await cluster.patch(
            config_standings.config_path(view.namespace, operation.subject), body, "merge"
        )
        return Progress("Succeeded")

    configs.restore_config = forget
    config_standings.follow_config = believe  # type: ignore[assignment]
    config_standings.compare_config = trust  # type: ignore[assignment]


def no_bake() -> None:
    """Every clock is called run out as soon as it is set."""
    from gatewright.core.run import clocks

    expired = clocks.expired

    def hasty(run: Any, name: str, now: Any) -> bool:
        return name in run.timers if name == "bake" else expired(run, name, now)

    clocks.expired = hasty


BUGS: Mapping[str, Callable[[], None]] = {
    "effect-before-intent": effect_before_intent,
    "job-by-chance": job_by_chance,
    "empty-is-good": empty_is_good,
    "rollback-forgets-flags": rollback_forgets_flags,
    "no-bake": no_bake,
}


if __name__ == "__main__":
    from gatewright.__main__ import main

    BUGS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
