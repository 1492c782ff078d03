"""Whether the API server proves whose act an Intervention is: the operator tries to forge one before it believes any.

An Intervention says who acts, and nothing about it shows whether that was compared with who asked. Where the admission
policy was never installed, has lost its binding, only warns, or leaves a namespace out, everybody can act as anybody. So
an Intervention under a name that nobody has is made as a dry run, in the namespace that is in question: the policy
refuses it in its own words, or is not in force there. That needs no right to read policies, which are the cluster's.
"""

from __future__ import annotations

from gatewright.api import API_VERSION
from gatewright.ports import Permanent
from gatewright.runtime.kube import Kube, path

REFUSAL = "nobody acts under another name"
"""What the policy says of a forged name."""
NOBODY = "gatewright.dev/nobody"
_FORGED = {
    "apiVersion": API_VERSION,
    "kind": "Intervention",
    "metadata": {"generateName": "gatewright-forged-"},
    "spec": {"release": "gatewright-forged", "action": "Abort", "by": NOBODY},
}
REMEDY = (
    "install manifests/admission (chart: admission.create) and ask again, or let the operator take everybody at their "
    "word (--trust-interventions)"
)


async def doubt(kube: Kube, namespace: str) -> str:
    """Why nobody can know who makes Interventions in a namespace; empty where the API server proves it.

    Raises Retryable, Lost."""
    try:
        await kube.create_for_metadata(f"{path(API_VERSION, 'interventions', namespace)}?dryRun=All", _FORGED)
    except Permanent as error:
        if REFUSAL in str(error):
            return ""
        return f"whether namespace {namespace} proves who makes an Intervention cannot be found out: {error}"
    return (
        f"the admission policy gatewright-interventions is not in force in namespace {namespace}, so anybody may have "
        f"made this under another name; {REMEDY}"
    )
