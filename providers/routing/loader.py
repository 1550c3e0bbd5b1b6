"""Rows to the frozen table of one tenant: the only place where the two meet."""

from __future__ import annotations

import uuid
from typing import Final, Literal

import msgspec
from django.db.models import F, Prefetch, Q

from providers.catalog.effective import Effective, EffectiveModel
from providers.catalog.features import Capability, capabilities, facts_of
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.policy import Policy, policy_of
from providers.catalog.registrations import effective_of
from providers.catalog.settings_shown import limits_of
from providers.credentials.references import is_held, members_of, references
from providers.credentials.resolution import takes_own_key
from providers.errors import ProviderError
from providers.routing import needs
from providers.routing.models import Alias, AliasTarget
from providers.routing.quota import for_model, weight_of
from providers.routing.rules import rules_of
from providers.routing.table import (
    CredentialRef,
    Endpoint,
    ErrorRule,
    ListedModel,
    RouteTable,
    Target,
)
from providers.upstream.client import DEFAULT_TIMEOUTS, Timeouts
from tenants import scope

_ACTIONS: Final[dict[str, Literal["stop", "continue", "cooldown"]]] = {
    "stop": "stop",
    "continue": "continue",
    "cooldown": "cooldown",
}


def load_table(tenant_id: uuid.UUID) -> RouteTable:
    """Everything the tenant may call. A registration that cannot work is left out; the admin
    shows why."""
    # The platform's own rows are needed too (its credentials above all): each query below says
    # itself whose rows it wants.
    mine_or_shared = Q(tenant_id=tenant_id) | Q(tenant__isnull=True) & (
        Q(is_shared_with_all=True) | Q(shares__tenant_id=tenant_id)
    )
    with scope.platform("route table of one tenant"):
        providers = list(
            Provider.objects.filter(mine_or_shared, is_enabled=True)
            .distinct()
            .prefetch_related("models", "mappings", "credentials", "error_rules")
            .order_by("-priority", "slug")
        )
        policy = policy_of(tenant_id)
        rules = rules_of(tenant_id)
        # A tenant's own alias comes last and wins over the platform's of the same name.
        aliases = list(
            Alias.objects.filter(Q(tenant_id=tenant_id) | Q(tenant__isnull=True), is_enabled=True)
            .order_by(F("tenant_id").asc(nulls_first=True))
            .prefetch_related(Prefetch("targets", AliasTarget.objects.order_by("position")))
        )
        members = members_of(tenant_id, providers)
    names = _Names()
    listed: dict[str, ListedModel] = {}
    by_provider: dict[tuple[str, str], Target] = {}
    for provider in providers:
        try:
            settings = effective_of(provider)
        except ProviderError:
            continue
        credentials = references(provider, settings, tenant_id, members)
        needs_credential = settings.scheme.scheme != "none"
        # Without a key of ours it is still there for callers who bring one.
        is_for_own_keys = policy.allows_own_keys and takes_own_key(
            settings.auth_type, settings.scheme
        )
        if (
            not credentials
            and needs_credential
            and not (is_for_own_keys or is_held(provider, tenant_id, members))
        ):
            continue
        file = catalog().get(provider.catalog_id) if provider.catalog_id else None
        limits = limits_of(provider, file)
        known = {model.id: model for model in file.models} if file is not None else {}
        mapped: dict[str, list[str]] = {}
        for mapping in provider.mappings.all():
            mapped.setdefault(mapping.upstream_model, []).append(mapping.client_model)
        for model in settings.models:
            endpoint = _endpoint(provider, settings, model, credentials, limits)
            abilities = capabilities(
                model=facts_of(model, known.get(model.spec.id)),
                provider=settings.features,
                probed=provider.probed_features,
            )
            for name in (*model.names, *mapped.get(model.spec.id, ())):
                target = _target(name, endpoint, model, abilities)
                by_provider.setdefault((str(provider.pk), name), target)
                by_provider.setdefault((str(provider.pk), model.spec.id), target)
                for public in names.add(provider, target, policy):
                    if model.kind == "chat":
                        listed.setdefault(public, _listed(public, provider, model))
    targets = names.resolved()
    for alias in aliases:
        pool: list[Target] = []
        for place, row in enumerate(alias.targets.all()):
            found: tuple[Target | None, ...] = targets.get(row.model, ())
            if row.provider_id is not None:
                found = (by_provider.get((str(row.provider_id), row.model)),)
            pool += [msgspec.structs.replace(one, rank=place) for one in found if one is not None]
        if pool:
            targets[alias.name] = tuple(pool)
            listed[alias.name] = ListedModel(
                id=alias.name,
                owned_by="alias",
                context_window=min(target.spec.context_window for target in pool),
                max_output_tokens=min(target.spec.max_output_tokens for target in pool),
            )
    return RouteTable(
        tenant_id=str(tenant_id),
        targets=targets,
        strategies={
            alias.name: alias.strategy
            for alias in {alias.name: alias for alias in aliases}.values()
            if alias.strategy and alias.name in targets
        },
        total_seconds={
            alias.name: alias.total_timeout_seconds
            for alias in {alias.name: alias for alias in aliases}.values()
            if alias.total_timeout_seconds and alias.name in targets
        },
        policy=msgspec.structs.replace(rules, allows_own_keys=policy.allows_own_keys),
        models=tuple(listed[name] for name in sorted(listed)),
        knows_quotas=any(
            ref.quota_used_up_until
            for target in by_provider.values()
            for ref in target.endpoint.credentials
        ),
        suffix_separators=frozenset(
            target.endpoint.model_suffix_separator
            for target in by_provider.values()
            if target.endpoint.model_suffix_separator
        ),
    )


