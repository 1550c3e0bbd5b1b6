"""From the text of a provider file to a checked ProviderFile. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

import msgspec

from controlplane.kit.json import JSONDict
from providers.catalog.schema import (
    Auth,
    CatalogError,
    Model,
    OAuth,
    Price,
    ProviderFile,
    Tier,
)
from providers.protocols.quirks import Quirks
from providers.signing.schemes import AuthScheme

_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]*\Z")
_MODEL_PLACE: Final = re.compile(r"\$\.models\[(\d+)\]")
# A credential or a framing header in a file would be sent for everybody.
_NEVER_STATIC: Final = frozenset(
    {
        "authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "host",
        "proxy-authorization", "content-length", "transfer-encoding", "connection",
    }
)  # fmt: skip
_QUIRK_NAMES: Final = frozenset(field.name for field in msgspec.structs.fields(Quirks))
_LOCAL: Final = ("http://localhost:", "http://127.0.0.1:", "{origin}")


def parse(text: str, source: str) -> ProviderFile:
    """A provider file from its text. Raises CatalogError: the file, the place in it, what to do."""
    try:
        raw = msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise CatalogError(f"{source}: this is no TOML: {error}. Mend that line.") from None
    try:
        provider = msgspec.convert(raw, ProviderFile, strict=True)
    except msgspec.ValidationError as error:
        raise CatalogError(f"{source}: {_explained(str(error), raw)}") from None
    check(provider, source)
    return provider


def _explained(message: str, raw: JSONDict) -> str:
    """msgspec's sentence, with the model's id for its number, and a remedy."""
    text = message
    if found := _MODEL_PLACE.search(message):
        model = raw["models"][int(found.group(1))]
        if isinstance(model, dict) and "id" in model:
            text = text.replace(found.group(0), f"model {model['id']!r}: $")
    text = text.rstrip(".")
    if "unknown field" in message:
        return f"{text}. Correct its name or take it out: providers/catalog/schema.py has them all."
    if "missing required field" in message:
        return f"{text}. Add it: providers/catalog/schema.py says what it means."
    return f"{text}. Give a value that providers/catalog/schema.py allows there."


def check(provider: ProviderFile, source: str) -> None:
    """What types alone cannot say."""
    if not _ID.match(provider.id):
        raise CatalogError(
            f"{source}: id {provider.id!r} must be lower-case letters, digits, dots, hyphens "
            "and underscores, at most 63."
        )
    if not provider.refused_at_runtime:
        for name in ("protocol", "base_url"):
            if not getattr(provider, name):
                raise CatalogError(f"{source}: give `{name}`, what it speaks by default and where.")
    _check_auth(provider.auth, source)
    identifiers = set(provider.auth.identifiers)
    urls = [provider.base_url, *provider.fallback_base_urls]
    urls += [wire.base_url for wire in provider.protocols.values()]
    urls += [model.base_url for model in provider.models]
    for known in provider.auth.identifiers.values():
        urls += known.base_urls.values()
    for url in filter(None, urls):
        _check_url(url, identifiers, source, is_base=True)
    for place in (provider.listing, provider.key_check):
        if place is not None and place.url:
            _check_url(place.url, identifiers, source)
    if provider.listing is not None:
        _check_headers(provider.listing.headers, f"{source}: listing")
    for name, login in provider.oauth.items():
        _check_login(login, identifiers, f"{source}: oauth.{name}")
    _check_headers(provider.headers, source)
    _check_quirks(provider.quirks, f"{source}: quirks")
    _check_factors(provider.service_tiers, source)
    for slug, wire in provider.protocols.items():
        _check_quirks(wire.quirks, f"{source}: protocols.{slug}.quirks")
        _check_headers(wire.headers, source)
        _check_scheme(wire.scheme, f"{source}: protocols.{slug}.scheme")
    seen: set[str] = set()
    for model in provider.models:
        if model.id in seen:
            raise CatalogError(f"{source}: model {model.id!r} stands twice: take one out.")
        seen.add(model.id)
        if model.protocol and model.protocol not in {provider.protocol, *provider.protocols}:
            raise CatalogError(
                f"{source}: model {model.id!r} speaks {model.protocol!r}: add "
                f"[protocols.{model.protocol}] with its base_url."
            )
        check_model(model, f"{source}: model {model.id!r}")


def check_model(model: Model, place: str) -> None:
    _check_quirks(model.quirks, f"{place}: quirks")
    _check_headers(model.headers, place)
    for name in ("context_window", "max_output_tokens"):
        if getattr(model, name) < 0:
            raise CatalogError(f"{place}: {name} must be 0 (unknown) or more.")
    if model.price is not None:
        _check_price(model.price, place)


def _check_auth(auth: Auth, source: str) -> None:
    _check_scheme(auth.scheme, f"{source}: auth.scheme")
    for other, alternative in auth.alternatives.items():
        _check_scheme(alternative.scheme, f"{source}: auth.alternatives.{other}")
        _check_headers(alternative.headers, f"{source}: auth.alternatives.{other}")
        if other == auth.type:
            raise CatalogError(f"{source}: {other} is the auth type already: take one out.")
    variables = [*auth.env, *(env for entry in auth.alternatives.values() for env in entry.env)]
    for name, identifier in auth.identifiers.items():
        place = f"{source}: auth.identifiers.{name}"
        variables += identifier.env
        try:
            pattern = re.compile(identifier.pattern)
        except re.error as error:
            raise CatalogError(f"{place}: the pattern is wrong: {error}.") from None
        for value in (identifier.default, *identifier.base_urls):
            if value and not pattern.fullmatch(value):
                raise CatalogError(f"{place}: {value!r} does not match its own pattern.")
    for variable in variables:
        if not _VARIABLE.match(variable):
            raise CatalogError(f"{source}: {variable!r} is no name of an environment variable.")
    for mode_name, mode in auth.upstream.items():
        _check_headers(mode.headers, f"{source}: auth.upstream.{mode_name}")
    if auth.upstream and "upstream_auth" not in auth.identifiers:
        raise CatalogError(
            f"{source}: [auth.upstream] needs the identifier `upstream_auth` to choose by."
        )
    for template in auth.headers.values():
        if unknown := set(_PLACEHOLDER.findall(template)) - set(auth.identifiers):
            raise CatalogError(
                f"{source}: auth.headers uses {sorted(unknown)}: add it to [auth.identifiers]."
            )


def _check_scheme(scheme: AuthScheme | None, place: str) -> None:
    if scheme is not None and scheme.scheme == "header" and not _HEADER.match(scheme.header):
        raise CatalogError(f"{place}: a header scheme needs the header's name.")


def _check_url(url: str, identifiers: set[str], source: str, *, is_base: bool = False) -> None:
    if not url.startswith(("https://", *_LOCAL)):
        raise CatalogError(f"{source}: {url!r} must begin with https://, or with a local address.")
    if is_base and url.endswith("/"):
        raise CatalogError(f"{source}: base URL {url!r} must not end in a slash: take it off.")
    if unknown := set(_PLACEHOLDER.findall(url)) - identifiers:
        raise CatalogError(
            f"{source}: {url!r} uses {sorted(unknown)}: add it to [auth.identifiers]."
        )


def _check_login(login: OAuth, identifiers: set[str], place: str) -> None:
    for field in msgspec.structs.fields(login):
        value = getattr(login, field.name)
        # `{code}` stands for what the server answered, in a poll.
        if field.name.endswith("_url") and value and field.name != "redirect_url":
            _check_url(value, identifiers | {"code"}, place)
    for url in login.account_fallback_urls:
        _check_url(url, identifiers, place)
    _check_headers(login.request_headers, place)
    needed = {"device_code": "device_url", "pkce": "authorize_url", "key_exchange": "token_url"}
    if not getattr(login, needed[login.flow]):
        raise CatalogError(f"{place}: the flow {login.flow} needs {needed[login.flow]}.")
    if not login.allowed_hosts:
        raise CatalogError(f"{place}: name the allowed_hosts that links may lead to.")


def _check_headers(headers: dict[str, str], place: str) -> None:
    for name, value in headers.items():
        if not _HEADER.match(name) or not value.isprintable():
            raise CatalogError(f"{place}: header {name!r} cannot be sent: correct name or value.")
        if name.lower() in _NEVER_STATIC:
            raise CatalogError(
                f"{place}: header {name!r} does not belong into a file: credentials come from "
                "[auth], framing from the connection."
            )


def _check_quirks(quirks: JSONDict, place: str) -> None:
    if not quirks:
        return
    if unknown := set(quirks) - _QUIRK_NAMES:
        raise CatalogError(
            f"{place} has unknown {sorted(unknown)}: providers/protocols/quirks.py has them all."
        )
    try:
        msgspec.convert(quirks, Quirks)
    except msgspec.ValidationError as error:
        raise CatalogError(
            f"{place}: {str(error).rstrip('.')}. See providers/protocols/quirks.py."
        ) from None


_PRICE_FIELDS: Final = tuple(
    field.name for field in msgspec.structs.fields(Price) if field.type is str
)
_TIER_FIELDS: Final = tuple(
    field.name for field in msgspec.structs.fields(Tier) if field.type is str
)


_MOST_DOLLARS: Final = Decimal(1_000_000)


def read_price(value: object, place: str) -> Price:
    """A price that people wrote, in the words of the catalog. Raises CatalogError."""
    try:
        price = msgspec.convert(value, Price)
    except msgspec.ValidationError as error:
        raise CatalogError(f"{place}: {error}.") from None
    _check_price(price, place)
    texts = [getattr(price, name) for name in _PRICE_FIELDS] + [*price.service_tiers.values()]
    texts += [getattr(tier, name) for tier in price.tiers for name in _TIER_FIELDS]
    if any(text and Decimal(text) > _MOST_DOLLARS for text in texts):
        raise CatalogError(f"{place}: write at most {_MOST_DOLLARS:,} dollars per million tokens.")
    return price


def _check_price(price: Price, place: str) -> None:
    _check_amounts(price, _PRICE_FIELDS, place)
    _check_factors(price.service_tiers, place)
    bound = 0
    for tier in price.tiers:
        _check_amounts(tier, _TIER_FIELDS, place)
        if tier.above_input_tokens <= bound:
            raise CatalogError(f"{place}: price tiers must rise from above 0: put them in order.")
        bound = tier.above_input_tokens


def _check_amounts(table: Price | Tier, names: tuple[str, ...], place: str) -> None:
    for name in names:
        value = getattr(table, name)
        if not value and name not in ("input", "output"):
            continue
        _check_decimal(value, f"{place}: price {name}")


def _check_factors(factors: dict[str, str], place: str) -> None:
    for name, value in factors.items():
        _check_decimal(value, f"{place}: service_tiers.{name}")


def _check_decimal(text: str, place: str) -> None:
    try:
        amount = Decimal(text)
    except ArithmeticError:
        raise CatalogError(f"{place} is {text!r}: write a decimal number as text.") from None
    if not amount.is_finite() or amount < 0:
        raise CatalogError(f"{place} is {text}: it must be 0 or more; leave unknown prices out.")


def with_facts(model: Model, facts: JSONDict) -> Model:
    """The model with single facts replaced. Raises CatalogError naming the bad one."""
    try:
        changed = msgspec.convert({**msgspec.to_builtins(model), **facts, "id": model.id}, Model)
    except msgspec.ValidationError as error:
        raise CatalogError(f"facts of {model.id}: {error}.") from None
    check_model(changed, f"facts of {model.id}")
    return changed
