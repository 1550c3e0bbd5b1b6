"""The part of a bundle that says what a provider's error answers mean."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET

from providers.bundle.document import ErrorRuleEntry, ProviderEntry
from providers.bundle.notes import Notes
from providers.catalog.models import Provider
from providers.routing import table
from providers.routing.error_rules import set_error_rules
from providers.routing.models import ErrorRule

# Marked as a field is, although they are rows beside the registration.
FIELD: Final = "error_rules"


def settle(
    entry: ProviderEntry, row: Provider, name: str, notes: Notes, *, were_ours: bool
) -> None:
    """The rules as the entry lists them; where it no longer does, those that the bundle had set go
    (`were_ours`)."""
    if entry.error_rules is UNSET and not were_ours:
        return
    wanted = [] if entry.error_rules is UNSET else list(entry.error_rules)
    current = [entry_of(rule) for rule in row.error_rules.order_by("position")]
    if wanted == current:
        return
    rules = [table.ErrorRule(**msgspec.structs.asdict(rule)) for rule in wanted]
    set_error_rules(row, rules)
    notes.step("change", "error rules", name, before=_shown(current), after=_shown(wanted))


def entry_of(rule: ErrorRule) -> ErrorRuleEntry:
    return msgspec.convert(
        {"action": rule.action, "status": rule.status, "contains": rule.contains}, ErrorRuleEntry
    )


def _shown(rules: list[ErrorRuleEntry]) -> dict[str, Any]:
    return {"rules": msgspec.to_builtins(rules)}
