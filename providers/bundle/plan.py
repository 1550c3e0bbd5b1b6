"""What a bundle would change, in words a person can check before it happens. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from controlplane.kit.errors import FaultKind
from providers.errors import ProviderError

Action = Literal["create", "change", "remove"]
What = Literal[
    "tenant",
    "policy",
    "routing policy",
    "registration",
    "error rules",
    "sharing",
    "credential",
    "model",
    "mapping",
    "alias",
]


class FieldStep(msgspec.Struct, frozen=True, kw_only=True):
    """A secret shows as its fingerprint."""

    name: str
    before: Any = None
    after: Any = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    action: Action
    what: What
    name: str
    fields: tuple[FieldStep, ...] = ()

    def __str__(self) -> str:
        return f"{self.action} {self.what} {self.name}"


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """`place` names what the sentence is about."""

    place: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`notes` are worth knowing, with any of `problems` nothing is written."""

    name: str
    steps: tuple[Step, ...] = ()
    notes: tuple[Remark, ...] = ()
    problems: tuple[Remark, ...] = ()


class BundleRefused(ProviderError):
    """Nothing was written. `plan` says everything that is wrong."""

    kind = FaultKind.BAD_REQUEST
    code = "bundle_refused"

    def __init__(self, plan: Plan) -> None:
        more = len(plan.problems) - 1
        rest = f" There are {more} more problems: see the plan." if more else ""
        super().__init__(f"{plan.problems[0]}{rest} Nothing was changed.")
        self.plan = plan
