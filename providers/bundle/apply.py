"""A bundle becomes the registry: all of it or nothing.

`plan` does what `apply` does, through the same services, and takes it back: the two cannot
disagree. What people made is left alone unless the bundle names it; what a bundle of this name
made and no longer names is taken away; applying twice changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from msgspec import UNSET

from controlplane.kit.errors import GatewayError
from providers.bundle import secrets as bundle_secrets
from providers.bundle.credentials import Credentials
from providers.bundle.document import AliasEntry, Bundle, PolicyEntry, ProviderEntry
from providers.bundle.models import Models
from providers.bundle.notes import Notes
from providers.bundle.plan import BundleRefused, Plan
from providers.bundle.registrations import Registrations
from providers.bundle.secrets import Place, Secrets
from providers.catalog.models import Provider
from providers.catalog.policy import EDITABLE as POLICY_FIELDS
from providers.catalog.policy import own_policy, set_policy
from providers.catalog.services import remove
from providers.routing import aliases as alias_services
from providers.routing import expectations
from providers.routing import policy as routing_policy
from providers.routing.aliases import PoolEntry
from providers.routing.models import Alias
from providers.routing.rules import EDITABLE as ROUTING_FIELDS
from tenants import scope
from tenants.audit.services import record
from tenants.members.models import Tenant
from tenants.members.services import create_tenant

_MOST_IN_AUDIT = 200


def plan(bundle: Bundle, *, secrets: Secrets = bundle_secrets.NONE) -> Plan:
    """What `apply` would do. Writes nothing."""
    with scope.platform("plan a registry bundle"), transaction.atomic():
        found = _run(bundle, secrets)
        transaction.set_rollback(True)
    return found


def apply(bundle: Bundle, *, secrets: Secrets = bundle_secrets.NONE) -> Plan:
    """Raises BundleRefused, and then has written nothing. The caller says who acts."""
    with scope.platform("apply a registry bundle"), transaction.atomic():
        done = _run(bundle, secrets)
        if done.problems:
            raise BundleRefused(done)
        if done.steps:
            record(
                tenant_id=None,
                action="registry.applied",
                target=None,
                after={
                    "bundle": bundle.name,
                    "steps": [str(step) for step in done.steps[:_MOST_IN_AUDIT]],
                    "count": len(done.steps),
                },
            )
    return done


def _run(bundle: Bundle, secrets: Secrets) -> Plan:
    notes = Notes()
    try:
        with expectations.at_the_end():
            _Work(bundle, secrets, notes).run()
    except expectations.ExpectationsBroken as error:
        notes.problem(error.message)
    return Plan(
        name=bundle.name,
        steps=tuple(notes.steps),
        notes=tuple(notes.notes),
        problems=tuple(notes.problems),
    )


def shown(tenant: str, name: str) -> str:
    """As people write it: `claude`, or of a tenant `acme:claude`."""
    return f"{tenant}:{name}" if tenant else name


class _Work:
    def __init__(self, bundle: Bundle, secrets: Secrets, notes: Notes) -> None:
        self.bundle = bundle
        self.secrets = secrets
        self.notes = notes
        self.tenants: dict[str, Tenant] = {}
        self.providers: dict[Place, Provider] = {}
        self.registrations = Registrations(bundle.name, secrets, notes)
        self.credentials = Credentials(secrets, notes)
        self.models = Models(bundle.name, secrets, notes)

    def run(self) -> None:
        self._tenants()
        self._read_providers()
        for policy in self.bundle.policies:
            with self._attempt("policy", policy.tenant, policy.tenant or "platform"):
                self._policy(policy)
        # Names that are no longer meant are free again before others ask for them.
        self._remove_aliases()
        for entry in self.bundle.providers:
            with self._attempt("registration", entry.tenant, entry.slug):
                self._provider(entry)
        for alias in self.bundle.aliases:
            with self._attempt("alias", alias.tenant, alias.name):
                self._alias(alias)
        self._remove_providers()
        self._unused_secrets()

    # --- who ---------------------------------------------------------------------------------

    def _tenants(self) -> None:
        self.tenants = {tenant.slug: tenant for tenant in Tenant.objects.all()}
        for slug, name in self.bundle.tenants.items():
            if slug in self.tenants:
                continue
            with self._catching(f"tenant {slug}"):
                self.tenants[slug] = create_tenant(slug=slug, name=name)
                self.notes.step("create", "tenant", slug, after={"name": name})

    def _tenant(self, slug: str) -> Tenant:
        found = self.tenants.get(slug)
        if found is None:
            raise ValidationError(
                f"There is no tenant {slug[:63]!r}: name it under `tenants` to have it made."
            )
        return found

    def _tenant_id(self, slug: str) -> uuid.UUID | None:
        return self._tenant(slug).pk if slug else None

    def _slug_of(self, tenant_id: uuid.UUID | None) -> str:
        if tenant_id is None:
            return ""
        return next(slug for slug, tenant in self.tenants.items() if tenant.pk == tenant_id)

    # --- what ---------------------------------------------------------------------------------

    def _read_providers(self) -> None:
        for row in Provider.objects.all():
            self.providers[self._slug_of(row.tenant_id), row.slug] = row

    def _policy(self, entry: PolicyEntry) -> None:
        name = entry.tenant or "platform"
        row = own_policy(self._tenant_id(entry.tenant))
        wanted = {field: getattr(entry, field) for field in POLICY_FIELDS}
        before = _differing(row, wanted)
        if before:
            set_policy(row, **{field: wanted[field] for field in before})
            self.notes.step("change", "policy", name, before=before, after=wanted)
        routing = routing_policy.own_policy(self._tenant_id(entry.tenant))
        said = {
            field: value
            for field in ROUTING_FIELDS
            if (value := getattr(entry, field)) is not UNSET
        }
        before = _differing(routing, said)
        if before:
            routing_policy.set_policy(routing, **{field: said[field] for field in before})
            self.notes.step("change", "routing policy", name, before=before, after=said)

    def _provider(self, entry: ProviderEntry) -> None:
        place = (entry.tenant, entry.slug)
        tenant_id = self._tenant_id(entry.tenant)
        row = self.registrations.settle(entry, self.providers.get(place), tenant_id)
        self.providers[place] = row
        if tenant_id is None:
            self.registrations.share(
                entry, row, [self._tenant(slug) for slug in entry.shared_with or ()]
            )
        self.credentials.settle(entry, row)
        self.models.settle(entry, row)

    def _alias(self, entry: AliasEntry) -> None:
        tenant_id = self._tenant_id(entry.tenant)
        wanted = [self._target(entry, target) for target in entry.targets]
        values: dict[str, Any] = {
            "is_enabled": entry.is_enabled,
            "strategy": entry.strategy,
            "is_reported_as_alias": entry.is_reported_as_alias,
            "total_timeout_seconds": entry.total_timeout_seconds,
        }
        if self.bundle.name:
            values["owned_by"] = self.bundle.name
        pool = [str(target) for target in wanted]
        row: Alias | None = Alias.objects.filter(tenant_id=tenant_id, name=entry.name).first()
        name = shown(entry.tenant, entry.name)
        if row is None:
            alias_services.create_alias(
                name=entry.name, tenant_id=tenant_id, targets=wanted, **values
            )
            self.notes.step("create", "alias", name, after={**values, "targets": pool})
            return
        self.notes.refuse_others("alias", row.owned_by, self.bundle.name)
        current = alias_services.pool_of(row)
        before = {field: getattr(row, field) for field in values}
        before = {field: value for field, value in before.items() if value != values[field]}
        is_other_pool = _places(current) != _places(wanted)
        if is_other_pool:
            before["targets"] = [str(target) for target in current]
        if before:
            alias_services.change_alias(row, targets=wanted if is_other_pool else None, **values)
            self.notes.step(
                "change", "alias", name, before=before, after={**values, "targets": pool}
            )

    def _target(self, entry: AliasEntry, target: Any) -> PoolEntry:
        if not target.provider:
            return PoolEntry(target.model)
        own = self.providers.get((entry.tenant, target.provider))
        if own is None or target.owner == "platform":
            own = self.providers.get(("", target.provider))
        if own is None:
            raise ValidationError(f"There is no registration {target.provider[:63]!r}.")
        return PoolEntry(target.model, own)

    def _remove_aliases(self) -> None:
        if not self.bundle.name:
            return
        named = {(entry.tenant, entry.name) for entry in self.bundle.aliases}
        for row in Alias.objects.filter(owned_by=self.bundle.name).order_by("name", "pk"):
            tenant = self._slug_of(row.tenant_id)
            if (tenant, row.name) not in named:
                with self._attempt("alias", tenant, row.name):
                    alias_services.remove_alias(row)
                    self.notes.step("remove", "alias", shown(tenant, row.name))

    def _remove_providers(self) -> None:
        if not self.bundle.name:
            return
        named = {(entry.tenant, entry.slug) for entry in self.bundle.providers}
        for (tenant, slug), row in sorted(self.providers.items()):
            if row.owned_by == self.bundle.name and (tenant, slug) not in named:
                with self._attempt("registration", tenant, slug):
                    count = row.credentials.count()
                    remove(row)
                    del self.providers[tenant, slug]
                    self.notes.step(
                        "remove", "registration", shown(tenant, slug), before={"credentials": count}
                    )

    def _unused_secrets(self) -> None:
        """A secret under a mistyped name would be lost without a word."""
        for place, label in self.secrets.keys:
            row = self.providers.get(place)
            if row is None or not row.credentials.filter(label=label).exists():
                self._not_used(f"{shown(*place)}/{label}", "There is no such credential")
        for place in self.secrets.headers:
            if place not in self.providers:
                self._not_used(shown(*place), "There is no such registration")

    def _not_used(self, place: str, reason: str) -> None:
        with self.notes.about(f"secret {place}"):
            self.notes.note(f"{reason}: the secret was not used.")

    # --- how ---------------------------------------------------------------------------------

    @contextmanager
    def _attempt(self, what: str, tenant: str, name: str) -> Iterator[None]:
        """Everything about one row, in the scope of its owner."""
        known = self.tenants.get(tenant)
        where: AbstractContextManager[None] = (
            scope.tenant(known.pk) if known is not None else scope.platform("registry bundle")
        )
        with self._catching(f"{what} {shown(tenant, name)}"), where:
            yield

    @contextmanager
    def _catching(self, place: str) -> Iterator[None]:
        """A problem is kept and the next row tried: a person wants to hear of all at once."""
        with self.notes.about(place):
            try:
                with transaction.atomic():
                    yield
            except ValidationError as error:
                self.notes.problem(sentence_of(error))
            except GatewayError as error:
                self.notes.problem(error.message)


def _differing(row: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {field: getattr(row, field) for field in wanted if getattr(row, field) != wanted[field]}


def sentence_of(error: ValidationError) -> str:
    if hasattr(error, "error_dict"):
        by_field: Mapping[str, list[str]] = error.message_dict
        return " ".join(f"{name}: {' '.join(said)}" for name, said in by_field.items())
    return " ".join(error.messages)


def _places(pool: list[PoolEntry]) -> list[tuple[Any, str]]:
    return [(entry.provider.pk if entry.provider else None, entry.model) for entry in pool]
