"""Asking RBAC about whoever makes a request, in the CEL of a ValidatingAdmissionPolicy.

CEL has no loops that remember, and one expression can pay for two questions to the authorizer at
most (350,000 of 1,000,000 each; 10,000,000 for all). So what is needed by name becomes a list of
lines, and each validation asks for one of them:

    needs0, needs1 ...    the lines of one kind of right, as texts in lists of lists
    wanted0               all lines: patch,apps,deployments,web, spec.targets[web] ...
    asked0                the right that the first one needs: patch,apps,deployments,web,
    wanted1, asked1 ...   the lines that are left without it, and what the first of those needs

After so many of them, what is still wanted is asked for without names. One name is refused to
everybody, by the same expression: by it the operator finds out that the policy is in force
(`runtime.admission_probe`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gatewright.core.permissions import AuthorPermission
from gatewright.runtime.admission_trials import RESERVED_NAME

MAX_NAMES_IN_MESSAGE = 20
"""With more lines than this a message names only the first path: it may be 5120 bytes long."""
SAFE_PATTERN = "^[a-z0-9.-]+$"
"""A name that can be asked for; one that is known only in a run (`$(...)`) is asked for without a
name."""
TAKEN = f"the name {RESERVED_NAME} is reserved, so that nobody may use it; take another"
"""How a refusal of the reserved name ends: no right would help."""
TAKEN_VERSION = "the version {} is reserved, so that nobody may ask for it; take another"
"""The same of a version."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a policy asks, and what it says where the answer is no."""

    named: int
    """So many rights are asked for by name."""
    remedy: str
    """How a refusal ends: why it is asked, and what to do. No quotes."""
    short: str
    """The refusal where its long form cannot be made."""
    unnamed: str = ""
    """What else helps where no name is written; no quotes."""

    def variables(self, needs: Sequence[str]) -> Iterator[tuple[str, str]]:
        """`needs`: CEL of a list of texts each, a line for each name that is needed."""
        yield from ((f"needs{number}", text) for number, text in enumerate(needs))
        together = " + ".join(f"variables.needs{number}" for number in range(len(needs)))
        yield "wanted0", f"({together}).join('\\n').split('\\n').filter(line, line != '')"

        for number in range(self.named):
            wanted, asked = f"variables.wanted{number}", f"variables.asked{number}"
            yield (
                f"asked{number}",
                f"{wanted}.size() == 0 ? '' : {wanted}[0].substring(0, {wanted}[0].indexOf(' '))",
            )
            yield f"wanted{number + 1}", f"{wanted}.filter(line, !line.startsWith({asked}))"

    def validations(
        self, rights: Iterable[AuthorPermission], few: Iterable[AuthorPermission] = ()
    ) -> Iterator[dict[str, str]]:
        """Yield each line by its name, then what is left of each kind of right without one.

        `few`: rights that need fewer names than are asked for, and whose lines stand first. Nothing
        is left of them, so that no question has to be kept for it.
        """
        yield from (self._by_name(number) for number in range(self.named))

        few_rights = list(few)
        left = {line_head(right): right for right in rights if right not in few_rights}
        # Nothing is passed over unasked, whoever is mistaken about how few there are.
        if few_rights:
            yield self._refuse_other_lines(left)
        yield from (self._left_over(right) for right in left.values())

    def _by_name(self, number: int) -> dict[str, str]:
        wanted, asked = f"variables.wanted{number}", f"variables.asked{number}"
        verb, group, resource, name = (f"{asked}.split(',')[{place}]" for place in range(4))
        in_namespace = (
            f"authorizer.group({group}).resource({resource}).namespace(request.namespace)"
        )
        allowed = f"{in_namespace}.name({name}).check({verb}).allowed()"
        permitted = f"{name} != '{RESERVED_NAME}' && {allowed}"
        lines = (
            f"({wanted}.size() > {MAX_NAMES_IN_MESSAGE} ? [{wanted}[0]] : "
            f"{wanted}.filter(line, line.startsWith({asked})))"
        )
        others = f"{wanted}.size() - variables.wanted{number + 1}.size() - 1"
        paths = f"{lines}.map(line, line.substring(line.indexOf(' ') + 1)).join(', ')"
        more = (
            f"({wanted}.size() > {MAX_NAMES_IN_MESSAGE} && {others} > 0 ? ' and ' + "
            f"string({others}) + ' more' : '')"
        )
        what = (
            f"{verb} + ' ' + {resource} + ({group} == '' ? '' : '.' + {group}) + "
            f"({name} == '' ? ' of any name' : '/' + {name})"
        )
        unnamed = f"{name} == '' ? '{self.remedy}{self.unnamed}' : " if self.unnamed else ""
        remedy = f"({name} == '{RESERVED_NAME}' ? '{TAKEN}' : {unnamed}'{self.remedy}')"

        return self.validation(f"{asked} == ''", permitted, f"{paths} + {more}", what, remedy)

    def _left_over(self, right: AuthorPermission) -> dict[str, str]:
        """Names beyond those that are asked for one by one."""
        left, mine = f"variables.wanted{self.named}", f"line, line.startsWith('{line_head(right)}')"
        path = f"{left}.filter({mine})[0].substring({left}.filter({mine})[0].indexOf(' ') + 1)"
        paths = f"{path} + ', after {self.named} other names'"
        return self.validation(
            f"!{left}.exists({mine})",
            cel_is_allowed(right),
            paths,
            f"'{describe_right(right)} of any name'",
        )

    def _refuse_other_lines(self, heads: Iterable[str]) -> dict[str, str]:
        """Return a refusal of what is left and asked for by none of the questions that follow."""
        known = " || ".join(f"line.startsWith('{head}')" for head in heads) or "false"
        return {
            "expression": f"variables.wanted{self.named}.all(line, {known})",
            "message": f"{self.short}: it names more than can be asked for",
            "reason": "Forbidden",
        }

    def validation(
        self, unless: str, permitted: str, paths: str, what: str, remedy: str = ""
    ) -> dict[str, str]:
        """Return one refusal: `PATHS: USER may not WHAT in namespace NAMESPACE; REMEDY`."""
        remedy = remedy or f"'{self.remedy}'"
        return {
            "expression": f"{unless} || {permitted}",
            "messageExpression": f"{unless} ? '' : {paths} + ': ' + request.userInfo.username + ' "
            f"may not ' + {what} + "
            f"' in namespace ' + request.namespace + '; ' + {remedy}",
            "message": self.short,
            "reason": "Forbidden",
        }


def line_head(right: AuthorPermission) -> str:
    """Return how the lines of a right begin."""
    return f"{right.verb},{right.group},{right.resource},"


def line(right: AuthorPermission, name: str, at: str) -> str:
    """Return CEL of the line for a name that stands at a path; both are CEL of a text."""
    return f"'{line_head(right)}' + ({name}.matches('{SAFE_PATTERN}') ? {name} : '') + ', ' + {at}"


def cel_is_allowed(right: AuthorPermission) -> str:
    """Return CEL: whether who asks has the right, without a name."""
    return (
        f"authorizer.group('{right.group}').resource('{right.resource}')"
        f".namespace(request.namespace).check('{right.verb}').allowed()"
    )


def describe_right(right: AuthorPermission) -> str:
    """Return the right as messages name it."""
    return f"{right.verb} {right.resource}{'.' if right.group else ''}{right.group}"
