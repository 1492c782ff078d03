"""What a Job hands back: one JSON object in its container's termination message.

Kubernetes reads /dev/termination-log when the container ends; 4096 bytes at most. The same line
goes to the log.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_LIMIT = 4096


def publish(values: dict[str, Any]) -> None:
    text = json.dumps(values, separators=(",", ":"))
    print(text, flush=True)
    if len(text.encode()) > _LIMIT:
        raise ValueError(
            f"a termination message holds {_LIMIT} bytes, this is {len(text.encode())}"
        )
    target = Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log"))
    # Outside of a pod there is none, and none is made in /dev.
    if target.exists() or target.parent != Path("/dev"):
        target.write_text(text)
