"""What a bundle holds: the registry as people mean it, without a secret. Pure.

A registration's fields are all optional, and what is not written is not the bundle's business:
only fields that stand in the file are set, marked as the file's, and set again by the next apply.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import JSONDict
from providers.bundle import text
from providers.errors import ProviderError

VERSION: Final = 1
# One file describes one registry: enough for the largest, not for an attack.
MOST_PROVIDERS: Final = 500
MOST_ALIASES: Final = 5_000
MOST_TENANTS: Final = 2_000


class BadBundle(ProviderError):
    """YAML, but no bundle."""

    kind = FaultKind.BAD_REQUEST
    code = "bad_bundle"


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Sparse(_Entry, frozen=True, kw_only=True, omit_defaults=True):
    """Written without what is as always."""


class CredentialEntry(_Sparse, frozen=True, kw_only=True):
    """A credential by its label. Secrets are never here: a stored one is put in by hand, or
    handed over beside the bundle; another source says where it is by `reference`."""

    label: str
    # Empty: as the provider's authentication says.
    kind: str = ""
    source: str = "stored"
    reference: str = ""
    endpoint: dict[str, str] = {}
    # Empty: the registration's; `direct`: none.
    proxy_url: str = ""
    priority: int = 0
    weight: int = 1


class ErrorRuleEntry(_Sparse, frozen=True, kw_only=True):
    """What an error answer means. Empty status or text = any."""

    action: Literal["stop", "continue", "cooldown"]
    status: int = 0
    contains: str = ""


class ModelEntry(_Sparse, frozen=True, kw_only=True):
    """A row of a registration, whole: what is not written is as the catalog says."""

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


class ProviderEntry(_Sparse, frozen=True, kw_only=True):
    """`tenant` empty = the platform's. The fields are those of a registration."""

    slug: str
    tenant: str = ""
    catalog_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    is_enabled: bool | UnsetType = UNSET
    is_shared_with_all: bool | UnsetType = UNSET
    protocol: str | UnsetType = UNSET
    base_url: str | UnsetType = UNSET
    auth_type: str | UnsetType = UNSET
    endpoint: dict[str, str] | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    prefix: str | UnsetType = UNSET
    force_model_prefix: bool | UnsetType | None = UNSET
    priority: int | UnsetType = UNSET
    weight: int | UnsetType = UNSET
    cooldown_seconds: int | UnsetType | None = UNSET
    features: dict[str, bool] | UnsetType = UNSET
    quirks: JSONDict | UnsetType = UNSET
    limits: dict[str, int] | UnsetType = UNSET
    excluded_models: list[str] | UnsetType = UNSET
    default_context_window: int | UnsetType = UNSET
    default_max_output_tokens: int | UnsetType = UNSET
    store_responses: bool | UnsetType = UNSET
    passes_unknown_models: bool | UnsetType = UNSET
    proxy_url: str | UnsetType = UNSET
    ca_certificate: str | UnsetType = UNSET
    connect_timeout_seconds: float | UnsetType | None = UNSET
    first_byte_timeout_seconds: float | UnsetType | None = UNSET
    idle_timeout_seconds: float | UnsetType | None = UNSET
    total_timeout_seconds: float | UnsetType | None = UNSET
    fallback_notes: str | UnsetType = UNSET
    # In their order; set whole.
    error_rules: list[ErrorRuleEntry] | UnsetType = UNSET
    # Slugs of tenants, where not all may use it.
    shared_with: list[str] | UnsetType = UNSET
    # Names of headers whose values are secret: handed over beside the bundle.
    secret_headers: list[str] = []
    credentials: list[CredentialEntry] = []
    models: list[ModelEntry] = []
    # What clients ask for -> what this provider calls it.
    mappings: dict[str, str] = {}


