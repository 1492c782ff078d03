"""The language users write, as pydantic models; imports pydantic only."""

GROUP = "gatewright.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FINALIZER = f"{GROUP}/run"
"""Stands on a Release only while a run is under way."""
RESULT = f"{GROUP}/result"
"""Finalizer of a Job: it cannot vanish, and so be made a second time, before its run has ended."""
KEY = f"{GROUP}/key"
"""Annotation on every child and every changed object: the key of the operation that made or changed
it."""
RELEASE = f"{GROUP}/release"
"""Label on every child: the name of the Release that owns it."""
