"""The Supabase CLI's place: `supabase db lint`."""

from __future__ import annotations

import subprocess
import sys

from tools.web import option

FUNCTIONS = """
    SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'public' AND p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')
"""


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments[:2] != ["db", "lint"]:
        print(f"supabase: unknown command {' '.join(arguments)}", file=sys.stderr)
        return 2
    return lint(option(arguments, "--db-url"))


def lint(url: str) -> int:
    """Functions of the schema are not understood here, so there must be none."""
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", FUNCTIONS, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or done.stdout.strip() != "0":
        print("the schema cannot be linted", file=sys.stderr)
        return 1
    print("Linting schema: public\n\nNo schema errors found")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
