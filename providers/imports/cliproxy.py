"""The config.yaml of CLIProxyAPI and cliproxyapi++.

Entries that differ in nothing but their key become one registration with several credentials.
What has no meaning here is reported, each key with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args

import msgspec
from msgspec import UNSET

from controlplane.kit import json
from controlplane.kit.secret import Secret
from providers.bundle import text
from providers.bundle.document import (
    AliasEntry,
    CredentialEntry,
    ModelEntry,
    PolicyEntry,
    ProviderEntry,
    TargetEntry,
)
from providers.catalog.loader import catalog
from providers.catalog.schema import ProviderFile
from providers.catalog.validators import MOST_PATTERNS
from providers.credentials.pick import DIRECT
from providers.imports.cliproxy_reasons import ENTRY_REASONS, TOP_REASONS
from providers.imports.found import (
    Draft,
    Imported,
    UnreadableImport,
    number_of,
    table_of,
    tables_of,
    text_of,
    texts_of,
)
from providers.protocols.canonical import Level

_LEVELS: Final[tuple[str, ...]] = get_args(Level)
_MOST_WEIGHT: Final = 1_000_000


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A list of credentials and what it means. `own_*` is used where an entry brings an address of
    its own."""

    catalog_id: str
    protocol: str = ""
    auth_type: str = ""
    own_protocol: str = ""
    own_auth_type: str = ""
    # What their addresses leave out and ours have.
    suffix: str = ""


_COMPATIBLE: Final = (
    *("openrouter", "minimax", "roo", "kilo", "deepseek", "groq", "mistral", "siliconflow"),
    *("together", "fireworks", "novita"),
)
SECTIONS: Final[dict[str, Section]] = {
    # The key goes into x-api-key at Anthropic, and is a bearer token everywhere else.
    "claude-api-key": Section(catalog_id="anthropic", own_auth_type="bearer_token"),
    "gemini-api-key": Section(catalog_id="google", suffix="/v1beta"),
    "codex-api-key": Section(catalog_id="openai", protocol="openai-responses"),
    "xai-api-key": Section(catalog_id="xai"),
    "vertex-api-key": Section(catalog_id="google-vertex", auth_type="api_key"),
    **{name: Section(catalog_id=name, own_protocol="openai-completions") for name in _COMPATIBLE},
}


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says for all of its entries."""

    proxy_url: str = ""
    cooldown_seconds: int | None = None


def read(content: Secret, *, tenant: str = "") -> Imported:
    """Raises UnreadableText, UnreadableImport."""
    config = text.loads(content.reveal())
    if not isinstance(config, dict):
        raise UnreadableImport("A config.yaml of CLIProxyAPI is one table of keys.")
    draft = Draft()
    defaults = _defaults(config, draft)
    if config.pop("force-model-prefix", None) is True:
        draft.policies.append(PolicyEntry(force_model_prefix=True))
    for name, section in SECTIONS.items():
        entries = tables_of(config.pop(name, None), name)
        for group in _groups(entries):
            _from_section(name, section, group, defaults, draft)
    for number, entry in enumerate(
        tables_of(config.pop("openai-compatibility", None), "openai-compatibility")
    ):
        _compatible(entry, f"openai-compatibility[{number}].", defaults, draft)
    for number, entry in enumerate(tables_of(config.pop("kiro", None), "kiro")):
        _kiro(entry, f"kiro[{number}].", defaults, draft)
    draft.ignore_rest(config, TOP_REASONS, "")
    return draft.done(tenant=tenant)


def _defaults(config: dict[str, Any], draft: Draft) -> Defaults:
    cooldown: int | None = None
    seconds = config.pop("transient-error-cooldown-seconds", None)
    if seconds is not None:
        value = number_of(seconds, "transient-error-cooldown-seconds")
        # 0 is their older default of a minute, and less switches it off.
        cooldown = 60 if value == 0 else max(value, 0)
    if config.pop("disable-cooling", None) is True:
        cooldown = 0
    proxy_url = _proxy(config, "", draft)
    return Defaults(proxy_url="" if proxy_url == DIRECT else proxy_url, cooldown_seconds=cooldown)


def _proxy(table: dict[str, Any], where: str, draft: Draft) -> str:
    """As a credential has it: empty = nothing is said, `direct` = none."""
    url = text_of(table.pop("proxy-url", None), f"{where}proxy-url")
    if url.lower() in {"direct", "none"}:
        return DIRECT
    if url and (not url.lower().startswith(("http://", "socks5://", "socks5h://")) or "@" in url):
        draft.ignore(
            f"{where}proxy-url",
            "Proxies here speak HTTP or SOCKS 5, and have no password in their address.",
        )
        return ""
    return url


def _groups(entries: list[dict[str, Any]]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Entries that differ only in whose key it is, with their place in the file."""
    groups: dict[bytes, list[tuple[int, dict[str, Any]]]] = {}
    for number, entry in enumerate(entries):
        rest = {key: value for key, value in entry.items() if key not in _OF_A_KEY}
        groups.setdefault(json.dumps(dict(sorted(rest.items()))), []).append((number, entry))
    yield from groups.values()


