"""Alerts, who receives them, and how each delivery went.

An alert is one row, made once per subject and period. Each delivery of it is a row of its own,
and due until it arrived or is given up.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from controlplane.kit.badges import StateChoices, Tone
from controlplane.kit.models import Versioned
from tenants.alerts.kinds import AlertKind
from tenants.scope import TenantOwned, TenantOwnedManager
from tenants.vault.fields import SealedField


class Channel(models.TextChoices):
    EMAIL = "email", "E-mail"
    WEBHOOK = "webhook", "Webhook"


class Alert(TenantOwned):
    """tenant None = the platform's own. Facts are what a program reads; never a secret."""

    tenant = models.ForeignKey(  # type: ignore[assignment]  # wider than the base: may be None
        "tenants.Tenant", on_delete=models.CASCADE, null=True, related_name="+"
    )
    kind = models.CharField(max_length=16, choices=AlertKind.choices)
    # What it is about and in which period: a second alert of the same kind and key is none.
    key = models.CharField(max_length=400)
    title = models.CharField(max_length=200)
    text = models.TextField()
    facts = models.JSONField(default=dict)
    # Whom it concerns besides those who receive alerts: the owner of a login.
    person = models.ForeignKey(
        "tenants.User", null=True, on_delete=models.SET_NULL, related_name="+"
    )

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"
        constraints = [models.UniqueConstraint(fields=["kind", "key"], name="alert_once")]
        indexes = [models.Index(fields=["created_at"], name="alert_age")]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class AlertReceiver(TenantOwned, Versioned):
    """Where alerts go. tenant None = the platform's own."""

    tenant = models.ForeignKey(  # type: ignore[assignment]  # wider than the base: may be None
        "tenants.Tenant", on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    label = models.CharField("name", max_length=120)
    channel = models.CharField(max_length=8, choices=Channel)
    # An e-mail address, empty for the admins and owners (of the platform: its staff); or a URL.
    address = models.CharField(max_length=500, blank=True)
    # Values of AlertKind; empty = all.
    kinds = models.JSONField(default=list, blank=True)
    is_on = models.BooleanField("switched on", default=True)
    off_reason = models.CharField(max_length=300, blank=True, editable=False)
    sealed_secret = SealedField(null=True, blank=True)
    fingerprint = models.CharField(max_length=32, blank=True, editable=False)
    # The secret before, which signs too until then.
    sealed_previous = SealedField(null=True, blank=True)
    previous_until = models.DateTimeField(null=True, blank=True, editable=False)
    # Since when nothing has arrived. None = the last delivery did.
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    last_error = models.CharField(max_length=300, blank=True, editable=False)
    last_sent_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = "alert receiver"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "label"], name="alert_receiver_unique"),
            # NULLs count as different above.
            models.UniqueConstraint(
                fields=["label"], condition=Q(tenant=None), name="alert_receiver_unique_platform"
            ),
            models.CheckConstraint(
                condition=~Q(channel="webhook") | (~Q(address="") & Q(sealed_secret__isnull=False)),
                name="alert_webhook_is_signed",
            ),
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def shown_address(self) -> str:
        if self.address:
            return self.address
        return "its admins and owners" if self.tenant_id else "platform staff"


class AlertDelivery(TenantOwned):
    """One alert on its way to one receiver. A webhook's receiver tells repeats by its id."""

    class State(StateChoices):
        WAITING = "waiting", Tone.INFO, "On its way"
        SENT = "sent", Tone.GOOD, "Delivered"
        GIVEN_UP = "given_up", Tone.BAD, "Given up"

    tenant = models.ForeignKey(  # type: ignore[assignment]  # wider than the base: may be None
        "tenants.Tenant", on_delete=models.CASCADE, null=True, related_name="+"
    )
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="deliveries")
    # None = the letter that goes out where no e-mail receiver was ever made.
    receiver = models.ForeignKey(
        AlertReceiver, null=True, on_delete=models.CASCADE, related_name="deliveries"
    )
    channel = models.CharField(max_length=8, choices=Channel)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    due_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"
        verbose_name_plural = "alert deliveries"
        constraints = [
            models.CheckConstraint(
                condition=Q(state="sent", sent_at__isnull=False)
                | (~Q(state="sent") & Q(sent_at=None)),
                name="alert_delivery_sent_has_time",
            )
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state="waiting"), name="alert_delivery_due")
        ]

    def __str__(self) -> str:
        return f"{self.channel} delivery {self.id}"
