"""Whether the admission policies are in force.

The operator tries to break each of them before it believes anybody.

What stands in a Release, a Connection, an Intervention or a status shows nothing of whether its
author was asked for the right to it. Where a policy was never installed, has lost its binding, only
warns, or leaves a namespace out, a tenant acts with the rights of the operator. So what nobody may
write (`runtime.admission_trials`) is written as a dry run, in the namespace that is in question:
the policy refuses it in its own words, or is not in force there. That needs no right to read
policies, which are the cluster's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gatewright.ports import NotFound, Permanent, Retryable
from gatewright.runtime.admission_trials import (
    CONNECTIONS_TRIAL,
    INTERVENTION_TRIAL,
    RELEASE_TRIALS,
    RUNBOOK_TRIALS,
    Trial,
)
from gatewright.runtime.cluster.kube import Kube
from gatewright.runtime.cluster.leader import LeaseLost
from gatewright.runtime.cluster.paths import api_path
from gatewright.runtime.telling.log_limits import about

PROOF_MAX_AGE_S: Final = 300.0
"""Seconds for which a policy that is in force is not tried again."""
PROBE_RETRY_DELAYS_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds for which one that is not in force is not tried again; the last one repeats."""

REQUEST_RETRY_DELAYS_S: Final = (0.02, 0.1, 0.3)

INTERVENTIONS_REMEDY = (
    "run kubectl apply -k manifests/admission (chart: admission.create) and ask again, or let the "
    "operator take everybody at their word (--trust-interventions, chart: admission.trustWithout)"
)
AUTHORS_REMEDY = (
    "run kubectl apply -k manifests/admission (chart: admission.create), or let the operator trust "
    "whoever writes there (--trust-authors, chart: admission.trustAuthors)"
)
OWN_NAMESPACE = (
    "{} is the namespace of the operator itself, and whoever may edit or create pods there can act "
    "as the operator: install the operator into a namespace of its own, or let it run Releases "
    "there all the same (--serve-own-namespace, chart: serveOwnNamespace)"
)

log = logging.getLogger("gatewright.admission_probe")


async def probe_interventions(kube: Kube, namespace: str) -> str:
    """Return why nobody can know who makes Interventions in a namespace.

    Empty where the API server proves it. Raises Retryable, LeaseLost.
    """
    failure = await _try_create(kube, INTERVENTION_TRIAL, namespace)
    if failure == "":
        return ""

    # Refused, but not in the words of the policy: somebody else may have refused it.
    if failure is not None:
        return (
            f"whether the admission policy {INTERVENTION_TRIAL.policy} is in force in namespace "
            f"{namespace} cannot be found out: {failure}; {INTERVENTIONS_REMEDY}"
        )

    return (
        f"the admission policy {INTERVENTION_TRIAL.policy} is not in force in namespace "
        f"{namespace}, so anybody may have made this under another name; {INTERVENTIONS_REMEDY}"
    )


async def probe_author(
    kube: Kube, namespace: str, names: Mapping[str, str], trials: tuple[Trial, ...]
) -> str:
    """Return why nobody can know whether authors were asked for the rights that they use.

    Empty where the API server asks. `names`: by plural, an object of the kind that is there, of
    which a change is tried. Raises Retryable, LeaseLost.
    """
    created = [trial for trial in trials if trial.create is not None]
    changed = [trial for trial in trials if trial.change is not None]
    failures = await asyncio.gather(
        *(_try_create(kube, trial, namespace) for trial in created),
        *(_try_change(kube, trial, namespace, names[trial.plural]) for trial in changed),
    )
    failed = [
        (trial, failure)
        for trial, failure in zip([*created, *changed], failures, strict=True)
        if failure != ""
    ]

    missing = sorted({trial.policy for trial, failure in failed if failure is None})
    # What is known to be missing is said before what cannot be found out.
    if missing:
        return (
            f"not in force in namespace {namespace}: admission policy {', '.join(missing)}; "
            f"whoever writes {trials[0].plural} there could use rights of the operator that are "
            f"not their own; {AUTHORS_REMEDY}"
        )

    if failed:
        trial, failure = failed[0]
        return (
            f"whether the admission policy {trial.policy} is in force in namespace {namespace} "
            f"cannot be found out: {failure}; {AUTHORS_REMEDY}"
        )

    return ""


async def _try_create(kube: Kube, trial: Trial, namespace: str) -> str | None:
    """Return the error of an object that is tried to be created.

    Empty where it is refused as it should be, another error where nobody can tell, None where it is
    admitted.
    """
    assert trial.create is not None
    path = f"{api_path(trial.version, trial.plural, namespace)}?dryRun=All"
    try:
        return await _expect_refusal(trial, partial(kube.create_for_metadata, path, trial.create))
    except NotFound as error:
        return str(error)


async def _try_change(kube: Kube, trial: Trial, namespace: str, name: str) -> str | None:
    path = f"{api_path(trial.version, trial.plural, namespace, name, trial.part)}?dryRun=All"
    ask = partial(kube.patch_for_metadata, path, trial.change, "json")
    try:
        return await _expect_refusal(trial, ask)
    except NotFound:
        # It has gone meanwhile, and says nothing of the policy.
        raise Retryable(f"{trial.plural} {namespace}/{name} is not there any more") from None


