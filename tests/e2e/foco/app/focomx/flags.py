"""Feature flags: a mounted ConfigMap directory first, the environment where the directory has no
such key.

The directory is read on every request, so a changed ConfigMap is in force as soon as the kubelet
has written it and no pod restarts. A flag is on for `true`, `1`, `on` or `yes`; with `BETA_USERS`
set (comma separated) a flag that is on is on for those users alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FLAGS = ("NEXT_PUBLIC_ENABLE_VOICE_SYSTEM", "NEXT_PUBLIC_ENABLE_CRICO", "FOCO_TASK_ASSIGNMENT")
_ON = {"true", "1", "on", "yes"}


class Flags:
    def __init__(self, directory: Path | None, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment

    def _value(self, key: str) -> str:
        if self._directory is not None:
            try:
                return (self._directory / key).read_text().strip()
            except OSError:
                pass  # no such key in the ConfigMap: the environment may have it
        return self._environment.get(key, "")

    def all(self) -> dict[str, bool]:
        return {name: self._value(name).lower() in _ON for name in FLAGS}

    def for_user(self, user: str | None) -> dict[str, bool]:
        """What this user sees: beta features are on for beta users alone."""
        beta = {name.strip() for name in self._value("BETA_USERS").split(",") if name.strip()}
        flags = self.all()
        if not beta or user is None:
            return flags
        return {name: on and user in beta for name, on in flags.items()}
