"""The operator with one known bug, to prove that the harness would catch it:

    python -m tests.harness.planted effect-before-intent run --all-namespaces ...

Each bug is a few lines put over the real program at its start, so that the program itself never has to be broken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any


def effect_before_intent() -> None:
    """Effects are started, and only then is the status written that intends them."""
    from gatewright.runtime.reconcile import Reconciler

    carry_out, perform = Reconciler._carry_out, Reconciler._perform

    async def hasty(self: Any, entry: Any, view: Any, decision: Any, copies: Any) -> bool:
        dirty, type(entry).dirty = type(entry).dirty, property(lambda _: False)
        try:
            await perform(self, entry, view, [item for item in decision.effects if item.kind != "restore"])
        finally:
            type(entry).dirty = dirty
        return bool(await carry_out(self, entry, view, decision, copies))

    Reconciler._carry_out = hasty


def job_without_a_name() -> None:
    """A Job's name is not deterministic: what was not heard of is made again."""
    import secrets

    from gatewright.runtime import children

    create = children.create_job

    async def careless(cluster: Any, view: Any, operation: Any) -> Any:
        class Renaming:
            async def create(self, path: str, body: Any) -> Any:
                name = f"{body['metadata']['name'][:50]}-{secrets.token_hex(3)}"
                return await cluster.create(path, body | {"metadata": body["metadata"] | {"name": name}})

            async def get(self, path: str) -> Any:
                return await cluster.get(path)

        return await create(Renaming(), view, operation)  # type: ignore[arg-type]

    async def forgetful(cluster: Any, view: Any, operation: Any) -> Any:
        from gatewright.core.model import Progress
        from gatewright.runtime.kube import path

        jobs = await cluster.list(path("batch/v1", "jobs", view.namespace))
        mine = [item for item in jobs if item["metadata"].get("annotations", {}).get(children.KEY) == operation.key]
        if not mine:
            return Progress("Absent")
        state = children._job_state(view, operation, mine[0])
        return state or Progress("Running")

    children.create_job, children.follow_job = careless, forgetful


def empty_is_good() -> None:
    """An empty vector is taken for zero errors."""
    from gatewright.providers.gates import prometheus

    measure = prometheus.Prometheus.measure

    async def trusting(self: Any, config: Any, link: Any) -> Any:
        from gatewright.ports import Answer

        answer = await measure(self, config, link)
        return Answer(0.0) if answer.value is None else answer

    prometheus.Prometheus.measure = trusting


def rollback_forgets_the_flags() -> None:
    """ConfigMaps are not restored, and that is called done."""
    from gatewright.core.model import Progress
    from gatewright.runtime import children

    async def forget(cluster: Any, view: Any, operation: Any, snapshot: Any) -> Any:
        await cluster.patch(
            children.config_path(view.namespace, operation.subject),
            {"metadata": {"annotations": {children.KEY: operation.key}}},
            "merge",
        )
        return Progress("Succeeded")

    children.restore_config = forget


BUGS: Mapping[str, Callable[[], None]] = {
    "effect-before-intent": effect_before_intent,
    "job-without-a-name": job_without_a_name,
    "empty-is-good": empty_is_good,
    "rollback-forgets-the-flags": rollback_forgets_the_flags,
}


if __name__ == "__main__":
    from gatewright.__main__ import main

    BUGS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
