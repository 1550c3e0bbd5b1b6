"""Limits, the counters they are held against, and how a tenant's requests reserve."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Cast, Coalesce

from controlplane.kit.badges import StateChoices, Tone
from controlplane.kit.models import Versioned
from tenants.quotas.policy import IN_NANOS, MOST, PER_REQUEST, WITHOUT_PERIOD
from tenants.scope import TenantOwned, TenantOwnedManager

NANOS_PER_DOLLAR = 1_000_000_000


class Limit(TenantOwned, Versioned):
    """tenant None = the platform's own: it counts every tenant's requests. No row = no limit;
    an amount of 0 lets nothing through."""

    class ScopeKind(models.TextChoices):
        PLATFORM = "platform", "Everything"
        TENANT = "tenant", "The tenant"
        MEMBER = "member", "A member"
        KEY = "key", "An API key"
        MODEL = "model", "A model or alias"
        PROVIDER = "provider", "A provider"
        CREDENTIAL = "credential", "A credential"

    class Kind(models.TextChoices):
        REQUESTS = "requests", "Requests"
        TOKENS = "tokens", "Tokens"
        INPUT_TOKENS = "input_tokens", "Input tokens"
        OUTPUT_TOKENS = "output_tokens", "Output tokens"
        MONEY = "money", "Money"
        PARALLEL = "parallel", "Requests at the same time"
        REQUEST_TOKENS = "request_tokens", "Tokens of one request"
        REQUEST_MONEY = "request_money", "Cost of one request"

    class Period(models.TextChoices):
        NONE = "none", "–"
        MINUTE = "minute", "per minute"
        HOUR = "hour", "per hour"
        DAY = "day", "per day"
        WEEK = "week", "per week"
        MONTH = "month", "per month"
        TOTAL = "total", "in total"

    class Window(models.TextChoices):
        CALENDAR = "calendar", "By the calendar"
        ROLLING = "rolling", "Rolling"
        FISCAL = "fiscal", "Fiscal month"

    class Mode(StateChoices):
        ENFORCE = "enforce", Tone.GOOD, "Enforced"
        SHADOW = "shadow", Tone.WARN, "Only watched"

    tenant = models.ForeignKey(  # type: ignore[assignment]  # wider than the base: may be None
        "tenants.Tenant", on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    scope_kind = models.CharField("for", max_length=10, choices=ScopeKind)
    scope_value = models.CharField(
        "which",
        max_length=200,
        blank=True,
        help_text="The id of the member, key or credential, or the name of the model or provider; "
        "* gives each of them this much.",
    )
    kind = models.CharField("what", max_length=16, choices=Kind)
    period = models.CharField(max_length=8, choices=Period, default=Period.NONE)
    window = models.CharField(max_length=8, choices=Window, default=Window.CALENDAR)
    fiscal_day = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(28)],
        help_text="The day of the month on which a fiscal month begins.",
    )
    amount = models.BigIntegerField(
        validators=[MinValueValidator(0), MaxValueValidator(MOST)],
        help_text="Money in nano-dollars.",
    )
    mode = models.CharField(max_length=8, choices=Mode, default=Mode.ENFORCE)
    # Made by platform staff: the tenant's own people see it and leave it alone.
    is_platform_set = models.BooleanField(default=False, editable=False)

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "scope_kind", "scope_value", "kind", "period", "window"],
                name="limit_unique",
            ),
            # NULLs count as different above.
            models.UniqueConstraint(
                fields=["scope_kind", "scope_value", "kind", "period", "window"],
                condition=Q(tenant=None),
                name="limit_unique_platform",
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="limit_not_negative"),
            models.CheckConstraint(
                condition=Q(kind__in=sorted(WITHOUT_PERIOD), period="none")
                | (~Q(kind__in=sorted(WITHOUT_PERIOD)) & ~Q(period="none")),
                name="limit_period_fits_kind",
            ),
            models.CheckConstraint(
                condition=~Q(window="fiscal") | Q(period="month"), name="limit_fiscal_is_monthly"
            ),
            models.CheckConstraint(
                condition=Q(scope_kind="platform", scope_value="", tenant=None)
                | Q(scope_kind="tenant", scope_value="", tenant__isnull=False)
                | Q(scope_kind="tenant", scope_value="*", tenant=None)
                | (~Q(scope_kind__in=["platform", "tenant"]) & ~Q(scope_value="")),
                name="limit_value_fits_scope",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title}, {self.id}"

    @property
    def title(self) -> str:
        """As people would say it: Money per month for the tenant."""
        what = self.get_kind_display()
        when = "" if self.period == self.Period.NONE else f" {self.get_period_display()}"
        whose = self.get_scope_kind_display().lower()
        which = f" {self.scope_value}" if self.scope_value else ""
        return f"{what}{when} for {whose}{which}"

    @property
    def shown_amount(self) -> str:
        return shown(self.kind, self.amount)


def shown(kind: str, amount: int) -> str:
    """A figure of this kind for people: dollars or a count."""
    if kind in IN_NANOS:
        dollars = amount / NANOS_PER_DOLLAR
        return f"${dollars:,.2f}" if dollars >= 1 or not amount else f"${dollars:,.6f}"
    return f"{amount:,}"


def is_per_request(kind: str) -> bool:
    return kind in PER_REQUEST


class Counter(models.Model):
    """What one bucket of one limit holds. `settled` follows from the ledger, `reserved` from the
    open holds; `opening` was spent in the period before the limit was made."""

    key = models.CharField(max_length=300, primary_key=True)
    settled = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)
    opening = models.BigIntegerField(default=0)
    # Epoch seconds; from then on nobody asks for the bucket any more.
    ends_at = models.BigIntegerField(db_index=True)

    def __str__(self) -> str:
        return self.key

    @property
    def used(self) -> int:
        return self.settled + self.reserved + self.opening


class CounterState(models.Model):
    """Where counting happens now: one row. Whoever counts holds it shared in the transaction of
    the count; whoever moves the counters holds it alone and gives it a new epoch."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    epoch = models.CharField(max_length=32)
    is_shared_cache = models.BooleanField(default=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="counter_state_one_row")]

    def __str__(self) -> str:
        return f"{'Redis' if self.is_shared_cache else 'database'}, {self.epoch}"


