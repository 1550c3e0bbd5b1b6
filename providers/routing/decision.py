"""What was decided for one request and what came of it: the trace, the metrics and the answer's
headers read it. No prompt, no answer, no secret."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from providers.routing.outcomes import Outcome
from providers.routing.plan import Plan
from providers.routing.table import CredentialRef, Target


@dataclass(slots=True)
class Try:
    """One attempt. `code` is the stable code of its failure."""

    target: Target
    credential: CredentialRef | None
    outcome: Outcome
    code: str = ""
    seconds: float = 0.0
    # The code of an earlier refusal: it was asked without what that was about.
    mended: str = ""


@dataclass(slots=True)
class Decision:
    """`started_at` in monotonic seconds; 0 = nothing was planned."""

    started_at: float = 0.0
    planning_seconds: float = 0.0
    tenant_id: uuid.UUID | None = None
    plan: Plan | None = None
    tries: list[Try] = field(default_factory=list)
    # A further attempt was due and the budget did not allow it.
    is_out_of_budget: bool = False
    # What the translation for the target that answered changed or dropped.
    losses: int = 0