async def _expect_refusal(trial: Trial, ask: Callable[[], Awaitable[Any]]) -> str | None:
    """Return the error of a request that must be refused: empty where the policy has refused it.

    It is sent again at once where the API server refuses for a moment: all trials of a kind have to
    come through.
    """
    for delay in (*REQUEST_RETRY_DELAYS_S, None):
        try:
            await ask()
        except NotFound:
            raise
        except Permanent as error:
            return "" if trial.refusal in str(error) else str(error)
        except LeaseLost:
            raise
        except Retryable as error:
            # The last attempt, or the API server has said when to come back.
            if delay is None or error.after:
                raise
            await asyncio.sleep(delay)
            continue

        break

    return None


@dataclass(slots=True)
class _ProbeResult:
    """What the last trial has found, and until when that counts (monotonic)."""

    doubt: str
    until: float
    doubts: int


class AdmissionProbe:
    """What is known of the policies on authors, by namespace."""

    def __init__(self, kube: Kube, trust: bool = False, own: str = "") -> None:
        """`trust`: nobody is asked, and everybody believed. `own`: the operator's namespace, where
        nobody is."""
        self._kube = kube
        self._trust = trust
        self._own = own
        self._known: dict[tuple[str, str], _ProbeResult] = {}
        self._trial_tasks: dict[tuple[str, str], asyncio.Task[str]] = {}

        if trust:
            log.warning(
                "authors of Releases and Connections are trusted, whoever they are "
                "(--trust-authors)"
            )

    async def releases(self, namespace: str, name: str, runbook: str = "") -> str:
        """Return why no Release of a namespace may begin a run; empty where one may.

        `name`: one that is there. `runbook`: the Runbook that it names. Raises Retryable,
        Permanent.
        """
        names = {"releases": name, "runbooks": runbook}
        doubt = await self._find_doubt(namespace, names, RELEASE_TRIALS)
        if doubt or not runbook:
            return doubt
        return await self._find_doubt(namespace, names, RUNBOOK_TRIALS)

    async def connections(self, namespace: str, name: str) -> str:
        """Return why no Secret of a Connection may be read; empty where it may.

        `name`: one that is there. Raises Retryable, Permanent.
        """
        return await self._find_doubt(namespace, {"connections": name}, (CONNECTIONS_TRIAL,))

    def again(self, namespace: str, plural: str) -> float | None:
        """Return in how many seconds what is in doubt may be tried again; None where nothing is."""
        known = self._known.get((namespace, plural))
        if known is None or not known.doubt:
            return None
        return max(0.0, known.until - asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Stop trying."""
        tasks = list(self._trial_tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _find_doubt(
        self, namespace: str, names: Mapping[str, str], trials: tuple[Trial, ...]
    ) -> str:
        # No policy tells the operator from somebody who acts under its ServiceAccount.
        if self._own and namespace == self._own:
            return self._refuse_own(trials[0].plural)
        # The administrator answers for the authors (`--trust-authors`).
        if self._trust:
            return ""

        key = (namespace, trials[0].plural)
        known, loop = self._known.get(key), asyncio.get_running_loop()
        if known is not None and loop.time() < known.until:
            return known.doubt

        # Many Releases of a namespace may begin at once: one of them tries, and all of them know.
        if key not in self._trial_tasks:
            task = loop.create_task(self._run_trials(key, names, trials))
            self._trial_tasks[key] = task
            task.add_done_callback(lambda _: self._trial_tasks.pop(key, None))

        return await asyncio.shield(self._trial_tasks[key])

    def _refuse_own(self, plural: str) -> str:
        doubt = OWN_NAMESPACE.format(self._own)
        key = (self._own, plural)
        if key not in self._known:
            self._tell_doubt(key, doubt)
        self._known[key] = _ProbeResult(
            doubt, asyncio.get_running_loop().time() + PROOF_MAX_AGE_S, 1
        )
        return doubt

    def _tell_doubt(self, key: tuple[str, str], doubt: str) -> None:
        plural, namespace = key[1], key[0]
        effect = "no Connection is opened" if plural == "connections" else "no run begins"
        log.error("%s in namespace %s: %s", effect, namespace, doubt, extra=about(namespace))

    async def _run_trials(
        self, key: tuple[str, str], names: Mapping[str, str], trials: tuple[Trial, ...]
    ) -> str:
        began = asyncio.get_running_loop().time()
        doubt = await probe_author(self._kube, key[0], names, trials)
        before = self._known.get(key)

        doubts = 0

        max_age = PROOF_MAX_AGE_S
        if doubt:
            doubts = 1 + (before.doubts if before is not None else 0)
            max_age = PROBE_RETRY_DELAYS_S[min(doubts, len(PROBE_RETRY_DELAYS_S)) - 1]

        self._known[key] = _ProbeResult(doubt, began + max_age, doubts)

        # It is said when it changes, not with each trial.
        if doubt and (before is None or before.doubt != doubt):
            self._tell_doubt(key, doubt)
        elif before is not None and before.doubt and not doubt:
            log.info(
                "%s of namespace %s go on: the admission policies are in force",
                key[1],
                key[0],
                extra=about(key[0]),
            )

        return doubt


Prove = Callable[[str, str], Awaitable[str]]
"""Why the Secrets of a Connection may not be read: asked with its namespace and name."""


async def trust_author(namespace: str, name: str) -> str:
    """Believe every author: nobody is asked."""
    return ""
