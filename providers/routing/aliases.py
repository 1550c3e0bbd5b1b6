"""What may be done with aliases. Each action is whole, audited, and seen by every gateway within
a second.

An alias stands for a pool of upstream models, in order. It never stands for another alias of the
same owner, so there are no loops; a tenant's may name one of the platform's.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F

from controlplane.kit import clock
from controlplane.kit.errors import FaultKind
from providers.catalog.models import Provider
from providers.errors import ProviderError
from providers.routing.expectations import guard
from providers.routing.models import Alias, AliasTarget
from tenants.audit.services import record
from tenants.errors import StaleVersion
from tenants.revisions.services import bump

MOST_TARGETS: Final = 50
EDITABLE: Final = (
    "name",
    "is_enabled",
    "strategy",
    "is_reported_as_alias",
    "total_timeout_seconds",
)


class AliasTaken(ProviderError):
    kind = FaultKind.CONFLICT
    code = "alias_taken"


class BadPool(ProviderError):
    """A pool that could not serve: empty, with repeats, in a loop, or of somebody else's."""

    kind = FaultKind.BAD_REQUEST
    code = "bad_pool"


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """`provider` None = any that has the model."""

    model: str
    provider: Provider | None = None

    def __str__(self) -> str:
        return f"{self.provider.slug}/{self.model}" if self.provider is not None else self.model


@transaction.atomic
def create_alias(
    *, name: str, targets: Sequence[PoolEntry], tenant_id: uuid.UUID | None = None, **values: Any
) -> Alias:
    """Raises AliasTaken, BadPool, ValidationError."""
    alias = Alias(name=name, tenant_id=tenant_id, **values)
    alias.full_clean(exclude=["tenant"], validate_unique=False, validate_constraints=False)
    _check_pool(alias, targets)
    _check_name(alias)
    try:
        with transaction.atomic():
            alias.save(force_insert=True)
    except IntegrityError:
        raise AliasTaken(f"There is an alias {name!r} already.", param="name") from None
    _write_pool(alias, targets)
    record(
        tenant_id=tenant_id,
        action="alias.created",
        target=alias,
        after={**_shown(alias), "targets": [str(entry) for entry in targets]},
    )
    guard()
    bump("routes")
    return alias


@transaction.atomic
def change_alias(
    alias: Alias,
    *,
    expected_version: int | None = None,
    targets: Sequence[PoolEntry] | None = None,
    **values: Any,
) -> Alias:
    """Raises StaleVersion and what `create_alias` raises."""
    unknown = sorted(values.keys() - {*EDITABLE, "owned_by"})
    if unknown:
        raise TypeError(f"An alias has no {', '.join(unknown)}.")
    version = alias.version if expected_version is None else expected_version
    before = {**_shown(alias), "targets": [str(entry) for entry in pool_of(alias)]}
    changed = Alias.objects.get(pk=alias.pk)
    for name, value in values.items():
        setattr(changed, name, value)
    changed.full_clean(exclude=["tenant"], validate_unique=False, validate_constraints=False)
    if targets is not None:
        _check_pool(changed, targets)
    if changed.name != alias.name:
        _check_name(changed)
    try:
        with transaction.atomic():
            moved = Alias.objects.filter(pk=alias.pk, version=version).update(
                **{name: getattr(changed, name) for name in (*EDITABLE, "owned_by")},
                version=F("version") + 1,
                updated_at=clock.now(),
            )
    except IntegrityError:
        raise AliasTaken(f"There is an alias {changed.name!r} already.", param="name") from None
    if not moved:
        raise StaleVersion("Somebody else changed this alias: load it again.")
    if targets is not None:
        alias.targets.all().delete()
        _write_pool(alias, targets)
    for name in (*EDITABLE, "owned_by"):
        setattr(alias, name, getattr(changed, name))
    alias.version = version + 1
    getattr(alias, "_prefetched_objects_cache", {}).pop("targets", None)
    after = {**_shown(alias), "targets": [str(entry) for entry in pool_of(alias)]}
    differs = [name for name in before if before[name] != after[name]]
    record(
        tenant_id=alias.tenant_id,
        action="alias.changed",
        target=alias,
        before={name: before[name] for name in differs},
        after={name: after[name] for name in differs},
    )
    guard()
    bump("routes")
    return alias


def enable_alias(alias: Alias, *, is_enabled: bool) -> bool:
    """False: it was so already."""
    if alias.is_enabled == is_enabled:
        return False
    change_alias(alias, is_enabled=is_enabled)
    return True


@transaction.atomic
def remove_alias(alias: Alias) -> None:
    record(
        tenant_id=alias.tenant_id,
        action="alias.removed",
        target=alias,
        before={**_shown(alias), "targets": [str(entry) for entry in pool_of(alias)]},
    )
    alias.delete()
    guard()
    bump("routes")


def pool_of(alias: Alias) -> list[PoolEntry]:
    rows = alias.targets.select_related("provider").order_by("position", "pk")
    return [PoolEntry(row.model, row.provider) for row in rows]


def _shown(alias: Alias) -> dict[str, Any]:
    return {name: getattr(alias, name) for name in EDITABLE}


def _check_pool(alias: Alias, targets: Sequence[PoolEntry]) -> None:
    if not targets:
        raise BadPool("Name at least one model that the alias stands for.", param="targets")
    if len(targets) > MOST_TARGETS:
        raise BadPool(f"A pool holds at most {MOST_TARGETS} models.", param="targets")
    seen: set[tuple[uuid.UUID | None, str]] = set()
    for entry in targets:
        place = (entry.provider.pk if entry.provider is not None else None, entry.model)
        if place in seen:
            raise BadPool(f"{entry} stands twice in the pool.", param="targets")
        seen.add(place)
        AliasTarget(alias=alias, provider=entry.provider, model=entry.model).full_clean(
            exclude=["alias", "provider"], validate_unique=False, validate_constraints=False
        )
        owner = entry.provider.tenant_id if entry.provider is not None else None
        if owner is not None and owner != alias.tenant_id:
            raise BadPool(
                "A pool names registrations of the platform and of the alias's own tenant, no "
                "others.",
                param="targets",
            )
    named = [entry.model for entry in targets if entry.provider is None]
    loop = (
        Alias.objects.filter(tenant_id=alias.tenant_id, name__in=named)
        .exclude(pk=alias.pk)
        .exclude(name=alias.name)
        .first()
    )
    if loop is not None:
        raise BadPool(
            f"{loop.name!r} is an alias itself: name the models it stands for.", param="targets"
        )


def _check_name(alias: Alias) -> None:
    siblings = Alias.objects.filter(tenant_id=alias.tenant_id).exclude(pk=alias.pk)
    users = AliasTarget.objects.filter(provider=None, model=alias.name, alias__in=siblings)
    using = users.select_related("alias").first()
    if using is not None:
        raise BadPool(
            f"The pool of {using.alias.name!r} names {alias.name!r}: name a registration there "
            "first, or choose another name here.",
            param="name",
        )


def _write_pool(alias: Alias, targets: Sequence[PoolEntry]) -> None:
    AliasTarget.objects.bulk_create(
        AliasTarget(alias=alias, provider=entry.provider, model=entry.model, position=position)
        for position, entry in enumerate(targets)
    )
