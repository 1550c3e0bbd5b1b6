"""The audit log: one row per change, chained by hash, never changed, never deleted.

For those who show it:

- `AuditEvent.objects` obeys the tenant scope. In a tenant's scope it gives that tenant's
  events; the platform's own (tenant None) and those of deleted tenants show in the platform
  scope only.
- Newest first is `order_by("-created_at", "-sequence")`; within one chain `-sequence` is exact.
- `tenant_slug`, `actor_label` and `target_label` are what things were called at that time.
  `event.tenant` raises DoesNotExist once the tenant is deleted: show `tenant_slug`.
- `changes` pairs before and after, name by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from django.db import models

from controlplane.kit import json
from tenants.audit import actor
from tenants.audit.chain import FORMAT, Content, digest, spell
from tenants.errors import TenantError
from tenants.scope import TenantOwned, TenantOwnedManager, TenantOwnedQuerySet


class AppendOnly(TenantError):
    """Somebody tried to change history: our bug. The database refuses it as well."""

    code = "audit_append_only"


@dataclass(frozen=True, slots=True)
class Change:
    name: str
    before: Any
    after: Any


class AuditEventQuerySet(TenantOwnedQuerySet["AuditEvent"]):
    def update(self, **values: Any) -> NoReturn:
        raise AppendOnly("Audit events are never changed.")

    def delete(self) -> NoReturn:
        raise AppendOnly("Audit events are never deleted.")


class AuditEventManager(TenantOwnedManager["AuditEvent"]):
    _queryset_class = AuditEventQuerySet  # type: ignore[assignment]  # narrower than the base

    def about(self, target: models.Model) -> models.QuerySet[AuditEvent]:
        """What happened to one row."""
        return self.get_queryset().filter(
            target_model=target._meta.label_lower, target_id=str(target.pk)
        )


class AuditEvent(TenantOwned):
    class ActorKind(models.TextChoices):
        USER = actor.Kind.USER.value, "Person"
        KEY = actor.Kind.KEY.value, "API key"
        SYSTEM = actor.Kind.SYSTEM.value, "System"
        COMMAND = actor.Kind.COMMAND.value, "Command line"
        ANONYMOUS = actor.Kind.ANONYMOUS.value, "Not signed in"

    # None = the platform's chain. No constraint and no cascade: events outlive the tenant.
    tenant = models.ForeignKey(  # type: ignore[assignment]  # wider than the base: may be None
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="+",
    )
    tenant_slug = models.CharField(max_length=40, blank=True)
    # The tenant's id or `platform`, and the place in that chain, from 1 without gaps.
    chain = models.CharField(max_length=36)
    sequence = models.BigIntegerField()
    actor_kind = models.CharField("who", max_length=10, choices=ActorKind)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_label = models.CharField(max_length=200, blank=True)
    address = models.CharField(max_length=64, blank=True)
    # Dotted, the thing first, what happened to it in the past tense: `key.revoked`.
    action = models.CharField(max_length=64)
    target_model = models.CharField(max_length=80, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    target_label = models.CharField(max_length=200, blank=True)
    # JSON kept as text: the hash covers these very characters, and a database's own JSON type
    # would respell numbers and refuse NUL.
    before_json = models.TextField(blank=True)
    after_json = models.TextField(blank=True)
    format = models.PositiveSmallIntegerField(default=FORMAT)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    objects: AuditEventManager = AuditEventManager()

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["chain", "sequence"], name="audit_event_chain_unique"),
        ]
        indexes = [
            models.Index(fields=["tenant", "created_at"], name="audit_event_tenant_idx"),
            models.Index(fields=["created_at"], name="audit_event_created_idx"),
            models.Index(fields=["target_model", "target_id"], name="audit_event_target_idx"),
            models.Index(fields=["actor_id", "created_at"], name="audit_event_actor_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.chain} #{self.sequence} {self.action}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly("Audit events are never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnly("Audit events are never deleted.")

    @property
    def before(self) -> dict[str, Any] | None:
        return json.loads_dict(self.before_json) if self.before_json else None

    @property
    def after(self) -> dict[str, Any] | None:
        return json.loads_dict(self.after_json) if self.after_json else None

    @property
    def changes(self) -> list[Change]:
        """Each name of before or after whose value differs, in alphabetical order."""
        before, after = self.before or {}, self.after or {}
        return [
            Change(name, before.get(name), after.get(name))
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ]

    def content(self) -> Content:
        return Content(
            format=self.format,
            chain=self.chain,
            sequence=self.sequence,
            id=str(self.pk),
            at=spell(self.created_at),
            tenant_id="" if self.tenant_id is None else str(self.tenant_id),
            tenant_slug=self.tenant_slug,
            actor_kind=self.actor_kind,
            actor_id=self.actor_id,
            actor_label=self.actor_label,
            address=self.address,
            action=self.action,
            target_model=self.target_model,
            target_id=self.target_id,
            target_label=self.target_label,
            before=self.before_json,
            after=self.after_json,
        )

    def expected_hash(self) -> str:
        return digest(self.previous_hash, self.content())


class AuditHead(models.Model):
    """Where a chain ends. Moved by conditional UPDATE, so that a chain cannot fork."""

    chain = models.CharField(max_length=36, primary_key=True)
    sequence = models.BigIntegerField()
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.chain} at {self.sequence}"
