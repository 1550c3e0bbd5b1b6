"""What an operator says of a provider's error answers. The list is replaced whole: its order is
its meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db import transaction
from django.db.models import F

from controlplane.kit import clock
from controlplane.kit.errors import FaultKind
from providers.catalog.models import Provider
from providers.errors import ProviderError
from providers.routing import table
from providers.routing.models import ErrorRule
from tenants.audit.services import record
from tenants.errors import StaleVersion
from tenants.revisions.services import bump

MOST_RULES: Final = 50


class BadRule(ProviderError):
    kind = FaultKind.BAD_REQUEST
    code = "bad_error_rule"


@transaction.atomic
def set_error_rules(
    provider: Provider, rules: Sequence[table.ErrorRule], *, expected_version: int | None = None
) -> None:
    """They are part of the registration and count in its version. Raises BadRule, StaleVersion,
    ValidationError."""
    if len(rules) > MOST_RULES:
        raise BadRule(f"A provider has at most {MOST_RULES} rules.", param="rules")
    rows: list[ErrorRule] = []
    for position, rule in enumerate(rules):
        if not rule.status and not rule.contains.strip():
            raise BadRule("A rule names a status, a text or both.", param="rules")
        row = ErrorRule(
            provider=provider,
            position=position,
            status=rule.status,
            contains=rule.contains,
            action=rule.action,
        )
        row.full_clean(exclude=["provider"], validate_unique=False, validate_constraints=False)
        rows.append(row)
    version = provider.version if expected_version is None else expected_version
    moved = Provider.objects.filter(pk=provider.pk, version=version).update(
        version=F("version") + 1, updated_at=clock.now()
    )
    if not moved:
        raise StaleVersion("Somebody else changed this registration: load it again.")
    provider.version = version + 1
    before = [_shown(row) for row in provider.error_rules.order_by("position")]
    provider.error_rules.all().delete()
    ErrorRule.objects.bulk_create(rows)
    record(
        tenant_id=provider.tenant_id,
        action="provider.error_rules_changed",
        target=provider,
        before={"rules": before},
        after={"rules": [_shown(row) for row in rows]},
    )
    bump("registrations")


def _shown(row: ErrorRule) -> dict[str, Any]:
    return {"status": row.status, "contains": row.contains, "action": row.action}