class TargetEntry(_Sparse, frozen=True, kw_only=True):
    """`provider` empty = any that has the model. A slug means the tenant's own registration before
    the platform's; `owner: platform` means the platform's although the tenant has one too."""

    model: str
    provider: str = ""
    owner: Literal["", "platform"] = ""


class AliasEntry(_Sparse, frozen=True, kw_only=True):
    name: str
    tenant: str = ""
    is_enabled: bool = True
    # How one of its targets is chosen; empty = as the policy says.
    strategy: str = ""
    is_reported_as_alias: bool = False
    total_timeout_seconds: float | None = None
    targets: list[TargetEntry]


class PolicyEntry(_Sparse, frozen=True, kw_only=True):
    """`tenant` empty = what holds for all. How requests are routed is set where it stands here."""

    tenant: str = ""
    force_model_prefix: bool | None = None
    shows_prices: bool | None = None
    allows_own_keys: bool | None = None
    strategy: str | UnsetType = UNSET
    allowed_strategies: list[str] | UnsetType | None = UNSET
    is_sticky: bool | UnsetType | None = UNSET
    shows_route: bool | UnsetType | None = UNSET


class Bundle(_Entry, frozen=True, kw_only=True):
    """`name` is what its rows are marked with; two bundles of two names live side by side.
    Empty = nothing is marked, and nothing is ever taken away: an import. `tenants` are slugs and
    names of those that the rows below name; missing ones are made."""

    version: int = VERSION
    name: str
    tenants: dict[str, str] = {}
    policies: list[PolicyEntry] = []
    providers: list[ProviderEntry] = []
    aliases: list[AliasEntry] = []


_FEWEST_IN_A_NAME: Final = 1
_MOST_IN_A_NAME: Final = 63


def read(content: str) -> Bundle:
    """Raises UnreadableText, BadBundle."""
    found = text.loads(content)
    if not isinstance(found, dict):
        raise BadBundle("A bundle is one object with `version`, `name` and `providers`.")
    try:
        bundle = msgspec.convert(found, Bundle)
    except msgspec.ValidationError as error:
        raise BadBundle(f"{str(error).rstrip('.')}.") from None
    _check(bundle)
    return bundle


def write(bundle: Bundle) -> str:
    built: dict[str, Any] = msgspec.to_builtins(bundle)
    return text.dumps({name: value for name, value in built.items() if value not in ([], {})})


def _check(bundle: Bundle) -> None:
    if bundle.version != VERSION:
        raise BadBundle(f"This release reads bundles of version {VERSION}, not {bundle.version}.")
    is_name = _FEWEST_IN_A_NAME <= len(bundle.name) <= _MOST_IN_A_NAME and bundle.name.isprintable()
    if not is_name:
        raise BadBundle("Give the bundle a `name` of one line and at most 63 characters.")
    for what, entries, most in (
        ("registrations", bundle.providers, MOST_PROVIDERS),
        ("aliases", bundle.aliases, MOST_ALIASES),
        ("tenants", bundle.tenants, MOST_TENANTS),
        ("policies", bundle.policies, MOST_TENANTS),
    ):
        if len(entries) > most:
            raise BadBundle(f"A bundle holds at most {most:,} {what}.")
    for entry in bundle.providers:
        place = f"providers, {entry.slug[:63]!r}"
        _once(place, "model", [(model.upstream_id, model.alias) for model in entry.models])
        _once(place, "credential", [credential.label for credential in entry.credentials])
    _once("providers", "registration", [(entry.tenant, entry.slug) for entry in bundle.providers])
    _once("aliases", "alias", [(entry.tenant, entry.name) for entry in bundle.aliases])
    _once("policies", "policy", [entry.tenant for entry in bundle.policies])


def _once(place: str, what: str, names: list[Any]) -> None:
    seen: set[Any] = set()
    for name in names:
        if name in seen:
            shown = "/".join(filter(None, name)) if isinstance(name, tuple) else name
            raise BadBundle(f"{place}: the {what} {shown[:100]!r} stands twice.")
        seen.add(name)
