"""Health for Argo CD: one table from the reason of `Ready` to Argo's four words, written out as
Lua.

Argo CD asks a script for each kind it does not know. Ours reads the conditions alone, never the
shape of the rest of the status, so an older script goes on working. A reason that the table does
not have is judged as kstatus judges conditions: Stalled means failed, everything else that is not
Ready is still in progress.

    Healthy       the wanted version is live
    Progressing   the operator works, or waits for something it will see by itself
    Suspended     all is well, and a person decides what happens next
    Degraded      the wanted version is not live, and will not be without a person
"""

from __future__ import annotations

from collections.abc import Mapping

from gatewright.api import GROUP

RELEASE_HEALTH: Mapping[str, str] = {
    # under way
    "Pending": "Progressing",
    "Preflight": "Progressing",
    "Progressing": "Progressing",
    "Gating": "Progressing",
    "Baking": "Progressing",
    "Breaching": "Progressing",
    "Holding": "Progressing",
    "RollingBack": "Progressing",
    "Blocked": "Progressing",
    "NoRoom": "Progressing",
    "Queued": "Progressing",
    "Settling": "Progressing",
    "Unavailable": "Progressing",
    "Unobserved": "Progressing",
    "TargetNotFound": "Progressing",
    "TargetUnfit": "Progressing",
    "ConnectionNotFound": "Progressing",
    "PolicyNotInForce": "Progressing",
    # a person decides
    "WaitingForPerson": "Suspended",
    "Suspended": "Suspended",
    "Frozen": "Suspended",
    "OutsideWindow": "Suspended",
    "Paused": "Suspended",
    "Observed": "Suspended",
    # live
    "Guarding": "Healthy",
    "Promoted": "Healthy",
    # over, and the wanted version is not live
    "RolledBack": "Degraded",
    "RollbackFailed": "Degraded",
    "Rejected": "Degraded",
    "Aborted": "Degraded",
    "Superseded": "Degraded",
    "Ignored": "Degraded",
    "Drifted": "Degraded",
    # cannot start, or go on
    "InvalidSpec": "Degraded",
    "CannotProceed": "Degraded",
    "StatusUnreadable": "Degraded",
}
"""Every reason that `core.report` gives `Ready`; a test holds the two together."""

CONNECTION_HEALTH: Mapping[str, str] = {
    "Ready": "Healthy",
    "NotReady": "Degraded",
    "InvalidSpec": "Degraded",
}
"""Every reason that `runtime.connections` gives a Connection's `Ready`."""

HEALTH_BY_KIND: Mapping[str, Mapping[str, str]] = {
    "Release": RELEASE_HEALTH,
    "Connection": CONNECTION_HEALTH,
}

_SCRIPT = """\
local health = {{
{table}}}

local function condition(kind)
  for _, item in ipairs((obj.status or {{}}).conditions or {{}}) do
    if item.type == kind then
      return item
    end
  end
  return nil
end

local generation = (obj.metadata or {{}}).generation
local observed = (obj.status or {{}}).observedGeneration
local ready, stalled = condition("Ready"), condition("Stalled")

if ready == nil then
  return {{status = "Progressing", message = "Waiting for Gatewright to look at it"}}
end
if generation ~= nil and observed ~= nil and observed < generation then
  return {{status = "Progressing", message = "Waiting for Gatewright to look at the change"}}
end

local status = health[ready.reason]
if status == nil then
  -- a reason of a newer version: judged as kstatus does
  if ready.status == "True" then
    status = "Healthy"
  elseif stalled ~= nil and stalled.status == "True" then
    status = "Degraded"
  else
    status = "Progressing"
  end
end
return {{status = status, message = ready.message or ""}}
"""


def lua_script(kind: str) -> str:
    """Return the Lua that judges a kind."""
    rows = "".join(f'  {reason} = "{health}",\n' for reason, health in HEALTH_BY_KIND[kind].items())
    return _SCRIPT.format(table=rows)


def argo_patch() -> str:
    """Return both scripts as a patch of Argo CD's own settings."""
    lines = [
        "apiVersion: v1",
        "kind: ConfigMap",
        "metadata:",
        "  name: argocd-cm",
        "data:",
    ]

    for kind in HEALTH_BY_KIND:
        lines.append(f"  resource.customizations.health.{GROUP}_{kind}: |")
        lines += [f"    {line}".rstrip() for line in lua_script(kind).splitlines()]
    return "\n".join(lines) + "\n"