class _Names:
    """Which names lead where. `slug/model` is that registration's alone, and `prefix/model` of
    those with the prefix, also where somebody else's model id reads the same."""

    def __init__(self) -> None:
        self._by_slug: dict[str, list[Target]] = {}
        self._by_prefix: dict[str, list[Target]] = {}
        self._bare: dict[str, list[Target]] = {}

    def add(self, provider: Provider, target: Target, policy: Policy) -> tuple[str, ...]:
        """`slug/model` always; with a prefix `prefix/model`; bare unless the prefix is forced, by
        the registration, the tenant or the platform. Returns the names."""
        name = target.name
        is_forced = provider.force_model_prefix
        if is_forced is None:
            is_forced = policy.force_model_prefix
        public = [f"{provider.slug}/{name}"]
        self._by_slug.setdefault(public[0], []).append(target)
        if provider.prefix and provider.prefix != provider.slug:
            public.append(f"{provider.prefix}/{name}")
            self._by_prefix.setdefault(public[1], []).append(target)
        if not (provider.prefix and is_forced):
            public.append(name)
            self._bare.setdefault(name, []).append(target)
        return tuple(public)

    def resolved(self) -> dict[str, tuple[Target, ...]]:
        return {
            name: tuple(targets)
            for found in (self._bare, self._by_prefix, self._by_slug)
            for name, targets in found.items()
        }


def _target(
    name: str, endpoint: Endpoint, model: EffectiveModel, abilities: tuple[Capability, ...]
) -> Target:
    has = lacks = 0
    for ability in abilities:
        bit = needs.BITS.get(ability.feature, 0)
        if ability.is_supported:
            has |= bit
        elif ability.is_supported is False:
            lacks |= bit
    return Target(
        name=name,
        endpoint=endpoint,
        spec=model.spec,
        kind=model.kind,
        has=has,
        lacks=lacks,
        price=model.price,
        # Dollars per million tokens are 1,000 nano-dollars per token.
        input_nanos=float(model.price.input) * 1_000 if model.price else -1.0,
        output_nanos=float(model.price.output) * 1_000 if model.price else -1.0,
    )


def _endpoint(
    provider: Provider,
    settings: Effective,
    model: EffectiveModel,
    credentials: tuple[CredentialRef, ...],
    limits: dict[str, int],
) -> Endpoint:
    credentials = tuple(for_model(ref, model.spec.id) for ref in credentials)
    return Endpoint(
        provider_id=str(provider.pk),
        slug=provider.slug,
        kind=settings.kind,
        base_url=model.base_url,
        fallback_base_urls=model.fallback_base_urls,
        auth=model.scheme,
        headers=model.headers,
        has_secret_headers=bool(provider.sealed_header_names),
        owner="tenant" if provider.tenant_id else "platform",
        timeouts=Timeouts(
            connect_seconds=provider.connect_timeout_seconds or DEFAULT_TIMEOUTS.connect_seconds,
            first_byte_seconds=provider.first_byte_timeout_seconds
            or DEFAULT_TIMEOUTS.first_byte_seconds,
            idle_seconds=provider.idle_timeout_seconds or DEFAULT_TIMEOUTS.idle_seconds,
            total_seconds=provider.total_timeout_seconds or DEFAULT_TIMEOUTS.total_seconds,
        ),
        ca_certificate=provider.ca_certificate,
        proxy_url=provider.proxy_url,
        priority=provider.priority,
        weight=provider.weight,
        cooldown_seconds=settings.cooldown_seconds,
        model_suffix_separator=settings.model_suffix_separator,
        credentials=credentials,
        takes_own_key=takes_own_key(settings.auth_type, model.scheme),
        is_locked_out=not credentials and settings.scheme.scheme != "none",
        limits=tuple(sorted((name, most) for name, most in provider.limits.items() if most)),
        has_files=settings.features.get("files", False),
        has_batches=settings.features.get("batches", False),
        most_parallel=provider.limits.get("parallel") or 0,
        max_request_bytes=limits.get("max_request_bytes", 0),
        max_images_per_request=limits.get("max_images_per_request", 0),
        has_weighted_credentials=len({weight_of(ref) for ref in credentials}) > 1,
        rules=tuple(
            ErrorRule(
                action=_ACTIONS[rule.action], status=rule.status, contains=rule.contains.lower()
            )
            for rule in sorted(provider.error_rules.all(), key=lambda rule: rule.position)
        ),
    )


def _listed(name: str, provider: Provider, model: EffectiveModel) -> ListedModel:
    return ListedModel(
        id=name,
        owned_by=provider.slug,
        display_name=model.display_name,
        created=int(provider.created_at.timestamp()),
        context_window=model.spec.context_window,
        max_output_tokens=model.spec.max_output_tokens,
    )
