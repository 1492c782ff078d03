"""The runbook's database orchestrator: backup | migrate | verify | rollback.

    backup    dump schema foco to the backup store, prove the dump, publish {"id", "bytes", "tables", "rows"}
    migrate   apply what is missing up to APP_VERSION, one transaction a file, publish {"version", "applied"}
    verify    ask the database whether it is what APP_VERSION needs, publish {"checks"}
    rollback  put backup BACKUP_ID back, publish {"id", "tables", "rows"}

All may be repeated. Migrations that are applied are skipped; a backup whose name (BACKUP_NAME) is
in the store stands, because a retried Job must not put the state after the migration in place of
the state before it; a restore ends in the same state each time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from focomx.backups import backup, rollback
from focomx.migrations import migrate
from focomx.outputs import publish
from focomx.owner import FailedError
from focomx.verify import verify

COMMANDS: dict[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {
    "backup": backup,
    "migrate": migrate,
    "verify": verify,
    "rollback": rollback,
}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(f"usage: database-migration-orchestrator.sh {' | '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        publish(COMMANDS[arguments[0]](os.environ))
    except FailedError as error:
        publish({"failed": error.step, "reason": error.reason[:1000]})
        return 1
    except KeyError as error:
        publish({"failed": arguments[0], "reason": f"{error.args[0]} is not set"})
        return 1
    except OSError as error:  # the store does not answer
        publish({"failed": arguments[0], "reason": f"{type(error).__name__}: {error}"[:1000]})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
