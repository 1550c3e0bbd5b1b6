"""Open holds, the ledger of what was used, and the entries that balance.

The hot path writes these tables with SQL of its own (tenants/usage/writing.py); everybody else
reads them through the scope. History is never changed: a correction is a new event.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from django.db import models
from django.db.models import Q

from controlplane.kit.badges import StateChoices, Tone
from tenants.errors import TenantError
from tenants.scope import TenantOwned, TenantOwnedManager, TenantOwnedQuerySet
from tenants.usage.chain import FORMAT, HASHED, Content, digest


class LedgerAppendOnly(TenantError):
    """Somebody tried to change the ledger: our bug. The database refuses it as well."""

    code = "ledger_append_only"


class MeteringProcess(models.Model):
    """A process that holds: what it holds is freed when it stops saying that it lives."""

    id = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=80)
    # Epoch seconds.
    alive_until = models.BigIntegerField(db_index=True)

    def __str__(self) -> str:
        return self.name


class Hold(TenantOwned):
    """A request on its way: committed before the provider is called, gone once it is settled.

    Without constraints to other tables: it is written with every request, and its rows live for
    as long as the request does."""

    tenant = models.ForeignKey(  # without a constraint; unique constraints and indexes lead by it
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    process = models.ForeignKey(
        MeteringProcess,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="holds",
    )
    # All that a settlement by somebody else needs: see tenants/usage/held.py.
    facts = models.TextField()

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"

    def __str__(self) -> str:
        return f"hold {self.id}"


class UsageEventQuerySet(TenantOwnedQuerySet["UsageEvent"]):
    def update(self, **values: Any) -> NoReturn:
        raise LedgerAppendOnly("Usage events are never changed: record a correction.")

    def delete(self) -> NoReturn:
        raise LedgerAppendOnly("Usage events are never deleted.")


class UsageEventManager(TenantOwnedManager["UsageEvent"]):
    _queryset_class = UsageEventQuerySet  # type: ignore[assignment]  # narrower than the base


class UsageEvent(TenantOwned):
    """One request, or one attempt of it that cost money, or a correction of either.

    A figure that nobody reported is NULL, with our estimate beside it. `created_at` is when the
    hold was taken: it decides the period that the usage belongs to. Times: created ≤ settled."""

    class Entry(StateChoices):
        USAGE = "usage", Tone.GOOD, "Usage"
        # The process died: nobody saw the end of the request.
        PRESUMED = "presumed", Tone.WARN, "Presumed"
        CORRECTION = "correction", Tone.QUIET, "Correction"
        CREDIT = "credit", Tone.QUIET, "Credit"

    class Source(models.TextChoices):
        REPORTED = "reported", "Reported by the provider"
        ESTIMATED = "estimated", "Estimated"

    # No constraint and no cascade: events outlive the tenant.
    tenant = models.ForeignKey(  # without a constraint; unique constraints and indexes lead by it
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    # The place in the tenant's chain, from 1 without gaps.
    sequence = models.BigIntegerField()
    entry = models.CharField(max_length=10, choices=Entry, default=Entry.USAGE)
    request_id = models.CharField(max_length=64)
    # 0 is the request's outcome; others are attempts before it and corrections after it.
    part = models.PositiveSmallIntegerField(default=0)
    settled_at = models.DateTimeField()
    key_id = models.UUIDField(null=True)
    member_id = models.UUIDField(null=True)
    operation = models.CharField(max_length=40, blank=True)
    provider = models.CharField(max_length=80, blank=True)
    credential_id = models.CharField(max_length=40, blank=True)
    credential_label = models.CharField(max_length=120, blank=True)
    model_asked = models.CharField(max_length=200, blank=True)
    model_served = models.CharField(max_length=200, blank=True)
    client_protocol = models.CharField(max_length=40, blank=True)
    upstream_protocol = models.CharField(max_length=40, blank=True)
    # Tokens. The prompt is input + cache_read + cache_write; output includes reasoning.
    input = models.BigIntegerField(null=True)
    cache_read = models.BigIntegerField(null=True)
    cache_write = models.BigIntegerField(null=True)
    output = models.BigIntegerField(null=True)
    reasoning = models.BigIntegerField(null=True)
    audio_input = models.BigIntegerField(null=True)
    audio_output = models.BigIntegerField(null=True)
    image_input = models.BigIntegerField(null=True)
    image_output = models.BigIntegerField(null=True)
    usage_source = models.CharField(max_length=10, choices=Source, default=Source.REPORTED)
    estimated_input = models.BigIntegerField(default=0)
    estimated_output = models.BigIntegerField(default=0)
    # `price`, `reported`, `unpriced`; and which price list.
    price_basis = models.CharField(max_length=16, blank=True)
    price_version = models.CharField(max_length=64, blank=True)
    # What the provider charges and what the tenant is charged, in nano-dollars. NULL = unknown.
    cost_nanos = models.BigIntegerField(null=True)
    charge_nanos = models.BigIntegerField(null=True)
    estimated_nanos = models.BigIntegerField(default=0)
    currency_note = models.CharField(max_length=80, blank=True)
    latency_ms = models.PositiveIntegerField(default=0)
    first_byte_ms = models.PositiveIntegerField(null=True)
    status = models.PositiveSmallIntegerField(default=0)
    error_code = models.CharField(max_length=64, blank=True)
    finish_reason = models.CharField(max_length=40, blank=True)
    is_stream = models.BooleanField(default=False)
    is_interrupted = models.BooleanField(default=False)
    trace_id = models.CharField(max_length=64, blank=True)
    # What was counted where: `limit:subject:bucket=amount`, as JSON. Counters follow from these.
    counted = models.TextField(blank=True)
    # Limits in shadow mode that would have refused it, by id.
    would_refuse = models.CharField(max_length=400, blank=True)
    # Corrections and credits: why, and who.
    reason = models.CharField(max_length=300, blank=True)
    author = models.CharField(max_length=200, blank=True)
    format = models.PositiveSmallIntegerField(default=FORMAT)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    objects: UsageEventManager = UsageEventManager()

    COUNTS: ClassVar[tuple[str, ...]] = (
        *("input", "cache_read", "cache_write", "output", "reasoning"),
        *("audio_input", "audio_output", "image_input", "image_output"),
    )

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "sequence"], name="usage_event_chain_unique"),
            models.UniqueConstraint(fields=["request_id", "part"], name="usage_event_once"),
            models.CheckConstraint(
                condition=Q(entry__in=["correction", "credit"])
                | (
                    (Q(input=None) | Q(input__gte=0))
                    & (Q(output=None) | Q(output__gte=0))
                    & (Q(cost_nanos=None) | Q(cost_nanos__gte=0))
                    & (Q(charge_nanos=None) | Q(charge_nanos__gte=0))
                    & Q(estimated_nanos__gte=0)
                ),
                name="usage_event_never_negative",
            ),
            models.CheckConstraint(
                condition=~Q(entry__in=["correction", "credit"]) | ~Q(reason=""),
                name="usage_event_corrections_say_why",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "created_at"], name="usage_event_tenant_idx"),
            # What went wrong how often is read from it alone; events that went well are not in it.
            models.Index(
                fields=["tenant", "created_at", "provider", "status", "error_code"],
                condition=~Q(error_code=""),
                name="usage_event_failed_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} #{self.sequence}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise LedgerAppendOnly("Usage events are written by tenants.usage.writing alone.")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise LedgerAppendOnly("Usage events are never deleted.")

    def content(self) -> Content:
        return tuple(getattr(self, name) for name in HASHED)

    def expected_hash(self) -> str:
        return digest(self.previous_hash, self.content())


class LedgerHead(TenantOwned):
    """Where a tenant's chain of events ends."""

    tenant = models.ForeignKey(  # without a constraint; unique constraints and indexes lead by it
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    sequence = models.BigIntegerField()
    hash = models.CharField(max_length=64)

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"
        constraints = [models.UniqueConstraint(fields=["tenant"], name="ledger_head_one_each")]

    def __str__(self) -> str:
        return f"{self.tenant_id} at {self.sequence}"


class Posting(TenantOwned):
    """One side of a settlement. The amounts of one event add up to 0."""

    class Account(models.TextChoices):
        SPEND = "spend", "The tenant's spend"
        PROVIDER = "provider", "Owed to a provider"
        MARGIN = "margin", "The platform's margin"
        CREDIT = "credit", "Credits"
        ADJUSTMENT = "adjustment", "Adjustments"

    tenant = models.ForeignKey(  # without a constraint; unique constraints and indexes lead by it
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    event = models.ForeignKey(
        UsageEvent, on_delete=models.DO_NOTHING, db_constraint=False, related_name="postings"
    )
    account = models.CharField(max_length=12, choices=Account)
    # The provider's id for `provider`, else empty.
    party = models.CharField(max_length=80, blank=True)
    amount_nanos = models.BigIntegerField()

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"
        indexes = [models.Index(fields=["tenant", "account"], name="posting_tenant_idx")]

    def __str__(self) -> str:
        return f"{self.account} {self.amount_nanos}"


class Rollup(TenantOwned):
    """Usage by hour or day, added up from events by their place in the chain: reports read this.

    The sums of an hour or day are rows of their own: with many keys and models there are hundreds
    of times as many of the others."""

    class Grain(models.TextChoices):
        HOUR = "hour", "Hour"
        DAY = "day", "Day"
        HOUR_SUM = "hour_sum", "Whole hour"
        DAY_SUM = "day_sum", "Whole day"

    tenant = models.ForeignKey(  # without a constraint; unique constraints and indexes lead by it
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    grain = models.CharField(max_length=8, choices=Grain)
    # Hours are UTC; days are the tenant's own.
    starts_at = models.DateTimeField()
    key_id = models.UUIDField(null=True)
    member_id = models.UUIDField(null=True)
    provider = models.CharField(max_length=80, blank=True)
    model = models.CharField(max_length=200, blank=True)
    # Of the columns above, since NULLs are never equal in an index.
    group = models.CharField(max_length=64)
    requests = models.BigIntegerField(default=0)
    errors = models.BigIntegerField(default=0)
    unknown = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_nanos = models.BigIntegerField(default=0)
    charge_nanos = models.BigIntegerField(default=0)
    estimated_nanos = models.BigIntegerField(default=0)
    # Of a whole day: the last place of the chain that is in it. NULL = not known.
    last_sequence = models.BigIntegerField(null=True)

    objects = TenantOwnedManager()

    FIGURES: ClassVar[tuple[str, ...]] = (
        *("requests", "errors", "unknown", "input_tokens", "output_tokens"),
        *("cost_nanos", "charge_nanos", "estimated_nanos"),
    )

    class Meta:
        base_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "grain", "starts_at", "group"], name="rollup_one_each"
            )
        ]
        indexes = [models.Index(fields=["grain", "starts_at"], name="rollup_time_idx")]

    def __str__(self) -> str:
        return f"{self.grain} {self.starts_at:%Y-%m-%d %H:%M}"


class RollupMark(TenantOwned):
    """Up to which place of a tenant's chain the rollups have counted."""

    tenant = models.ForeignKey(  # without a constraint; unique constraints and indexes lead by it
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    sequence = models.BigIntegerField(default=0)

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"
        constraints = [models.UniqueConstraint(fields=["tenant"], name="rollup_mark_one_each")]

    def __str__(self) -> str:
        return f"{self.tenant_id} up to {self.sequence}"


class LedgerCheckpoint(TenantOwned):
    """Where a tenant's chain goes on after old events were dropped, and what those had summed up
    to. The audit log holds its digest (tenants/usage/retention.py)."""

    tenant = models.ForeignKey(  # without a constraint; unique constraints and indexes lead by it
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    sequence = models.BigIntegerField()
    hash = models.CharField(max_length=64)
    events = models.BigIntegerField(default=0)
    charge_nanos = models.BigIntegerField(default=0)
    # Of counters that are still there: key to amount, as JSON.
    counted = models.TextField(blank=True)
    created_until = models.DateTimeField(null=True)

    objects = TenantOwnedManager()

    class Meta:
        base_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="ledger_checkpoint_one_each")
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id} from {self.sequence}"
