"""What happened to a credential: the rows of its timeline."""

from __future__ import annotations

from django.db import models

from controlplane.kit import clock
from controlplane.kit.badges import StateChoices, Tone
from providers.credentials.models import Credential
from tenants.scope import TenantOwned


class CredentialEvent(TenantOwned):
    """One thing that happened to a credential, for its timeline. Never holds a secret."""

    class Kind(StateChoices):
        ISSUED = "issued", Tone.GOOD, "Issued"
        REFRESHED = "refreshed", Tone.GOOD, "Renewed"
        REFRESH_FAILED = "refresh_failed", Tone.WARN, "Renewal failed"
        REFUSED = "refused", Tone.WARN, "Refused by the vendor"
        QUOTA = "quota", Tone.WARN, "Quota used up"
        COOLDOWN = "cooldown", Tone.WARN, "Rests after failures"
        STATE = "state", Tone.INFO, "State changed"

    tenant = models.ForeignKey(  # type: ignore[assignment]  # the base's cannot be empty
        "tenants.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    credential = models.ForeignKey(Credential, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(default=clock.now)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    state = models.CharField(max_length=16, blank=True)
    sentence = models.CharField(max_length=500)

    class Meta(TenantOwned.Meta):
        indexes = [
            models.Index(fields=["credential", "-at"], name="credential_event_latest"),
            models.Index(fields=["at"], name="credential_event_age"),
        ]

    def __str__(self) -> str:
        return f"{self.credential_id} {self.kind} at {self.at:%Y-%m-%d %H:%M:%S}"
