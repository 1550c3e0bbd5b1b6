"""Registrations: which providers exist here, for whom, and what differs from the catalog.

A registration names a catalog id and layers its options on top; what it leaves empty comes
from the catalog file. `effective.py` merges, and says where each value came from.
"""

from __future__ import annotations

from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from django.db.models import Q, TextChoices, Value

from controlplane.kit.models import Row, Versioned
from providers.catalog import validators
from tenants.scope import TenantOwned
from tenants.vault.fields import SealedField

SLUG = RegexValidator(
    r"^[a-z0-9][a-z0-9._-]{0,62}\Z",
    "Use up to 63 lower-case letters, digits, dots, hyphens and underscores.",
)


class Provider(TenantOwned, Versioned):
    """One registration. `tenant` empty = owned by the platform: tenants see that it is there,
    and use it when it is shared with them (see routing/loader.py)."""

    shows_platform_rows = True

    class Kind(TextChoices):
        DIRECT = "direct", "Direct"
        AGGREGATOR = "aggregator", "Aggregator"
        PROPRIETARY = "proprietary", "Subscription"
        CLOUD = "cloud", "Cloud"
        CUSTOM = "custom", "Custom"

    tenant = models.ForeignKey(  # type: ignore[assignment]  # the base's cannot be empty
        "tenants.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    slug = models.CharField(max_length=63, validators=[SLUG])
    catalog_id = models.CharField(max_length=63, blank=True)
    name = models.CharField(max_length=120, blank=True)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.CUSTOM)
    is_enabled = models.BooleanField("enabled", default=True)
    is_shared_with_all = models.BooleanField("shared with all tenants", default=True)

    protocol = models.CharField(max_length=63, blank=True)
    base_url = models.CharField(max_length=500, blank=True)
    auth_type = models.CharField(max_length=24, blank=True)
    # Non-secret identifiers for URLs and envelopes: account, region, resource, api_version …
    endpoint = models.JSONField(default=dict, blank=True, validators=[validators.valid_endpoint])
    headers = models.JSONField(default=dict, blank=True, validators=[validators.valid_headers])
    sealed_headers = SealedField(null=True, blank=True)
    # Headers in `sealed_headers`, by name, so that screens can list what is set.
    sealed_header_names = models.JSONField(default=list, blank=True, editable=False)

    prefix = models.CharField(max_length=63, blank=True, validators=[SLUG])
    force_model_prefix = models.BooleanField(null=True, blank=True)
    priority = models.IntegerField(default=0)
    weight = models.PositiveIntegerField(default=1, validators=[MaxValueValidator(1_000_000)])
    cooldown_seconds = models.PositiveIntegerField(
        null=True, blank=True, validators=[MaxValueValidator(86_400)]
    )
    features = models.JSONField(default=dict, blank=True, validators=[validators.valid_features])
    quirks = models.JSONField(default=dict, blank=True, validators=[validators.valid_quirks])
    limits = models.JSONField(default=dict, blank=True, validators=[validators.valid_limits])
    excluded_models = models.JSONField(
        default=list, blank=True, validators=[validators.valid_patterns]
    )
    default_context_window = models.PositiveIntegerField(default=0)
    default_max_output_tokens = models.PositiveIntegerField(default=0)
    store_responses = models.BooleanField(default=False)
    # Live `/models` names are offered too, not only those the catalog or an admin listed.
    passes_unknown_models = models.BooleanField(default=False)

    proxy_url = models.CharField(max_length=500, blank=True)
    ca_certificate = models.TextField(blank=True, validators=[validators.valid_certificate])
    connect_timeout_seconds = models.FloatField(
        null=True, blank=True, validators=[*validators.SECONDS]
    )
    first_byte_timeout_seconds = models.FloatField(
        null=True, blank=True, validators=[*validators.SECONDS]
    )
    idle_timeout_seconds = models.FloatField(
        null=True, blank=True, validators=[*validators.SECONDS]
    )
    # Of one answer, from the question to its last byte.
    total_timeout_seconds = models.FloatField(
        null=True, blank=True, validators=[*validators.SECONDS]
    )
    fallback_notes = models.TextField(blank=True, max_length=10_000)
    # What a probe or a conformance run has shown: feature -> yes or no.
    probed_features = models.JSONField(default=dict, blank=True, editable=False)
    probed_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Field name -> bundle that set it: an edit that the next apply would undo can say so.
    owned_fields = models.JSONField(default=dict, blank=True, editable=False)
    # The bundle that made this registration; empty = made by a person.
    owned_by = models.CharField(max_length=63, blank=True, editable=False)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="provider_slug_unique"),
            models.UniqueConstraint(
                fields=["slug"],
                condition=Q(tenant=None),
                name="provider_platform_slug_unique",
            ),
            models.CheckConstraint(
                condition=~Q(catalog_id="") | (~Q(protocol="") & ~Q(base_url="")),
                name="provider_custom_is_complete",
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class ProviderShare(TenantOwned):
    """A platform registration shared with one chosen tenant."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="shares")

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["provider", "tenant"], name="provider_share_unique")
        ]

    def __str__(self) -> str:
        return f"{self.provider_id} with {self.tenant_id}"


class ProviderModel(Row, Versioned):
    """A model of one registration: added by hand, found by refresh, or a catalog model changed.

    Empty facts come from the catalog, then from the registration's defaults."""

    tenant_owned_through = "provider"

    class Origin(models.TextChoices):
        MANUAL = "manual", "By hand"
        LISTED = "listed", "From the provider's list"
        FACTS = "facts", "From a facts file"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="models")
    upstream_id = models.CharField(max_length=255, validators=[validators.valid_name])
    alias = models.CharField(max_length=255, blank=True, validators=[validators.valid_name])
    display_name = models.CharField(max_length=255, blank=True)
    is_enabled = models.BooleanField("enabled", default=True)
    origin = models.CharField(max_length=8, choices=Origin, default=Origin.MANUAL)
    protocol = models.CharField(max_length=63, blank=True)
    context_window = models.PositiveIntegerField(null=True, blank=True)
    max_output_tokens = models.PositiveIntegerField(null=True, blank=True)
    supports_functions = models.BooleanField(null=True, blank=True)
    supports_streaming = models.BooleanField(null=True, blank=True)
    facts = models.JSONField(default=dict, blank=True, validators=[validators.valid_facts])
    owned_by = models.CharField(max_length=63, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "upstream_id", "alias"], name="provider_model_unique"
            )
        ]

    def __str__(self) -> str:
        return self.alias or self.upstream_id


