"""Names that clients use instead of a provider's own, and the pools behind them."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q, Value

from controlplane.kit import clock
from controlplane.kit.badges import StateChoices, Tone
from controlplane.kit.models import Row, Versioned
from providers.catalog import validators
from providers.catalog.models import Provider
from providers.routing.strategies import STRATEGIES
from tenants.scope import TenantOwned


class Strategy(models.TextChoices):
    """As in strategies.py."""

    PRIORITY = "priority", "By order and priority, equals take turns"
    WEIGHTED = "weighted", "By weight"
    FILL_FIRST = "fill-first", "The first that is usable"
    CHEAPEST_CAPABLE = "cheapest-capable", "The cheapest that surely can"
    LOWEST_PRICE = "lowest-price", "The cheapest"
    FASTEST = "fastest", "The fastest lately"
    LEAST_BUSY = "least-busy", "The least busy"
    TWO_CHOICES = "two-choices", "The less busy of two drawn"


def valid_strategies(value: Any) -> None:
    if not isinstance(value, list) or not set(map(str, value)) <= set(STRATEGIES):
        raise ValidationError(f"Give a list of these: {', '.join(STRATEGIES)}.")


class Alias(TenantOwned, Versioned):
    """One client-facing name. `tenant` empty = offered to all tenants."""

    shows_platform_rows = True

    tenant = models.ForeignKey(  # type: ignore[assignment]  # the base's cannot be empty
        "tenants.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    name = models.CharField(max_length=255, validators=[validators.valid_name])
    is_enabled = models.BooleanField("enabled", default=True)
    strategy = models.CharField(
        max_length=20,
        choices=Strategy,
        blank=True,
        help_text="How its pool is chosen from. Empty: as the tenant or the platform says.",
    )
    # Answers name the alias instead of the model that served.
    is_reported_as_alias = models.BooleanField(default=False)
    # Of a request with all its attempts; empty = as the operator says for all.
    total_timeout_seconds = models.FloatField(
        null=True, blank=True, validators=[*validators.SECONDS]
    )
    # The bundle that made it; empty = made by a person.
    owned_by = models.CharField(max_length=63, blank=True, editable=False)

    class Meta(TenantOwned.Meta):
        # Two each: SQLite has no NULLS NOT DISTINCT, and Django would leave the constraint out.
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="alias_name_unique"),
            models.UniqueConstraint(
                fields=["name"], condition=Q(tenant=None), name="alias_platform_name_unique"
            ),
        ]
        verbose_name_plural = "aliases"

    def __str__(self) -> str:
        return self.name


class AliasTarget(models.Model):
    """One upstream model of a pool, in order of `position`. No provider = any that has it."""

    tenant_owned_through = "alias"

    alias = models.ForeignKey(Alias, on_delete=models.CASCADE, related_name="targets")
    provider = models.ForeignKey(
        Provider, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    model = models.CharField(max_length=255, validators=[validators.valid_name])
    position = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["alias", "provider", "model"], name="alias_target_unique"
            ),
            models.UniqueConstraint(
                fields=["alias", "model"],
                condition=Q(provider=None),
                name="alias_any_target_unique",
            ),
        ]

    def __str__(self) -> str:
        return self.model


class RoutingPolicy(TenantOwned, Versioned):
    """How a tenant's requests are routed; the row without a tenant holds for all. Empty = as the
    row without a tenant says, and where that says nothing, as RoutingRules does."""

    shows_platform_rows = True

    tenant = models.ForeignKey(  # type: ignore[assignment]  # the base's cannot be empty
        "tenants.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    strategy = models.CharField(max_length=20, choices=Strategy, blank=True)
    # What the header x-route-strategy may ask for; null = not said, empty = everything.
    allowed_strategies = models.JSONField(null=True, blank=True, validators=[valid_strategies])
    is_sticky = models.BooleanField("conversations keep their target", null=True, blank=True)
    shows_route = models.BooleanField("answers name provider and model", null=True, blank=True)

    class Meta(TenantOwned.Meta):
        verbose_name = "routing policy"
        verbose_name_plural = "routing policies"
        # Two: SQLite has no NULLS NOT DISTINCT, and Django would leave the constraint out.
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="routing_policy_unique"),
            models.UniqueConstraint(
                Value(1), condition=Q(tenant=None), name="routing_policy_platform_unique"
            ),
        ]

    def __str__(self) -> str:
        return str(self.tenant_id or "platform")


class ErrorRule(Row):
    """What an answer of this provider means, where the usual judgement is wrong. The first rule
    that fits counts."""

    tenant_owned_through = "provider"

    class Action(models.TextChoices):
        STOP = "stop", "Stop: tell the caller"
        CONTINUE = "continue", "Try the next"
        COOLDOWN = "cooldown", "Try the next and let this one rest"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="error_rules")
    position = models.PositiveIntegerField(default=0)
    # 0 = any.
    status = models.PositiveIntegerField(
        default=0, blank=True, validators=[MinValueValidator(0), MaxValueValidator(599)]
    )
    # Looked for without case in the vendor's code and message. Plain text: a pattern of a
    # tenant's could be made to take for ever.
    contains = models.CharField(max_length=200, blank=True)
    action = models.CharField(max_length=10, choices=Action)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "position"], name="error_rule_position_unique"
            ),
            models.CheckConstraint(
                condition=~Q(status=0) | ~Q(contains=""), name="error_rule_says_when"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.status or 'any'} {self.contains}".strip()


class Resting(Row):
    """A place that rests: what the gateways tell each other, and what an operator may end. Empty
    credential or model = all of them."""

    tenant_owned_through = "provider"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="+")
    credential_id = models.CharField(max_length=36, blank=True)
    model = models.CharField(max_length=255, blank=True)
    outcome = models.CharField(max_length=20)
    since = models.DateTimeField(default=clock.now)
    until = models.DateTimeField()
    is_shut = models.BooleanField(default=False)
    times = models.PositiveIntegerField(default=1)

    class Meta:
        verbose_name = "resting place"
        verbose_name_plural = "resting places"
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "credential_id", "model"], name="resting_place_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.provider_id} {self.model}".strip()


class RouteTrace(TenantOwned):
    """What was decided for one request, and what came of it. No prompt, no answer."""

    class Outcome(StateChoices):
        OK = "ok", Tone.GOOD, "Answered"
        RESCUED = "rescued", Tone.WARN, "Answered by another"
        FAILED = "failed", Tone.BAD, "Failed"
        REFUSED = "refused", Tone.WARN, "Nobody could"
        LEFT = "left", Tone.QUIET, "Caller left"

    request_id = models.CharField(max_length=64)
    at = models.DateTimeField(default=clock.now)
    model = models.CharField(max_length=255)
    strategy = models.CharField(max_length=20, blank=True)
    served_by = models.CharField(max_length=320, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome)
    attempts = models.PositiveIntegerField(default=0)
    # needs, tried, refused: see traces.py.
    decision = models.JSONField(default=dict)

    class Meta(TenantOwned.Meta):
        verbose_name = "decision"
        indexes = [
            models.Index(fields=["tenant", "-at"], name="route_trace_latest"),
            models.Index(fields=["at"], name="route_trace_age"),
            models.Index(fields=["request_id"], name="route_trace_request"),
        ]

    def __str__(self) -> str:
        return self.request_id
