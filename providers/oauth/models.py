"""Logins on their way, what the operator allows, and what became known of a login later."""

from __future__ import annotations

from datetime import datetime

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from controlplane.kit import clock
from controlplane.kit.badges import StateChoices, Tone
from controlplane.kit.models import Row, Versioned
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from tenants.scope import TenantOwned, TenantOwnedManager, TenantOwnedQuerySet
from tenants.vault.fields import SealedField


class LoginSettings(Row, Versioned):
    """The operator's word on the logins of one provider: without such a row, switched on, nobody
    signs in there. Of a provider of the catalogue, or of one registration of the platform."""

    class Sharing(models.TextChoices):
        OWNER = "owner", "Only who signed in"
        TENANT = "tenant", "Who signed in, or all of the tenant"
        PLATFORM = "platform", "Who signed in, all of the tenant, or every tenant"

    catalog_id = models.CharField(
        max_length=63, blank=True, validators=[RegexValidator(r"^[a-z0-9][a-z0-9._-]*\Z")]
    )
    provider = models.OneToOneField(
        Provider, null=True, blank=True, on_delete=models.CASCADE, related_name="login_settings"
    )
    is_on = models.BooleanField("switched on", default=False)
    sharing = models.CharField(max_length=8, choices=Sharing, default=Sharing.OWNER)
    # Where and when the vendor permitted more than one person's use, in the operator's words.
    permission = models.CharField(max_length=1000, blank=True)
    # {"device": {"token_url": …}}: laid over the catalogue's [oauth.device]; new names add logins.
    overrides = models.JSONField(default=dict, blank=True)
    sealed_client_secret = SealedField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "login settings"
        constraints = [
            models.CheckConstraint(
                condition=Q(catalog_id="", provider__isnull=False)
                | ~Q(catalog_id="") & Q(provider=None),
                name="login_settings_of_one_thing",
                violation_error_message="Name a provider of the catalog or one registration of "
                "the platform, not both.",
            ),
            models.UniqueConstraint(
                fields=["catalog_id"],
                condition=~Q(catalog_id=""),
                name="login_settings_unique",
                violation_error_message="There are settings for this provider already.",
            ),
            models.CheckConstraint(
                condition=Q(sharing="owner") | ~Q(permission=""),
                name="login_sharing_has_a_reason",
                violation_error_message="Write down where the vendor permits more than one "
                "person's use.",
            ),
        ]

    def __str__(self) -> str:
        return self.catalog_id or str(self.provider_id)

    def permits(self, *, is_personal: bool, is_platforms: bool) -> bool:
        """Whether a login may serve others than who signed in: all of its tenant, or, where it is
        the platform's, every tenant."""
        if is_personal:
            return True
        if is_platforms:
            return self.sharing == self.Sharing.PLATFORM
        return self.sharing != self.Sharing.OWNER


class DeviceLoginQuerySet(TenantOwnedQuerySet["DeviceLogin"]):
    def open(self) -> DeviceLoginQuerySet:
        return self.filter(finished_at=None)

    def due(self, now: datetime) -> DeviceLoginQuerySet:
        """Waiting for the vendor, and nobody is asking at this moment."""
        nobody = Q(polling_until=None) | Q(polling_until__lte=now)
        return self.filter(
            nobody, status=DeviceLogin.Status.PENDING, next_poll_at__lte=now, expires_at__gt=now
        )


