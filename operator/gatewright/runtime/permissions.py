"""What the shell itself asks of the API server; targets declare their own in `access`. RBAC is
generated from both.

Three places: the namespaces of Releases, the operator's own namespace, one object in `default` by
its name; and nothing else cluster-wide (kopf's scanning for new resources and namespaces is off).
Secrets are read by name, never listed or watched, and written only where capture is switched on.
"""

from __future__ import annotations

from gatewright.api import GROUP
from gatewright.ports import Access
from gatewright.runtime.cluster.hash_keys import HASH_KEY_NAME
from gatewright.runtime.cluster.leader import LEASE_NAME

RELEASE_ACCESS: tuple[Access, ...] = (
    Access(GROUP, ("releases",), ("get", "list", "watch"), "see what is wanted"),
    Access(GROUP, ("releases",), ("patch",), "hold the finalizer while a run is under way"),
    Access(GROUP, ("releases/status",), ("patch",), "write where a run stands"),
    Access(GROUP, ("interventions",), ("get", "list", "watch"), "know what people ask for"),
    Access(
        GROUP,
        ("releases", "runbooks", "connections", "interventions"),
        ("create",),
        "try by dry runs whether the admission policies refuse what they must",
    ),
    Access(GROUP, ("interventions/status",), ("patch",), "say what came of it"),
    Access(GROUP, ("connections",), ("list", "watch"), "know the systems that Releases ask"),
    Access(GROUP, ("freezes",), ("list", "watch"), "know when no run may start"),
    Access(GROUP, ("runbooks",), ("list", "watch"), "know what the Releases do that name one"),
    Access(
        GROUP,
        ("connections", "runbooks"),
        ("patch",),
        "try by a dry run whether a policy refuses the change that it must",
    ),
    Access(GROUP, ("connections/status",), ("patch",), "say whether they answer"),
    Access(
        GROUP,
        ("releases", "connections", "interventions"),
        ("operate",),
        "be the one whose word a status is: a policy asks for it",
    ),
    Access(
        "apps",
        ("controllerrevisions",),
        ("get", "list", "create", "delete"),
        "keep pinned bodies and snapshots",
    ),
    Access(
        "batch",
        ("jobs",),
        ("get", "list", "watch", "create", "patch"),
        "run Jobs, follow them, stop them",
    ),
    Access("batch", ("cronjobs",), ("get",), "read the template that a job takes by fromCronJob"),
    Access("", ("pods",), ("list",), "read a Job's outputs, and why its pods do not start"),
    Access(
        "",
        ("pods/log",),
        ("get",),
        (
            "read the report that a Job's container has printed, and the end of the log of one "
            "that failed"
        ),
    ),
    Access(
        "", ("events",), ("list",), "say why a Job gets no pod, and why a pod of it does not start"
    ),
    Access("", ("configmaps",), ("get", "patch"), "set flags, take and restore captured content"),
    Access(
        "",
        ("configmaps",),
        ("create",),
        "make one again that was deleted during a run that has to return it",
    ),
    Access(
        "",
        ("configmaps",),
        ("list", "watch"),
        "see who changes what a run has set, and what is captured with a target",
    ),
    Access("", ("secrets",), ("get",), "open Connections, and take captured content"),
    Access("events.k8s.io", ("events",), ("create",), "tell transitions"),
)
"""In the namespaces of Releases."""

CAPTURE_ACCESS: tuple[Access, ...] = (
    Access(
        "", ("secrets",), ("create", "patch"), "keep a copy of a captured Secret, and restore it"
    ),
    Access("", ("secrets",), ("delete",), "take away a copy that no kept snapshot needs any more"),
)
"""The same, where Releases may capture Secrets: a role of its own, which has to be switched on."""

OWN_NAMESPACE_ACCESS: tuple[Access, ...] = (
    Access(
        "coordination.k8s.io",
        ("leases",),
        ("get", "update"),
        "let one instance act at a time",
        names=(LEASE_NAME,),
    ),
    Access(
        "coordination.k8s.io",
        ("leases",),
        ("create",),
        "make that Lease; RBAC cannot restrict this by name",
    ),
    Access(
        "",
        ("secrets",),
        ("get", "patch"),
        "read the key of the hashes of captured Secrets, and make it once",
        names=(HASH_KEY_NAME,),
    ),
)
"""In the operator's own namespace."""

API_SERVER_ACCESS: tuple[Access, ...] = (
    Access(
        "discovery.k8s.io",
        ("endpointslices",),
        ("get",),
        "know the control plane's own addresses, which Connections may not reach",
        names=("kubernetes",),
    ),
)
"""Of one object, which Kubernetes itself keeps in the namespace `default`. A ClusterRole grants it,
since a Role there would be moved by every overlay that sets a namespace; an EndpointSlice of that
name elsewhere tells nothing that counts."""
