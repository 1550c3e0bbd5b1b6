"""What one tenant may use, as it is told: registrations, the names their models answer to, what
they can do. Read from the very table that requests are routed by."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from controlplane.kit.json import JSONDict
from providers.catalog.effective import Effective, EffectiveModel
from providers.catalog.features import Capability, capabilities, facts_of
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.policy import policy_of
from providers.catalog.registrations import effective_of
from providers.catalog.schema import Model
from providers.errors import ProviderError
from providers.routing.loader import load_table
from providers.routing.table import RouteTable
from tenants import scope

Allows = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class UsableModel:
    """`names` = what clients may call it, aliases and prefixes applied; empty = not now."""

    model: EffectiveModel
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Serving:
    """One way in which a name is served."""

    provider: Provider
    model: EffectiveModel
    capabilities: tuple[Capability, ...]


def settings_or_problem(provider: Provider) -> tuple[Effective | None, str]:
    try:
        return effective_of(provider), ""
    except ProviderError as error:
        return None, error.message


def table_of(tenant_id: uuid.UUID) -> RouteTable:
    return load_table(tenant_id)


def models_of(
    provider: Provider, settings: Effective, table: RouteTable, allows: Allows
) -> list[UsableModel]:
    """The registration's models that the key may use under some name; all of them, nameless, while
    the registration takes no requests."""
    names: dict[str, list[str]] = {}
    is_serving = False
    for name, targets in table.targets.items():
        for target in targets:
            if target.endpoint.provider_id == str(provider.pk):
                is_serving = True
                if allows(name):
                    names.setdefault(target.spec.id, []).append(name)
                break
    return [
        UsableModel(model, tuple(sorted(names.get(model.spec.id, ()))))
        for model in settings.models
        if not is_serving or model.spec.id in names
    ]


def servings(name: str, table: RouteTable, providers: Iterable[Provider]) -> list[Serving]:
    """Who serves a name, best first. Empty = nobody."""
    by_id = {str(provider.pk): provider for provider in providers}
    out: list[Serving] = []
    merged: dict[str, Effective | None] = {}
    for target in table.targets.get(name, ()):
        provider = by_id.get(target.endpoint.provider_id)
        if provider is None:
            continue
        if target.endpoint.provider_id not in merged:
            merged[target.endpoint.provider_id] = settings_or_problem(provider)[0]
        settings = merged[target.endpoint.provider_id]
        model = (
            next((model for model in settings.models if model.spec.id == target.spec.id), None)
            if settings is not None
            else None
        )
        if settings is not None and model is not None:
            out.append(Serving(provider, model, capabilities_of(provider, settings, model)))
    return out


def capabilities_of(
    provider: Provider, settings: Effective, model: EffectiveModel | None
) -> tuple[Capability, ...]:
    """Of a model, or without one of the provider as a whole."""
    facts = {} if model is None else facts_of(model, catalogued(provider, model.spec.id))
    return capabilities(model=facts, provider=settings.features, probed=provider.probed_features)


def catalogued(provider: Provider, model: str) -> Model | None:
    file = catalog().get(provider.catalog_id) if provider.catalog_id else None
    if file is None:
        return None
    return next((known for known in file.models if known.id == model), None)


def price_shown(
    model: EffectiveModel, provider: Provider, *, shows_prices: bool
) -> JSONDict | None:
    """US dollars per million tokens, as text. None = unknown, or not the tenant's to know."""
    if model.price is None or (provider.tenant_id is None and not shows_prices):
        return None
    price: JSONDict = msgspec.to_builtins(model.price)
    return {name: value for name, value in price.items() if value not in ("", [], {})}


def shows_prices_to(tenant_id: uuid.UUID) -> bool:
    """Whether the tenant reads prices of the platform's registrations."""
    with scope.platform("registry policy of a tenant"):
        return policy_of(tenant_id).shows_prices