class DeviceLogin(TenantOwned):
    """Somebody is signing in at a vendor. `sealed` holds what the vendor must see and nobody
    else: codes, verifier, and, from the approval until it is confirmed, the tokens."""

    class Status(StateChoices):
        CREATED = "created", Tone.INFO, "Starting"
        PENDING = "pending", Tone.INFO, "Waiting for you at the provider"
        APPROVED = "approved", Tone.INFO, "Approved, looking up the account"
        CONFIRM = "confirm", Tone.WARN, "Waiting for your confirmation"
        COMPLETED = "completed", Tone.GOOD, "Connected"
        DENIED = "denied", Tone.BAD, "Refused at the provider"
        EXPIRED = "expired", Tone.QUIET, "Ran out of time"
        ERROR = "error", Tone.BAD, "Failed"
        CANCELLED = "cancelled", Tone.QUIET, "Cancelled"

    tenant = models.ForeignKey(  # type: ignore[assignment]  # the base's cannot be empty
        "tenants.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="+")
    started_by = models.ForeignKey("tenants.User", on_delete=models.CASCADE, related_name="+")
    started_from = models.CharField(max_length=64, blank=True)
    login = models.CharField(max_length=40)
    is_personal = models.BooleanField(default=True)
    # What the person typed (domain, start URL, region), for "start again".
    inputs = models.JSONField(default=dict, blank=True)
    # Signing in again for a credential that is there already.
    renews = models.ForeignKey(
        Credential, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.CREATED)
    sealed = SealedField(null=True, blank=True)
    user_code = models.CharField(max_length=64, blank=True)
    verification_uri = models.CharField(max_length=500, blank=True)
    verification_uri_complete = models.CharField(max_length=500, blank=True)
    is_pasted = models.BooleanField(default=False)

    interval_seconds = models.FloatField(default=5.0)
    slow_downs = models.PositiveIntegerField(default=0)
    polls = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField()
    next_poll_at = models.DateTimeField(null=True, blank=True)
    polling_until = models.DateTimeField(null=True, blank=True)
    generation = models.PositiveIntegerField(default=0)

    account_id = models.CharField(max_length=200, blank=True)
    account_label = models.CharField(max_length=200, blank=True)
    plan = models.CharField(max_length=80, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error_detail = models.CharField(max_length=300, blank=True)
    credential = models.ForeignKey(
        Credential, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = TenantOwnedManager.from_queryset(DeviceLoginQuerySet)()

    class Meta(TenantOwned.Meta):
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    status__in=["created", "pending", "approved", "confirm"], finished_at=None
                )
                | Q(
                    status__in=["completed", "denied", "expired", "error", "cancelled"],
                    finished_at__isnull=False,
                ),
                name="login_finished_has_time",
            ),
            # However a login ends, what was secret in it is gone.
            models.CheckConstraint(
                condition=Q(finished_at=None)
                | Q(sealed=None, user_code="", verification_uri="", verification_uri_complete=""),
                name="login_finished_holds_nothing",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_poll_at"], condition=Q(finished_at=None), name="login_open_due"
            ),
            models.Index(fields=["started_by", "created_at"], name="login_by_starter"),
        ]

    def __str__(self) -> str:
        return f"{self.login} at {self.provider_id} ({self.id})"

    @property
    def state(self) -> Status:
        return DeviceLogin.Status.of(self.status)

    @property
    def is_open(self) -> bool:
        return self.finished_at is None


class QuotaSnapshot(TenantOwned):
    """What a vendor said of one window of one credential's quota. None = it did not say."""

    class Unit(models.TextChoices):
        REQUESTS = "requests", "requests"
        CREDITS = "credits", "credits"
        USD = "usd", "US dollars"
        PERCENT = "percent", "percent"
        TOKENS = "tokens", "tokens"

    tenant = models.ForeignKey(  # type: ignore[assignment]  # the base's cannot be empty
        "tenants.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    credential = models.ForeignKey(Credential, on_delete=models.CASCADE, related_name="quotas")
    name = models.CharField(max_length=120)
    covers = models.CharField(max_length=8, default="account")
    unit = models.CharField(max_length=8, choices=Unit)
    used = models.FloatField(null=True, blank=True)
    limit = models.FloatField(null=True, blank=True)
    percent_used = models.FloatField(null=True, blank=True)
    is_unlimited = models.BooleanField(default=False)
    allows_overage = models.BooleanField(default=False)
    resets_at = models.DateTimeField(null=True, blank=True)
    source = models.CharField(max_length=8, default="endpoint")
    fetched_at = models.DateTimeField(default=clock.now)

    class Meta(TenantOwned.Meta):
        indexes = [
            models.Index(fields=["credential", "name", "-fetched_at"], name="quota_latest"),
            models.Index(fields=["fetched_at"], name="quota_age"),
        ]

    def __str__(self) -> str:
        return f"{self.credential_id} {self.name} at {self.fetched_at:%Y-%m-%d %H:%M:%S}"

    @property
    def remaining(self) -> float | None:
        if self.used is None or self.limit is None:
            return None
        return max(self.limit - self.used, 0.0)
