"""What somebody must hear about a credential. Each at most once a day, quota or end."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from providers.credentials.models import Credential
from tenants.alerts.kinds import AlertKind
from tenants.alerts.services import alert

State = Credential.State
NEEDS_SOMEBODY: Final = (State.NEEDS_LOGIN, State.NO_ENTITLEMENT, State.SUSPENDED)
_USABLE: Final = (State.ACTIVE, State.EXPIRING, State.COOLING)
# Of a credential that nothing renews.
ENDS_WITHIN: Final = timedelta(days=7)


def stopped(credential: Credential, state: str, reason: str, *, now: datetime) -> bool:
    """It went into a state that only a person ends."""
    if state not in NEEDS_SOMEBODY:
        return False
    title = f"{State.of(state).label}: {_named(credential)}"
    return alert(
        AlertKind.NEEDS_LOGIN,
        tenant_id=credential.tenant_id,
        key=f"{credential.pk}:{now:%Y-%m-%d}",
        title=title,
        text=f"No request uses {_named(credential)} any more. {reason}".strip(),
        facts={**_facts(credential), "state": state, "reason": reason},
        person_id=credential.owner_id,
        now=now,
    )


def used_up(
    credential: Credential, window: str, resets_at: datetime | None, *, now: datetime
) -> bool:
    """The vendor says that a window of its quota is at its end."""
    until = f" It starts anew at {resets_at:%Y-%m-%d %H:%M} UTC." if resets_at else ""
    period = resets_at.strftime("%Y-%m-%dT%H") if resets_at else f"{now:%Y-%m-%d}"
    return alert(
        AlertKind.SUBSCRIPTION,
        tenant_id=credential.tenant_id,
        key=f"{credential.pk}:{window}:{period}",
        title=f"{window} is used up: {_named(credential)}",
        text=f"The vendor says that {window} of {_named(credential)} is used up.{until}",
        facts={
            **_facts(credential),
            "window": window,
            "resets_at": resets_at.isoformat() if resets_at else None,
        },
        person_id=credential.owner_id,
        now=now,
    )


def find_expiring(*, now: datetime) -> int:
    """Those that end soon and that nothing renews; how many alerts were raised. In the platform's
    scope."""
    rows = Credential.objects.filter(
        state__in=_USABLE,
        provider__is_enabled=True,
        refresh_at=None,
        expires_at__gt=now,
        expires_at__lte=now + ENDS_WITHIN,
    ).select_related("provider")
    return sum(_expires(row, row.expires_at, now) for row in rows.defer("sealed"))


def _expires(credential: Credential, ends_at: datetime, now: datetime) -> bool:
    at = f"{ends_at:%Y-%m-%d %H:%M} UTC"
    return alert(
        AlertKind.EXPIRING,
        tenant_id=credential.tenant_id,
        key=f"{credential.pk}:{ends_at.isoformat()}",
        title=f"Ends {at}: {_named(credential)}",
        text=f"{_named(credential)} ends {at}, and nothing renews it: sign in again, or store a "
        "new secret.",
        facts={**_facts(credential), "expires_at": ends_at.isoformat()},
        person_id=credential.owner_id,
        now=now,
    )


def _named(credential: Credential) -> str:
    return f"“{credential.label}” of {credential.provider.slug}"


def _facts(credential: Credential) -> dict[str, Any]:
    return {
        "credential_id": str(credential.pk),
        "credential": credential.label,
        "provider": credential.provider.slug,
    }
