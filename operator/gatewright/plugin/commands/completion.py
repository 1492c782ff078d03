"""`completion`: a script for the shell."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from gatewright.plugin.exit_codes import DONE
from gatewright.plugin.terminal import print_lines

_ABOUT = """\
# What is typed as `kubectl release` is completed by kubectl's own completion, which calls
# kubectl_complete-release: `kubectl completion %s` switches it on, and nothing else is needed.
# This does the same for the program by its own name, kubectl-release.
"""
_BASH = """\
_kubectl_release() {
    local line words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=()
    while IFS= read -r line; do
        case "$line" in
            :0) compopt -o default ;;
            :*) ;;
            *) COMPREPLY+=("${line%%$'\\t'*}") ;;
        esac
    done < <(kubectl_complete-release "${words[@]}" 2>/dev/null)
}
complete -F _kubectl_release kubectl-release
"""
_ZSH = """\
#compdef kubectl-release
_kubectl_release() {
    local line directive
    local -a found
    for line in "${(@f)$(kubectl_complete-release "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            :*) directive=${line#:} ;;
            *) found+=("${line/$'\\t'/:}") ;;
        esac
    done
    if (( ${#found} )); then
        _describe 'kubectl release' found
    elif [[ $directive == 0 ]]; then
        _files
    fi
}
compdef _kubectl_release kubectl-release
"""
_FISH = """\
function __kubectl_release_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    test -n "$last"; or set last ''
    kubectl_complete-release $words[2..-1] $last 2>/dev/null | string match -v -r '^:'
end
complete -c kubectl-release -f -a '(__kubectl_release_complete)'
complete -c kubectl-release -s f -l filename -r -F
"""
SCRIPTS: Mapping[str, str] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "shell", choices=list(SCRIPTS), help="source <(kubectl release completion bash)"
    )


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    # zsh reads `#compdef` from the first line of a file in $fpath.
    first, rest = ("", SCRIPTS[options.shell])
    if options.shell == "zsh":
        first, _, rest = rest.partition("\n")
    about = (_ABOUT % options.shell).rstrip()
    lines = [*([first] if first else []), about, rest.rstrip()]
    print_lines(lines, plain=True)
    return DONE
