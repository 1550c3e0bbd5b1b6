"""What a credential's state means to a person: why, since when, and what to do next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F

from providers.credentials import alerts, timeline
from providers.credentials.models import Credential
from tenants.audit.services import record
from tenants.revisions.services import bump

State = Credential.State

# What to do, in words. The reason beside it says what happened.
NEXT: Final = {
    State.ACTIVE: "",
    State.EXPIRING: "Nothing yet: it is renewed by itself. If it cannot be, sign in again.",
    State.REFRESHING: "Nothing: it is being renewed.",
    State.COOLING: "Nothing: it rests and is tried again by itself.",
    State.NEEDS_LOGIN: "Sign in again.",
    State.NO_ENTITLEMENT: "Sign in with an account whose plan includes this service, or ask its "
    "organisation for a seat.",
    State.SUSPENDED: "Ask the vendor about the account; it is not used meanwhile.",
    State.DISABLED: "Switch it on again when it shall be used.",
}
_SOON: Final = timedelta(minutes=10)


def shown_state(credential: Credential, now: datetime) -> Credential.State:
    """The stored state, or what follows from the dates: being renewed, about to end."""
    stored = Credential.State.of(credential.state)
    if stored is not State.ACTIVE:
        return stored
    if credential.refresh_until is not None and credential.refresh_until > now:
        return State.REFRESHING
    if credential.expires_at is not None and credential.expires_at - _SOON <= now:
        return State.EXPIRING
    return stored


def next_action(credential: Credential, now: datetime) -> str:
    return NEXT[shown_state(credential, now)]


@transaction.atomic
def change_state(credential: Credential, state: str, reason: str, *, now: datetime) -> bool:
    """Requests use it, or no longer do, from now on. False: it was so already."""
    moved = (
        Credential.objects.filter(pk=credential.pk)
        .exclude(state=state)
        .update(
            state=state,
            state_reason=reason[:500],
            state_since=now,
            version=F("version") + 1,
            updated_at=now,
        )
    )
    if not moved:
        return False
    before, credential.state = credential.state, state
    timeline.note(credential, "state", reason or f"Now {State.of(state).label.lower()}.", now=now)
    record(
        tenant_id=credential.tenant_id,
        action="credential.state",
        target=credential,
        before={"state": before},
        after={"state": state, "reason": reason},
    )
    alerts.stopped(credential, state, reason, now=now)
    bump("registrations")
    return True
