"""A tenant's API key: what it may do, and how it is recognised. The key itself is not here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from controlplane.kit.badges import StateChoices, Tone
from controlplane.kit.models import Versioned
from tenants.keys import rules
from tenants.members.models import Membership
from tenants.scope import TenantOwned, TenantOwnedManager, TenantOwnedQuerySet

_MOST_ENTRIES: Final = 100


class KeyScope(models.TextChoices):
    """What kind of call a key opens."""

    PROXY = "proxy", "Call models"
    READ = "read", "Read this tenant through the control API"
    MANAGE = "manage", "Change this tenant through the control API"


def default_scopes() -> list[str]:
    return [KeyScope.PROXY.value]


def _texts(value: Any, parse: Callable[[list[str]], Any]) -> None:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        # Not "invalid": Django would put the JSON field's own sentence in place of ours.
        raise ValidationError("Give a list of texts.", code="not_texts")
    if len(value) > _MOST_ENTRIES:
        raise ValidationError(f"At most {_MOST_ENTRIES} entries fit here.", code="too_many")
    try:
        parse(value)
    except ValueError as error:
        raise ValidationError(str(error), code="bad_entry") from None


def valid_scopes(value: Any) -> None:
    def parse(texts: list[str]) -> None:
        unknown = sorted(set(texts) - set(KeyScope.values))
        if unknown:
            raise ValueError(
                f"There is no scope {', '.join(unknown)}; choose from {', '.join(KeyScope.values)}."
            )

    _texts(value, parse)


def valid_models(value: Any) -> None:
    _texts(value, rules.model_patterns)


def valid_networks(value: Any) -> None:
    _texts(value, rules.networks)


class ApiKeyQuerySet(TenantOwnedQuerySet["ApiKey"]):
    def usable(self, *, now: datetime) -> ApiKeyQuerySet:
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)

    def expiring(self, *, now: datetime, within: timedelta) -> ApiKeyQuerySet:
        return self.usable(now=now).filter(expires_at__lte=now + within)


class ApiKey(TenantOwned, Versioned):
    class State(StateChoices):
        """Follows from the times below; not a column."""

        ACTIVE = "active", Tone.GOOD, "Active"
        ROTATED = "rotated", Tone.WARN, "Replaced, still works"
        EXPIRED = "expired", Tone.QUIET, "Expired"
        REVOKED = "revoked", Tone.QUIET, "Revoked"

    label = models.CharField(max_length=120)
    public_id = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    pepper_name = models.CharField(max_length=12, editable=False)
    member = models.ForeignKey(
        Membership,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="keys",
        help_text="Who the key was made for; it is revoked when they leave.",
    )
    scopes = models.JSONField(
        default=default_scopes,
        validators=[valid_scopes],
        error_messages={"blank": "A key without any scope opens nothing: choose at least one."},
    )
    allowed_models = models.JSONField(
        default=list,
        blank=True,
        validators=[valid_models],
        help_text="Names or globs such as gpt-*. Empty: every model the tenant has.",
    )
    allowed_networks = models.JSONField(
        default=list,
        blank=True,
        validators=[valid_networks],
        help_text="Addresses or CIDR ranges the key may be used from. Empty: anywhere.",
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    rotated_at = models.DateTimeField(null=True, blank=True, editable=False)
    rotated_from = models.OneToOneField(
        "self",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="rotated_to",
    )
    # Up to some seconds late: written in batches (see last_used.py).
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TenantOwnedManager.from_queryset(ApiKeyQuerySet)()

    class Meta:
        verbose_name = "API key"
        base_manager_name = "objects"
        indexes = [models.Index(fields=["tenant", "-created_at"], name="apikey_tenant_created")]
        constraints = [
            models.CheckConstraint(
                condition=Q(rotated_at=None) | Q(expires_at__isnull=False),
                name="apikey_rotated_ends",
            )
        ]

    def __str__(self) -> str:
        return f"{self.label} ({self.display})"

    @property
    def display(self) -> str:
        """Enough to recognise the key in a list or a log, nothing of its secret."""
        return f"pcp_live_{self.public_id}_…"

    def state(self, *, now: datetime) -> ApiKey.State:
        if self.revoked_at is not None:
            return self.State.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return self.State.EXPIRED
        return self.State.ACTIVE if self.rotated_at is None else self.State.ROTATED
