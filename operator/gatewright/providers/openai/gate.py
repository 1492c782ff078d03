"""openai: whether a key is accepted.

    {}                   the key works: 200; 403 and 429 are a valid key without permission or
                         quota; 401 is a breach
    {expect: Revoked}    the old key, after a rotation, works no more: OpenAI says that there is no
                         such key

5xx and time-outs tell nothing of a key.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel

from gatewright.api.base import Model, Name
from gatewright.ports import Answer, OpenConnection
from gatewright.providers.common.present_gate import PresentGate
from gatewright.providers.openai import connection as openai
from gatewright.providers.units import Unit


class OpenAICheck(Model):
    """Whether an OpenAI key is accepted; costs no tokens."""

    connection: Name | None = None
    """Name of the openai Connection; the namespace's only one when left out."""
    expect: Literal["Valid", "Revoked"] = "Valid"
    """Valid: the key works. Revoked: it works no more, which is what an old key must do after a
    rotation."""

    @property
    def limits(self) -> Literal["required", "optional", "useless"]:
        """Return that max and min do not belong to this check: there is no number."""
        return "useless"


class OpenAIGate(PresentGate):
    """Asks OpenAI for its models."""

    config: ClassVar[type[BaseModel]] = OpenAICheck
    connection: ClassVar[str] = "openai"
    limits: ClassVar[Literal["required", "optional"]] = "optional"

    def unit(self, config: OpenAICheck) -> Unit | None:
        """Return what is measured; None where only the answer tells."""
        return "boolean"

    async def measure(self, config: OpenAICheck, link: OpenConnection) -> Answer:
        """Ask once. Raises Retryable, Permanent."""
        key = await openai.fetch_key_state(link)
        works = key.state in ("Valid", "Limited")
        if key.state == "Unknown":
            return Answer(None, key.message)
        if config.expect == "Valid":
            return Answer(works, key.message)
        if key.state == "Refused":
            return Answer(None, f"{key.message}; that does not say that the key was revoked")
        return Answer(not works, key.message)
