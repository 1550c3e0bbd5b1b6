"""Catalog file + registration = what is used, each value with where it came from. Pure.

Semantics of registerProvider: a known id hydrates from the catalog and the registration is
layered on top (headers merged per key, the registration wins; per-model values over provider
defaults over the catalog over 0 = unknown). Each registration replaces the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict
from providers.catalog.reading import with_facts
from providers.catalog.schema import (
    CatalogError,
    Identifier,
    Model,
    Price,
    ProviderFile,
    price_of,
)
from providers.catalog.urls import endpoint_of, fill
from providers.errors import ProviderError
from providers.protocols.canonical import ModelSpec
from providers.protocols.quirks import Quirks
from providers.signing.schemes import AuthScheme

Origin = Literal["catalog", "platform", "tenant", "default"]


class ProviderRegistrationError(ProviderError):
    """A registration that cannot work; the message says what is missing."""

    kind = FaultKind.BAD_REQUEST
    code = "provider_registration"


class ModelChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a registration says of one model. None = as the layer below says."""

    upstream_id: str
    alias: str = ""
    display_name: str = ""
    is_enabled: bool = True
    protocol: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    supports_functions: bool | None = None
    supports_streaming: bool | None = None
    facts: JSONDict = {}


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """The registration's own values; empty = as the catalog says."""

    slug: str
    catalog_id: str = ""
    owner: Literal["platform", "tenant"] = "platform"
    protocol: str = ""
    base_url: str = ""
    auth_type: str = ""
    endpoint: dict[str, str] = {}
    headers: dict[str, str] = {}
    quirks: JSONDict = {}
    features: dict[str, bool] = {}
    excluded_models: tuple[str, ...] = ()
    default_context_window: int = 0
    default_max_output_tokens: int = 0
    cooldown_seconds: int | None = None
    store_responses: bool = False
    passes_unknown_models: bool = False
    models: tuple[ModelChange, ...] = ()


class EffectiveModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model as it will be called. `names` = what clients may call it, without prefixes."""

    spec: ModelSpec
    base_url: str
    # The same before its blanks were filled: a credential may fill them otherwise.
    url_template: str = ""
    # Where else to ask, in order, where that is away or lets nobody in.
    fallback_base_urls: tuple[str, ...] = ()
    scheme: AuthScheme
    headers: dict[str, str]
    names: tuple[str, ...]
    display_name: str = ""
    kind: str = "chat"
    functions: bool = True
    streaming: bool = True
    price: Price | None = None
    features: tuple[str, ...] = ()


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """`origins` maps a dotted place (`base_url`, `headers.x-a`, `models.m.context_window`) to
    the layer that decided it."""

    slug: str
    kind: str
    protocol: str
    base_url: str
    scheme: AuthScheme
    auth_type: str
    env: tuple[str, ...]
    headers: dict[str, str]
    features: dict[str, bool]
    cooldown_seconds: int
    models: tuple[EffectiveModel, ...]
    # `known+anything` is called with the facts of `known`; empty = no such names.
    model_suffix_separator: str = ""
    origins: dict[str, Origin]


def effective(registration: Registration, file: ProviderFile | None) -> Effective:
    """Raises ProviderRegistrationError or IdentifierError in one sentence."""
    if file is None:
        missing = [name for name in ("protocol", "base_url") if not getattr(registration, name)]
        if missing:
            raise ProviderRegistrationError(
                f"{registration.slug!r} is not in the catalog: give {' and '.join(missing)}.",
                param=missing[0],
            )
    elif file.refused_at_runtime:
        raise ProviderRegistrationError(f"{registration.slug!r}: {file.refused_at_runtime}")
    owner: Origin = registration.owner
    origins: dict[str, Origin] = {}

    def pick(name: str, own: Any, below: Any) -> Any:
        origins[name] = owner if own else ("catalog" if below else "default")
        return own or below

    protocol: str = pick("protocol", registration.protocol, file.protocol if file else "")
    raw_url: str = pick("base_url", registration.base_url, file.base_url if file else "")
    auth_type: str = pick(
        "auth_type", registration.auth_type, file.auth.type if file else "api_key"
    )
    features: dict[str, bool] = {}
    for feature in file.features if file else ():
        features[feature] = True
        origins[f"features.{feature}"] = "catalog"
    for name, value in registration.features.items():
        features[name] = value
        origins[f"features.{name}"] = owner
    identifiers = file.auth.identifiers if file else {}
    endpoint = endpoint_of(identifiers, file.endpoint if file else {}, registration.endpoint)
    headers = _merged_headers(
        _catalog_headers(file, endpoint, auth_type), registration.headers, origins, owner
    )
    cooldown = registration.cooldown_seconds
    if cooldown is None:
        cooldown = file.cooldown_seconds if file else 30
        origins["cooldown_seconds"] = "catalog" if file else "default"
    else:
        origins["cooldown_seconds"] = owner
    models = _models(registration, file, protocol, raw_url, headers, auth_type, origins)
    return Effective(
        slug=registration.slug,
        kind=file.kind if file else "custom",
        protocol=protocol,
        base_url=fill(raw_url, identifiers, endpoint),
        scheme=_scheme(file, protocol, auth_type),
        auth_type=auth_type,
        env=_env(file, auth_type),
        headers=headers,
        features=features,
        cooldown_seconds=cooldown,
        models=models,
        model_suffix_separator=file.model_suffix_separator if file else "",
        origins=origins,
    )


def is_excluded(model: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model.lower(), pattern.lower()) for pattern in patterns)


def _scheme(file: ProviderFile | None, protocol: str, auth_type: str) -> AuthScheme:
    if file is None:
        return AuthScheme(scheme="none") if auth_type == "none" else AuthScheme()
    for name, alternative in file.auth.alternatives.items():
        if name == auth_type:
            return alternative.scheme
    wire = file.protocols.get(protocol)
    return wire.scheme if wire is not None and wire.scheme is not None else file.auth.scheme


def _env(file: ProviderFile | None, auth_type: str) -> tuple[str, ...]:
    if file is None:
        return ()
    for name, alternative in file.auth.alternatives.items():
        if name == auth_type:
            return alternative.env
    return file.auth.env


def _catalog_headers(
    file: ProviderFile | None, endpoint: Mapping[str, str], auth_type: str
) -> dict[str, str]:
    if file is None:
        return {}
    mode = file.auth.upstream.get(endpoint.get("upstream_auth", ""))
    found = {**file.headers, **(mode.headers if mode else {})}
    for name, alternative in file.auth.alternatives.items():
        if name == auth_type:
            found |= alternative.headers
    return found


def _merged_headers(
    below: Mapping[str, str], own: Mapping[str, str], origins: dict[str, Origin], owner: Origin
) -> dict[str, str]:
    """Names compare without case; the registration's spelling and value win."""
    merged = {name.lower(): (name, value) for name, value in below.items()}
    for name in below:
        origins[f"headers.{name.lower()}"] = "catalog"
    for name, value in own.items():
        merged[name.lower()] = (name, value)
        origins[f"headers.{name.lower()}"] = owner
    return dict(merged.values())