class UsagePolicy(TenantOwned, Versioned):
    """How a tenant's requests reserve and are charged. tenant None = those of every tenant without
    a policy of its own, and with the price list that stands behind each tenant's own list. No row =
    the defaults below."""

    class Reservation(models.TextChoices):
        STRICT = "strict", "The most a request may cost"
        LEARNED = "learned", "What such requests cost lately"
        NONE = "none", "Nothing"

    class Durability(models.TextChoices):
        STRICT = "strict", "On disk before the provider is called"
        RELAXED = "relaxed", "Within a second"

    class Unpriced(models.TextChoices):
        ALLOW = "allow", "Allow and mark"
        REFUSE = "refuse", "Refuse"

    MOST_MARK_UP: ClassVar[int] = 100_000

    tenant = models.ForeignKey(  # type: ignore[assignment]  # wider than the base: may be None
        "tenants.Tenant", on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    reservation = models.CharField(max_length=8, choices=Reservation, default=Reservation.STRICT)
    durability = models.CharField(max_length=8, choices=Durability, default=Durability.STRICT)
    unpriced = models.CharField(
        "models without a price", max_length=8, choices=Unpriced, default=Unpriced.ALLOW
    )
    # Hundredths of a per cent on top of the provider's price: 1500 = 15 %.
    mark_up = models.IntegerField(
        default=0, validators=[MinValueValidator(-10_000), MaxValueValidator(MOST_MARK_UP)]
    )

    # Agreed prices with the moment each begins, as price_lists.py reads them. What was charged
    # stays charged: a change holds for requests that begin after it.
    price_list = models.JSONField(default=list, blank=True)

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"
        verbose_name_plural = "usage policies"
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="usage_policy_one_each"),
            models.UniqueConstraint(
                # NULLs are never equal in an index.
                Coalesce(Cast("tenant", models.CharField(max_length=36)), models.Value("")),
                condition=Q(tenant=None),
                name="usage_policy_one_for_all",
            ),
            models.CheckConstraint(
                condition=Q(mark_up__gte=-10_000), name="usage_policy_never_pays_out"
            ),
        ]

    def __str__(self) -> str:
        return f"usage policy of {self.tenant_id or 'everybody else'}"
