"""What a vendor's refusal of a request says about the login that it was shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from controlplane.kit import clock
from providers.credentials import timeline
from providers.credentials.models import Credential
from providers.oauth.states import change_state
from tenants import scope
from tenants.audit.actor import acting_as

# `renew`: the token ended early, a new one may help. The others say why none would.
Action = Literal["renew", "suspended", "refused", "none"]

# Kiro answers 403, and not 401, to a token that has ended.
_ENDED: Final = ("bearer token included in the request is invalid", "token has expired")
_SUSPENDED: Final = ("temporarily_suspended", "temporarily is suspended", "account_deactivated")
_REFUSED: Final = ("only authorized for use with",)


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action
    sentence: str = ""


def verdict_of(status: int, body: bytes) -> Verdict:
    """By the body first: a 403 may be a policy, a suspension, or a token that has ended."""
    said = body[:8_192].decode("utf-8", "replace").lower()
    if any(words in said for words in _SUSPENDED):
        return Verdict("suspended", "The vendor suspended this account.")
    if any(words in said for words in _REFUSED):
        return Verdict(
            "refused",
            "The vendor does not accept this login from other software: use an API key.",
        )
    if status == 401 or (status == 403 and any(words in said for words in _ENDED)):
        return Verdict("renew", "The vendor refused the token before its end.")
    return Verdict("none")


def note(credential_id: str, verdict: Verdict) -> None:
    """Written where it ends up in the timeline, and, where no token would help, in the state."""
    with scope.platform("a vendor's verdict"), acting_as("system", None, "proxy"):
        row: Credential | None = Credential.objects.filter(pk=credential_id).first()
        if row is None:
            return
        now = clock.now()
        match verdict.action:
            case "suspended":
                change_state(row, Credential.State.SUSPENDED, verdict.sentence, now=now)
            case "refused" | "renew":
                # Refused was the caller's program, which others who share the login may not be.
                timeline.note(row, "refused", verdict.sentence, now=now)
            case "none":
                pass
