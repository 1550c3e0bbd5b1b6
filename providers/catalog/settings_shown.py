"""The settings of a registration as people read them: each value with the layer that decided it,
and the bundle that would set it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from providers.catalog.effective import Effective, EffectiveModel, Origin
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.registrations import effective_of
from providers.catalog.schema import ProviderFile
from providers.errors import ProviderError

# What only a registration says: its own value, or the default of the field.
_OWN: Final = (
    "prefix",
    "force_model_prefix",
    "priority",
    "weight",
    "excluded_models",
    "default_context_window",
    "default_max_output_tokens",
    "store_responses",
    "passes_unknown_models",
    "proxy_url",
    "connect_timeout_seconds",
    "first_byte_timeout_seconds",
    "idle_timeout_seconds",
    "total_timeout_seconds",
)
_MODEL_PLACES: Final = ("context_window", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class Setting:
    """`owner` = the bundle that set it; "" = a person, or nobody."""

    name: str
    value: Any
    origin: Origin
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ShownModel:
    id: str
    names: tuple[str, ...]
    display_name: str
    kind: str
    protocol: str
    context_window: int
    max_output_tokens: int
    origins: dict[str, Origin]


@dataclass(frozen=True, slots=True)
class Shown:
    """`problem` = why the registration cannot work; then there is nothing else."""

    problem: str = ""
    settings: tuple[Setting, ...] = ()
    models: tuple[ShownModel, ...] = ()


def settings_of(provider: Provider) -> Shown:
    file = catalog().get(provider.catalog_id) if provider.catalog_id else None
    try:
        effective = effective_of(provider)
    except ProviderError as error:
        return Shown(problem=error.message)
    return Shown(
        settings=tuple(_settings(provider, effective, file)),
        models=tuple(_model(model, effective) for model in effective.models),
    )


def limits_of(provider: Provider, file: ProviderFile | None) -> dict[str, int]:
    """The registration's limits over the catalog's; 0 = none known."""
    below: dict[str, int] = {}
    if file is not None:
        below = {name: getattr(file.limits, name) for name in file.limits.__struct_fields__}
    return {name: value for name, value in {**below, **provider.limits}.items() if value}


def _settings(provider: Provider, effective: Effective, file: ProviderFile | None) -> list[Setting]:
    owner: Origin = "tenant" if provider.tenant_id else "platform"
    owners = provider.owned_fields
    out: list[Setting] = []

    def add(name: str, value: Any, origin: Origin, field: str = "") -> None:
        out.append(Setting(name, value, origin, str(owners.get(field or name, ""))))

    for name in ("protocol", "base_url", "auth_type"):
        add(name, getattr(effective, name), effective.origins[name])
    declared = file.auth.identifiers if file is not None else {}
    defaults = {name: known.default for name, known in declared.items() if known.default}
    constants = {**defaults, **(file.endpoint if file is not None else {})}
    for name, value in {**constants, **provider.endpoint}.items():
        own = bool(provider.endpoint.get(name))
        shown = value if own else constants.get(name, "")
        add(f"endpoint.{name}", shown, owner if own else "catalog", "endpoint")
    for name, value in effective.headers.items():
        origin = effective.origins.get(f"headers.{name.lower()}", owner)
        add(f"headers.{name}", value, origin, "headers")
    for name in provider.sealed_header_names:
        add(f"headers.{name}", "sealed", owner, "headers")
    for name, is_supported in effective.features.items():
        add(f"features.{name}", is_supported, effective.origins[f"features.{name}"], "features")
    own_limits = provider.limits
    for name, number in limits_of(provider, file).items():
        add(f"limits.{name}", number, owner if name in own_limits else "catalog", "limits")
    add("cooldown_seconds", effective.cooldown_seconds, effective.origins["cooldown_seconds"])
    for name, value in {**(file.quirks if file is not None else {}), **provider.quirks}.items():
        add(f"quirks.{name}", value, owner if name in provider.quirks else "catalog", "quirks")
    columns = {field.name: field for field in Provider._meta.concrete_fields}
    for name in _OWN:
        value = getattr(provider, name)
        add(name, value, "default" if value == columns[name].get_default() else owner)
    add(
        "ca_certificate",
        bool(provider.ca_certificate),
        owner if provider.ca_certificate else "default",
    )
    return out


def _model(model: EffectiveModel, effective: Effective) -> ShownModel:
    place = f"models.{model.spec.id}"
    return ShownModel(
        id=model.spec.id,
        names=model.names,
        display_name=model.display_name,
        kind=model.kind,
        protocol=model.spec.protocol,
        context_window=model.spec.context_window,
        max_output_tokens=model.spec.max_output_tokens,
        origins={
            name: effective.origins[f"{place}.{name}"]
            for name in _MODEL_PLACES
            if f"{place}.{name}" in effective.origins
        },
    )