def _models(
    registration: Registration,
    file: ProviderFile | None,
    protocol: str,
    base_url: str,
    headers: dict[str, str],
    auth_type: str,
    origins: dict[str, Origin],
) -> tuple[EffectiveModel, ...]:
    known: dict[str, Model] = {model.id: model for model in (file.models if file else ())}
    changes: dict[str, list[ModelChange]] = {}
    for change in registration.models:
        changes.setdefault(change.upstream_id, []).append(change)
    out: list[EffectiveModel] = []
    for upstream_id in (*known, *(name for name in changes if name not in known)):
        if is_excluded(upstream_id, registration.excluded_models):
            continue
        applied = changes.get(upstream_id, [])
        if applied and not any(change.is_enabled for change in applied):
            continue
        model = known.get(upstream_id) or Model(id=upstream_id)
        if model.is_retired and not applied:
            continue
        first = next((change for change in applied if change.is_enabled), None)
        names = tuple(change.alias for change in applied if change.is_enabled and change.alias)
        if not names or any(not change.alias for change in applied):
            names = (upstream_id, *names)
        out.append(
            _model(
                model,
                first,
                names,
                registration,
                file,
                protocol,
                base_url,
                headers,
                auth_type,
                origins,
            )
        )
    return tuple(out)


def _model(
    model: Model,
    change: ModelChange | None,
    names: tuple[str, ...],
    registration: Registration,
    file: ProviderFile | None,
    protocol: str,
    base_url: str,
    headers: dict[str, str],
    auth_type: str,
    origins: dict[str, Origin],
) -> EffectiveModel:
    owner: Origin = registration.owner
    place = f"models.{model.id}"
    if change is not None and change.facts:
        try:
            model = with_facts(model, change.facts)
        except CatalogError as error:
            raise ProviderRegistrationError(str(error), param=place) from None
    # A registration that names a protocol or URL means it for all its models.
    slug = (change.protocol if change else "") or registration.protocol or model.protocol
    slug = slug or protocol
    wire = file.protocols.get(slug) if file is not None else None
    url = registration.base_url or model.base_url
    if not url:
        url = wire.base_url if wire is not None else base_url
    identifiers: Mapping[str, Identifier] = file.auth.identifiers if file else {}
    endpoint = endpoint_of(
        identifiers, file.endpoint if file else {}, model.endpoint, registration.endpoint
    )

    def number(field: str, own: int | None, below: int, fallback: int) -> int:
        if own is not None:
            origins[f"{place}.{field}"] = owner
            return own
        if fallback:
            origins[f"{place}.{field}"] = owner
            return fallback
        origins[f"{place}.{field}"] = "catalog" if below else "default"
        return below

    quirks: JSONDict = {
        **(file.quirks if file else {}),
        **(wire.quirks if wire else {}),
        **model.quirks,
        **registration.quirks,
    }
    for name in quirks:
        origins[f"{place}.quirks.{name}"] = owner if name in registration.quirks else "catalog"
    spec = ModelSpec(
        id=model.id,
        protocol=slug,
        provider=registration.slug,
        modalities=model.modalities,
        reasoning=model.reasoning,
        levels={level: word or None for level, word in model.levels.items()},
        context_window=number(
            "context_window",
            change.context_window if change else None,
            model.context_window,
            registration.default_context_window,
        ),
        max_output_tokens=number(
            "max_output_tokens",
            change.max_output_tokens if change else None,
            model.max_output_tokens,
            registration.default_max_output_tokens,
        ),
        store=registration.store_responses,
        endpoint=endpoint,
        quirks=msgspec.convert(quirks, Quirks),
    )
    functions = change.supports_functions if change else None
    streaming = change.supports_streaming if change else None
    return EffectiveModel(
        spec=spec,
        base_url=fill(url, identifiers, endpoint),
        url_template=url,
        # They stand for the file's own address, and for no other that somebody gave.
        fallback_base_urls=tuple(
            fill(each, identifiers, endpoint)
            for each in (file.fallback_base_urls if file and url == file.base_url else ())
        ),
        scheme=_scheme(file, slug, auth_type),
        headers=_merged_headers(
            {**headers, **(wire.headers if wire else {}), **model.headers},
            registration.headers,
            {},
            owner,
        ),
        names=names,
        display_name=(change.display_name if change else "") or model.name,
        kind=model.kind,
        functions=model.functions if functions is None else functions,
        streaming=model.streaming if streaming is None else streaming,
        price=price_of(file, model),
        features=model.features,
    )