_OF_A_KEY: Final = frozenset({"api-key", "token-file", "weight", "proxy-url"})


def _from_section(
    name: str,
    section: Section,
    group: list[tuple[int, dict[str, Any]]],
    defaults: Defaults,
    draft: Draft,
) -> None:
    number, entry = group[0]
    where = f"{name}[{number}]."
    file = catalog()[section.catalog_id]
    prefix = text_of(entry.get("prefix"), f"{where}prefix")
    slug = draft.slug(f"{file.id}-{prefix}" if prefix else file.id)
    settings: dict[str, Any] = {"catalog_id": file.id}
    if section.protocol:
        settings["protocol"] = section.protocol
    if section.auth_type:
        settings["auth_type"] = section.auth_type
    base_url = text_of(entry.pop("base-url", None), f"{where}base-url").rstrip("/")
    if base_url and section.suffix and not base_url.endswith(section.suffix):
        base_url += section.suffix
    if base_url and base_url != file.base_url:
        settings["base_url"] = base_url
        if section.own_protocol:
            settings["protocol"] = section.own_protocol
        if section.own_auth_type:
            settings["auth_type"] = section.own_auth_type
    credentials = [
        credential
        for place, one in group
        if (credential := _credential(one, f"{name}[{place}].", slug, place, draft)) is not None
    ]
    _register(slug, entry, where, settings, credentials, file, defaults, draft)


def _compatible(entry: dict[str, Any], where: str, defaults: Defaults, draft: Draft) -> None:
    name = text_of(entry.pop("name", None), f"{where}name")
    base_url = text_of(entry.pop("base-url", None), f"{where}base-url").rstrip("/")
    file = _catalogued(base_url)
    slug = draft.slug(name or (file.id if file is not None else "compatible"))
    settings: dict[str, Any] = {"name": name} if name else {}
    if file is not None:
        settings["catalog_id"] = file.id
    else:
        settings |= {"protocol": "openai-completions", "base_url": base_url}
    if entry.pop("disabled", None) is True:
        settings["is_enabled"] = False
    if entry.pop("support-prompt-cache-key", None) is True:
        settings["quirks"] = {"supports_prompt_cache_key": "enabled"}
    keys = tables_of(entry.pop("api-key-entries", None), f"{where}api-key-entries")
    # Older files had the keys as plain texts.
    keys += [{"api-key": key} for key in texts_of(entry.pop("api-keys", None), f"{where}api-keys")]
    credentials = []
    for number, key in enumerate(keys):
        place = f"{where}api-key-entries[{number}]."
        found = _credential(key, place, slug, number, draft)
        if found is not None:
            credentials.append(found)
        draft.ignore_rest(key, ENTRY_REASONS, place)
    if not credentials and file is None:
        settings["auth_type"] = "none"
    _register(slug, entry, where, settings, credentials, file, defaults, draft)


def _catalogued(base_url: str) -> ProviderFile | None:
    """A provider we know by its address brings its models' facts and prices along."""
    return next(
        (
            file
            for file in catalog().values()
            if file.base_url == base_url and file.protocol == "openai-completions"
        ),
        None,
    )


def _kiro(entry: dict[str, Any], where: str, defaults: Defaults, draft: Draft) -> None:
    path = text_of(entry.pop("token-file", None), f"{where}token-file")
    region = text_of(entry.pop("region", None), f"{where}region")
    start_url = text_of(entry.pop("start-url", None), f"{where}start-url")
    profile = text_of(entry.pop("profile-arn", None), f"{where}profile-arn")
    for name in ("access-token", "refresh-token"):
        if entry.pop(name, None):
            draft.ignore(
                f"{where}{name}",
                "A login cannot be used by two programs at once: sign in again here.",
            )
    proxy_url = _proxy(entry, where, draft) or defaults.proxy_url
    draft.ignore_rest(entry, ENTRY_REASONS, where)
    if not path:
        return
    named = {"oidc_region": region, "start_url": start_url, "profile_arn": profile}
    slug = draft.slug("kiro")
    draft.add(
        ProviderEntry(
            slug=slug,
            catalog_id="kiro",
            auth_type="token_file",
            # A person's subscription: somebody has to say that its use here is permitted.
            is_enabled=False,
            proxy_url=proxy_url if proxy_url not in ("", DIRECT) else UNSET,
            endpoint={name: value for name, value in named.items() if value},
            credentials=[CredentialEntry(label="cliproxy 1", source="file", reference=path)],
        ),
        secret_headers={},
    )