class ModelMapping(Row, Versioned):
    """'When a client asks for X, this provider calls it Y.'"""

    tenant_owned_through = "provider"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="mappings")
    client_model = models.CharField(max_length=255, validators=[validators.valid_name])
    upstream_model = models.CharField(max_length=255, validators=[validators.valid_name])
    owned_by = models.CharField(max_length=63, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "client_model"], name="model_mapping_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.client_model} → {self.upstream_model}"


class RegistryPolicy(TenantOwned, Versioned):
    """What holds for a whole tenant; the row without a tenant holds for all. Empty = as the row
    without a tenant says, and where that says nothing: no forced prefix, prices shown, no keys
    of callers' own."""

    shows_platform_rows = True

    tenant = models.ForeignKey(  # type: ignore[assignment]  # the base's cannot be empty
        "tenants.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    # Models of a registration with a prefix answer to their prefixed names only.
    force_model_prefix = models.BooleanField(null=True, blank=True)
    # Tenants read prices of the platform's registrations.
    shows_prices = models.BooleanField(null=True, blank=True)
    # Requests may bring the provider's key with them (x-provider-key).
    allows_own_keys = models.BooleanField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        verbose_name = "registry policy"
        verbose_name_plural = "registry policies"
        # Two: SQLite has no NULLS NOT DISTINCT, and Django would leave the constraint out.
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="registry_policy_unique"),
            models.UniqueConstraint(
                Value(1), condition=Q(tenant=None), name="registry_policy_platform_unique"
            ),
        ]

    def __str__(self) -> str:
        return str(self.tenant_id or "platform")
