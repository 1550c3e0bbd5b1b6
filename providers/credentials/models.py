"""Whose key: a sealed secret, its state, and what may be shown of it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from controlplane.kit.badges import StateChoices, Tone
from controlplane.kit.models import Versioned
from providers.catalog.models import Provider
from tenants.scope import TenantOwned
from tenants.vault.fields import SealedField


class Credential(TenantOwned, Versioned):
    """One secret for one registration. Several per registration share its traffic."""

    class Kind(models.TextChoices):
        KEY = "key", "API key"
        OAUTH = "oauth", "Login"
        AWS = "aws", "AWS"
        GOOGLE = "google", "Google Cloud"
        AZURE = "azure", "Microsoft Entra ID"
        NONE = "none", "None needed"

    class Source(models.TextChoices):
        STORED = "stored", "Stored here, sealed"
        ENVIRONMENT = "environment", "Environment variable"
        FILE = "file", "File"
        COMMAND = "command", "Operator's command"
        VAULT_KV = "vault_kv", "HashiCorp Vault"
        AWS_SECRETS = "aws_secrets", "AWS Secrets Manager"

    class State(StateChoices):
        ACTIVE = "active", Tone.GOOD, "Active"
        EXPIRING = "expiring", Tone.WARN, "Expiring"
        REFRESHING = "refreshing", Tone.INFO, "Refreshing"
        COOLING = "cooling", Tone.WARN, "Cooling down"
        NEEDS_LOGIN = "needs_login", Tone.BAD, "Needs a new login"
        NO_ENTITLEMENT = "no_entitlement", Tone.BAD, "No entitlement"
        SUSPENDED = "suspended", Tone.BAD, "Suspended"
        DISABLED = "disabled", Tone.QUIET, "Disabled"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="credentials")
    # The tenant whose data key seals it; empty = the platform's.
    tenant = models.ForeignKey(  # type: ignore[assignment]  # the base's cannot be empty
        "tenants.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    label = models.CharField(max_length=120)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.KEY)
    source = models.CharField(max_length=12, choices=Source, default=Source.STORED)
    # For sources other than STORED: the name, path or reference, never the value.
    reference = models.CharField(max_length=500, blank=True)
    sealed = SealedField(null=True, blank=True)
    fingerprint = models.CharField(max_length=32, blank=True, editable=False)
    endpoint = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=16, choices=State, default=State.ACTIVE)
    state_reason = models.CharField(max_length=500, blank=True, editable=False)
    state_since = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Of a login: whose account it is, which of the provider's ways to sign in made it, and what
    # the vendor calls the account.
    owner = models.ForeignKey(
        "tenants.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    is_personal = models.BooleanField("only for its owner", default=False)
    login = models.CharField(max_length=40, blank=True, editable=False)
    account_id = models.CharField(max_length=200, blank=True, editable=False)
    account_label = models.CharField(max_length=200, blank=True, editable=False)
    plan = models.CharField(max_length=80, blank=True, editable=False)
    # Renewal. `generation` goes up with each new token; the lease lets one process renew.
    generation = models.PositiveIntegerField(default=0, editable=False)
    refresh_at = models.DateTimeField(null=True, blank=True, editable=False)
    refreshed_at = models.DateTimeField(null=True, blank=True, editable=False)
    refresh_tried_at = models.DateTimeField(null=True, blank=True, editable=False)
    refresh_failures = models.PositiveIntegerField(default=0, editable=False)
    refresh_owner = models.CharField(max_length=64, blank=True, default="", editable=False)
    refresh_until = models.DateTimeField(null=True, blank=True, editable=False)
    # A single-use token was sent and the answer never came: the vendor may have taken it.
    is_refresh_uncertain = models.BooleanField(default=False, editable=False)
    quota_at = models.DateTimeField(null=True, blank=True, editable=False)
    # What the vendor said last of the account's fullest window: the share that is left, and until
    # when there is nothing.
    quota_share = models.FloatField(default=1.0, editable=False)
    quota_used_up_until = models.DateTimeField(null=True, blank=True, editable=False)
    # The same of windows that hold for single models or families: see routing/quota.py.
    model_quotas = models.JSONField(default=list, blank=True, editable=False)
    # Its own way out; empty = the registration's, `direct` = none.
    proxy_url = models.CharField(max_length=500, blank=True)
    priority = models.IntegerField(default=0)
    weight = models.PositiveIntegerField(default=1)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["provider", "label"], name="credential_label_unique"),
            models.CheckConstraint(
                condition=~Q(source="stored") | Q(reference=""), name="credential_stored_is_sealed"
            ),
        ]
        indexes = [
            models.Index(
                fields=["refresh_at"],
                condition=Q(refresh_at__isnull=False),
                name="credential_refresh_due",
            ),
        ]

    def __str__(self) -> str:
        return self.label
