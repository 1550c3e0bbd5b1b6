"""A plan as lines for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from providers.bundle.plan import FieldStep, Plan, Step

_SIGNS: Final = {"create": "+", "change": "~", "remove": "-"}
_LONGEST: Final = 80


def lines(plan: Plan) -> Iterator[str]:
    for step in plan.steps:
        yield f"{_SIGNS[step.action]} {step.what} {step.name}"
        for field in step.fields:
            yield f"    {_field(step, field)}"
    for note in plan.notes:
        yield f"! {note}"


def count(plan: Plan) -> str:
    """`2 to create, 1 to change`; `Nothing to change.` where that is so."""
    numbers = {
        action: sum(step.action == action for step in plan.steps)
        for action in ("create", "change", "remove")
    }
    said = [f"{number:,} to {action}" for action, number in numbers.items() if number]
    return ", ".join(said) + "." if said else "Nothing to change."


def _field(step: Step, field: FieldStep) -> str:
    if step.action == "change":
        return f"{field.name}: {_short(field.before)} → {_short(field.after)}"
    return f"{field.name}: {_short(field.after if step.action == 'create' else field.before)}"


def _short(value: Any) -> str:
    text = "nothing" if value in (None, "", [], {}) else str(value)
    shown = "".join(sign if sign.isprintable() else "␤" for sign in text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