def _credential(
    entry: dict[str, Any], where: str, slug: str, number: int, draft: Draft
) -> CredentialEntry | None:
    key = text_of(entry.pop("api-key", None), f"{where}api-key")
    path = text_of(entry.pop("token-file", None), f"{where}token-file")
    given = entry.pop("weight", None)
    weight = 1 if given is None else number_of(given, f"{where}weight")
    weight = min(max(weight, 0), _MOST_WEIGHT)
    proxy_url = _proxy(entry, where, draft)
    label = f"cliproxy {number + 1}"
    if key:
        draft.keys[("", slug), label] = Secret(key)
        return CredentialEntry(label=label, weight=weight, proxy_url=proxy_url)
    if path:
        return CredentialEntry(
            label=label, source="file", reference=path, weight=weight, proxy_url=proxy_url
        )
    draft.ignore(where.rstrip("."), "It has neither a key nor a file with a token.")
    return None


def _register(
    slug: str,
    entry: dict[str, Any],
    where: str,
    settings: dict[str, Any],
    credentials: list[CredentialEntry],
    file: ProviderFile | None,
    defaults: Defaults,
    draft: Draft,
) -> None:
    """What all entries have in common."""
    if prefix := text_of(entry.pop("prefix", None), f"{where}prefix"):
        settings["prefix"] = prefix
    proxy_url = _proxy(entry, where, draft)
    ways = {credential.proxy_url or proxy_url for credential in credentials}
    if len(ways) == 1:
        # What all keys say is the registration's.
        [proxy_url] = ways
        credentials = [msgspec.structs.replace(one, proxy_url="") for one in credentials]
    proxy_url = proxy_url or defaults.proxy_url
    if proxy_url and proxy_url != DIRECT:
        settings["proxy_url"] = proxy_url
    cooldown = 0 if entry.pop("disable-cooling", None) is True else defaults.cooldown_seconds
    if cooldown is not None:
        settings["cooldown_seconds"] = cooldown
    headers = table_of(entry.pop("headers", None), f"{where}headers")
    plain, secret_headers = draft.split_headers(headers, f"{where}headers.")
    if plain:
        settings["headers"] = plain
    excluded = texts_of(entry.pop("excluded-models", None), f"{where}excluded-models")
    given = tables_of(entry.pop("models", None), f"{where}models")
    models = [
        model
        for number, one in enumerate(given)
        if (model := _model(one, f"{where}models[{number}].", slug, draft)) is not None
    ]
    if models and file is not None:
        excluded += _others(file, models, excluded, f"{where}models", draft)
    if excluded:
        settings["excluded_models"] = excluded
    draft.ignore_rest(entry, ENTRY_REASONS, where)
    draft.add(
        ProviderEntry(slug=slug, credentials=credentials, models=models, **settings),
        secret_headers=secret_headers,
    )


def _others(
    file: ProviderFile, models: list[ModelEntry], excluded: list[str], where: str, draft: Draft
) -> list[str]:
    """A list of models means these and no others; the catalog's others are hidden by name."""
    named = {model.upstream_id for model in models}
    others = [model.id for model in file.models if model.id not in named and not model.is_retired]
    if len(others) + len(excluded) > MOST_PATTERNS:
        draft.ignore(
            where,
            f"The models are taken over, but not that they are the only ones: the catalog's other "
            f"{len(others)} stay offered. Exclude them by patterns.",
        )
        return []
    return others


def _model(entry: dict[str, Any], where: str, slug: str, draft: Draft) -> ModelEntry | None:
    name = text_of(entry.pop("name", None), f"{where}name")
    alias = text_of(entry.pop("alias", None), f"{where}alias")
    if not name:
        draft.ignore(where.rstrip("."), "It names no model.")
        return None
    facts: dict[str, Any] = {}
    levels = texts_of(
        table_of(entry.pop("thinking", None), f"{where}thinking").get("levels"), where
    )
    if levels:
        facts["reasoning"] = True
        facts["levels"] = {level: level for level in levels if level in _LEVELS}
    if entry.pop("is-compat", None) is True:
        facts["quirks"] = {"allow_empty_signature": True}
    context = entry.pop("max-context-length", None)
    shown_as = entry.pop("force-mapping", None)
    if shown_as is True and alias:
        _report_as_alias(alias, slug, name, draft)
    display_name = text_of(entry.pop("display-name", None), f"{where}display-name")
    draft.ignore_rest(entry, ENTRY_REASONS, where)
    return ModelEntry(
        upstream_id=name,
        alias="" if alias == name else alias,
        display_name=display_name,
        context_window=None
        if context is None
        else number_of(context, f"{where}max-context-length"),
        facts=facts,
    )


def _report_as_alias(alias: str, slug: str, model: str, draft: Draft) -> None:
    """Answers shall name the alias: that is said by an alias of its own here."""
    target = TargetEntry(provider=slug, model=model)
    for number, known in enumerate(draft.aliases):
        if known.name == alias:
            targets = [*known.targets, target]
            draft.aliases[number] = msgspec.structs.replace(known, targets=targets)
            return
    draft.aliases.append(AliasEntry(name=alias, is_reported_as_alias=True, targets=[target]))
