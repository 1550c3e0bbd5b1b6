"""An alert when a registration stops working: once for each time that it does."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from providers.catalog.models import Provider
from providers.health.models import Finding, ProviderCheck
from tenants.alerts.kinds import AlertKind
from tenants.alerts.services import alert

# One failure may be a moment's.
_IN_A_ROW: Final = 2


def tell_if_down(provider: Provider, *, now: datetime) -> bool:
    """After a check. False: it works, or was told of before."""
    checks = provider.checks.order_by("-at", "-pk")
    latest = list(checks[:_IN_A_ROW])
    if len(latest) < _IN_A_ROW or any(_is_fine(check) for check in latest):
        return False
    last_good = checks.filter(is_ok=True).first()
    since = checks.filter(at__gt=last_good.at) if last_good is not None else checks
    began = since.exclude(finding=Finding.NO_CREDENTIAL).last()
    if began is None:
        return False
    return alert(
        AlertKind.PROVIDER_DOWN,
        tenant_id=provider.tenant_id,
        key=f"{provider.pk}:{began.pk}",
        title=f"{Finding.of(latest[0].finding).label}: {provider.slug}",
        text=f"{provider.slug} has not worked since {began.at:%Y-%m-%d %H:%M} UTC. "
        f"{latest[0].sentence}",
        facts={
            "provider_id": str(provider.pk),
            "provider": provider.slug,
            "finding": latest[0].finding,
            "since": began.at.isoformat(),
        },
        now=now,
    )


def _is_fine(check: ProviderCheck) -> bool:
    """Nobody stored a key yet: that is no outage."""
    return check.is_ok or check.finding == Finding.NO_CREDENTIAL
