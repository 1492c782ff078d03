"""ofrep: what a flag is for given users; exposure to a beta list.

    {flag: voice, users: [ada, grace], others: [alan]}      on for the two, not for the third
    {flag: theme, value: dark, users: [ada]}                a text or a number, compared as text

A flag that leaves a user to the code's own default, one that was evaluated with an error, and a
value that is said to be stale are no data: nobody knows what that user sees.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from gatewright.api.base import Key, Model, Name, Text
from gatewright.api.rules import AnyOf, Rule
from gatewright.ports import Answer, OpenConnection, Permanent
from gatewright.providers.common import concurrency, words
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.common.secrets import hide_secrets
from gatewright.providers.ofrep import connection as ofrep
from gatewright.providers.units import Unit

_UNSURE_REASONS = frozenset({"ERROR", "STALE"})
_MAX_NAMES_IN_MESSAGE = 3

User = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Users = Annotated[list[User], Field(max_length=20)]


class OfrepCheck(Model):
    """What a flag is for given users, by OFREP."""

    rules: ClassVar[tuple[Rule, ...]] = (
        AnyOf("users", "others", message="needs users or others: whom to evaluate the flag for"),
    )

    connection: Name | None = None
    """Name of the ofrep Connection; the namespace's only one when left out."""
    flag: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """Key of the flag."""
    value: Text = "true"
    """The value, compared as text, that `users` must get and `others` must not."""
    users: Users = []
    """Targeting keys that must get the value."""
    others: Users = []
    """Targeting keys that must not get it."""
    context: Annotated[dict[Key, Text], Field(max_length=20)] = {}
    """Further attributes of the evaluation context (`country: MX`)."""

    @property
    def limits(self) -> Literal["required", "optional", "useless"]:
        """Return that max and min do not belong to this check: there is no number."""
        return "useless"

    @model_validator(mode="after")
    def _name_nobody_twice(self) -> OfrepCheck:
        both = sorted(set(self.users) & set(self.others))
        if both:
            raise ValueError(f"names {both[0]} in users and in others; keep one")
        return self


class OfrepGate(PresentGate):
    """Evaluates a flag."""

    config: ClassVar[type[BaseModel]] = OfrepCheck
    connection: ClassVar[str] = "ofrep"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: OfrepCheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        return "boolean"

    async def measure(self, config: OfrepCheck, link: OpenConnection) -> Answer:
        """Evaluate for every user. Raises Retryable, Permanent."""
        names = [*config.users, *config.others]
        evaluations = await concurrency.ask_each(
            names,
            lambda name: ofrep.evaluate_flag(
                link, config.flag, {**config.context, "targetingKey": name}
            ),
        )
        return _judge_evaluations(config, dict(zip(names, evaluations, strict=True)), link)


def _judge_evaluations(
    config: OfrepCheck, evaluations: dict[str, ofrep.Evaluation], link: OpenConnection
) -> Answer:
    got = {
        name: _text_of(evaluation.value, config.flag) == config.value
        for name, evaluation in evaluations.items()
    }
    known = {name for name, evaluation in evaluations.items() if _is_known(evaluation)}
    without = [name for name in config.users if not got[name] and name in known]
    with_it = [name for name in config.others if got[name] and name in known]

    # One who is served wrongly is a breach, whatever the others see.
    wrong = [_describe_users("do not get it", without)] if without else []
    wrong += [_describe_users("get it and must not", with_it)] if with_it else []
    if wrong:
        message = f"{config.flag} = {config.value}: {'; '.join(wrong)}"
        return Answer(False, hide_secrets(message, link))

    unsure = [name for name in evaluations if name not in known]
    if unsure:
        said = {words.to_plain_word(evaluations[name].reason) or "no value" for name in unsure}
        users, reasons = _describe_users("are not known", unsure), ", ".join(sorted(said))
        return Answer(None, hide_secrets(f"{config.flag}: {users} ({reasons})", link))

    counted = f"{len(config.users)} users get it, {len(config.others)} others do not"
    return Answer(True, hide_secrets(f"{config.flag} = {config.value}: {counted}", link))


def _is_known(evaluation: ofrep.Evaluation) -> bool:
    return evaluation.value is not None and evaluation.reason not in _UNSURE_REASONS


def _text_of(value: Any, flag: str) -> str | None:
    if isinstance(value, dict | list):
        raise Permanent(
            f"{flag} is an object; a flag that is compared is a boolean, a number or a text"
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return None if value is None else str(value)


def _describe_users(verb: str, names: list[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES_IN_MESSAGE])
    more = len(names) - _MAX_NAMES_IN_MESSAGE
    if more > 0:
        shown += f" and {more} more"
    return f"{len(names)} {verb} ({shown})"
