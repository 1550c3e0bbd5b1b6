"""pi's `auth.json` (keys) and `models.json` (providers and models of one's own).

A login is not taken over: its refresh token works once, and two programs that both use it log each
other out. A key in the form of a command is never run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, get_args

from controlplane.kit import json
from controlplane.kit.secret import Secret
from providers.bundle.document import CredentialEntry, ModelEntry, ProviderEntry
from providers.bundle.text import check_texts
from providers.catalog.loader import catalog
from providers.catalog.schema import ProviderFile
from providers.imports.found import (
    COMMAND,
    Draft,
    Imported,
    UnreadableImport,
    number_of,
    table_of,
    tables_of,
    text_of,
)
from providers.protocols import registry
from providers.protocols.canonical import Level

LABEL: Final = "pi"
_MOST_CHARACTERS: Final = 1024 * 1024
# What stands in a key is a variable's name in older files; newer ones mark it.
_VARIABLE: Final = re.compile(r"\$\{?([A-Z][A-Z0-9_]*)\}?\Z|([A-Z][A-Z0-9]*_[A-Z0-9_]*)\Z")
_LEVELS: Final[tuple[str, ...]] = get_args(Level)
# Where a provider of one's own expects its key, when not as a bearer token.
_KEY_HEADERS: Final = {
    "anthropic-messages": "x-api-key",
    "google-generative-ai": "x-goog-api-key",
}
# pi's word -> ours, where they differ by more than their spelling.
_QUIRKS: Final = {
    "supportsStrictMode": "supports_strict_tools",
    "supportsOpenAIGrammarTools": "supports_grammar_tools",
    "supportsMidConvoSystemMessages": "supports_mid_conversation_system",
    "supportsMidConvoToolAdditions": "supports_mid_conversation_tools",
    "supportsMidConvoToolChanges": "supports_mid_conversation_tools",
    "supportsMidConvoEffort": "supports_mid_conversation_effort",
    "supportsExplicitPromptCacheMode": "supports_explicit_prompt_cache",
    "requiresReasoningContentOnAssistantMessages": "requires_reasoning_content",
    "sendSessionAffinityHeaders": "send_session_affinity",
    "promptCacheKeyMode": "supports_prompt_cache_key",
}
_PRICES: Final = {
    "input": "input",
    "output": "output",
    "cacheRead": "cache_read",
    "cacheWrite": "cache_write",
}


def read(*, auth: Secret | None = None, models: Secret | None = None, tenant: str = "") -> Imported:
    """Raises UnreadableImport."""
    keys = _object(auth, "auth.json")
    own = table_of(_object(models, "models.json").pop("providers", None), "models.json: providers")
    draft = Draft(dollar="Headers are not filled from variables: set it as a secret header.")
    for name in dict.fromkeys((*keys, *own)):
        key = table_of(keys.get(name), f"auth.json: {name}")
        _provider(name, key, table_of(own.get(name), f"models.json: {name}"), draft)
    return draft.done(tenant=tenant)


def _object(content: Secret | None, what: str) -> dict[str, Any]:
    if content is None:
        return {}
    text = content.reveal()
    if len(text) > _MOST_CHARACTERS or json.depth_exceeds(text.encode("utf-8", "replace")):
        raise UnreadableImport(f"{what} is too large or nests too deep.")
    try:
        found = json.loads(text)
    except json.InvalidJSON:
        raise UnreadableImport(f"{what} is no JSON.") from None
    check_texts(found)
    return table_of(found, what)


def _provider(name: str, key: dict[str, Any], own: dict[str, Any], draft: Draft) -> None:
    file = catalog().named(name)
    where = f"{name}."
    if file is None and not own:
        draft.ignore(name, "The catalog has no provider of this name.")
        return
    if file is not None and file.subscription is not None:
        draft.ignore(name, f"{file.name} takes a login: sign in there.")
        return
    settings: dict[str, Any] = {} if file is None else {"catalog_id": file.id}
    slug = draft.slug(file.id if file is not None else name)
    protocol = text_of(own.pop("api", None), f"{where}api")
    if protocol and protocol not in registry.slugs():
        draft.ignore(name, f"There is no protocol {protocol[:63]!r}.")
        return
    models = [
        _model(text_of(entry.pop("id", None), f"{where}models"), entry, f"{where}models.", draft)
        for entry in tables_of(own.pop("models", None), f"{where}models")
    ]
    overrides = table_of(own.pop("modelOverrides", None), f"{where}modelOverrides")
    models += [
        _model(model, table_of(entry, model), f"{where}modelOverrides.", draft)
        for model, entry in overrides.items()
    ]
    named = {model.upstream_id: model for model in models if model.upstream_id}
    if not protocol and file is None:
        protocol = next((model.protocol for model in named.values() if model.protocol), "")
    if protocol:
        settings["protocol"] = protocol
    if base_url := text_of(own.pop("baseUrl", None), f"{where}baseUrl"):
        settings["base_url"] = base_url
    compat = table_of(own.pop("compat", None), f"{where}compat")
    if quirks := _quirks(compat, f"{where}compat.", draft):
        settings["quirks"] = quirks
    plain, secret_headers = draft.split_headers(
        table_of(own.pop("headers", None), f"{where}headers"), f"{where}headers."
    )
    if plain:
        settings["headers"] = plain
    is_bearer = own.pop("authHeader", None) is True
    said = key or ({"type": "api_key", "key": own.get("apiKey")} if own.get("apiKey") else {})
    own.pop("apiKey", None)
    credentials = _credentials(name, said, file, slug, settings, draft)
    if is_bearer and file is not None and "bearer_token" in file.auth.alternatives:
        settings["auth_type"] = "bearer_token"
    if file is None and not is_bearer and protocol in _KEY_HEADERS:
        # A provider of one's own shows bearer tokens; this one wants its key in a header.
        secret = draft.keys.pop((("", slug), LABEL), None)
        if secret is not None:
            secret_headers[_KEY_HEADERS[protocol]] = secret
            settings["auth_type"], credentials = "none", []
    if file is None and not said:
        settings["auth_type"] = "none"
    draft.ignore_rest(own, {}, where)
    draft.add(
        ProviderEntry(slug=slug, credentials=credentials, models=list(named.values()), **settings),
        secret_headers=secret_headers,
    )


def _credentials(
    name: str,
    said: dict[str, Any],
    file: ProviderFile | None,
    slug: str,
    settings: dict[str, Any],
    draft: Draft,
) -> list[CredentialEntry]:
    if not said:
        return []
    if said.get("type") == "oauth":
        draft.ignore(name, "A login cannot be used by two programs at once: sign in again here.")
        return []
    key = text_of(said.get("key"), f"{name}.key")
    if file is not None:
        values = table_of(said.get("env"), f"{name}.env")
        endpoint = {
            identifier: text_of(values[variable], f"{name}.env.{variable}")
            for identifier, known in file.auth.identifiers.items()
            for variable in known.env
            if variable in values
        }
        if endpoint:
            settings["endpoint"] = endpoint
    if not key:
        return []
    if key.startswith("!"):
        draft.ignore(f"{name}.key", COMMAND)
        return []
    if match := _VARIABLE.match(key):
        return [CredentialEntry(label=LABEL, source="environment", reference=match[1] or match[2])]
    draft.keys[("", slug), LABEL] = Secret(key)
    return [CredentialEntry(label=LABEL)]


def _model(model: str, given: dict[str, Any], where: str, draft: Draft) -> ModelEntry:
    place = f"{where}{model}."
    facts: dict[str, Any] = {}
    if "reasoning" in given:
        facts["reasoning"] = given.pop("reasoning") is True
    inputs = given.pop("input", None)
    if isinstance(inputs, list):
        facts["modalities"] = [word for word in inputs if isinstance(word, str)]
    if price := _price(table_of(given.pop("cost", None), f"{place}cost"), f"{place}cost.", draft):
        facts["price"] = price
    levels = table_of(given.pop("thinkingLevelMap", None), f"{place}thinkingLevelMap")
    known = {level: text_of(word, place) for level, word in levels.items() if level in _LEVELS}
    if known:
        facts["levels"] = known
    compat = table_of(given.pop("compat", None), f"{place}compat")
    if quirks := _quirks(compat, f"{place}compat.", draft):
        facts["quirks"] = quirks
    entry = ModelEntry(
        upstream_id=model,
        display_name=text_of(given.pop("name", None), f"{place}name"),
        protocol=text_of(given.pop("api", None), f"{place}api"),
        context_window=_count(given.pop("contextWindow", None), f"{place}contextWindow"),
        max_output_tokens=_count(given.pop("maxTokens", None), f"{place}maxTokens"),
        facts=facts,
    )
    reasons = dict.fromkeys(
        ("baseUrl", "headers"),
        "It is set for a whole registration here: add a second registration for this model.",
    )
    draft.ignore_rest(given, reasons, place)
    return entry


def _count(value: Any, what: str) -> int | None:
    return None if value is None else number_of(value, what)


def _price(cost: Mapping[str, Any], where: str, draft: Draft) -> dict[str, str]:
    """pi writes 0 where it does not know."""
    price: dict[str, str] = {}
    for name, value in cost.items():
        if name not in _PRICES:
            draft.ignore(f"{where}{name}", "This price is not known here.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            price[_PRICES[name]] = format(value, "f").rstrip("0").rstrip(".") or "0"
    is_known = any(value != "0" for value in price.values())
    return price if is_known and {"input", "output"} <= price.keys() else {}


def _quirks(compat: Mapping[str, Any], where: str, draft: Draft) -> dict[str, Any]:
    named = {_QUIRKS.get(name, _snake(name)): value for name, value in compat.items()}
    return draft.quirks(named, where)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
