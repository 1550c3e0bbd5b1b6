"""What signing in must remember, in rows, so that every process remembers the same."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from controlplane.kit import clock
from controlplane.kit.models import Row
from tenants.vault.fields import SealedField


class SignInSlot(models.Model):
    """One failed try that still counts. A bucket (an account, an address) has as many slots as
    it may fail; a try takes a free one and gives it back when it succeeds."""

    bucket = models.CharField(max_length=64)
    number = models.PositiveSmallIntegerField()
    free_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["bucket", "number"], name="sign_in_slot_unique")
        ]

    def __str__(self) -> str:
        return f"{self.bucket[:8]} slot {self.number}"


class SpentCode(models.Model):
    """A one-time code that has been used. Only a keyed digest of it is kept."""

    digest = models.CharField(max_length=64, primary_key=True)
    spent_at = models.DateTimeField(default=clock.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.digest[:8]} at {self.spent_at:%Y-%m-%d %H:%M}"


class SealedFactor(Row):
    """The secret of an authenticator app, or the seed of recovery codes, sealed by the vault.

    The sign-in library keeps this row's id where it would have kept the secret.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sealed_factors"
    )
    sealed = SealedField()

    def __str__(self) -> str:
        return f"second factor {self.pk}"
