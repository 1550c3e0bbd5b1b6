"""Writes docs/providers.md from the provider files.

python tools/docs/providers.py            write the page
python tools/docs/providers.py --check    say whether it is up to date
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from providers.catalog.loader import catalog  # noqa: E402  (the path comes first)
from providers.catalog.schema import ProviderFile  # noqa: E402
from providers.signing.schemes import AuthScheme  # noqa: E402

PAGE = ROOT / "docs" / "providers.md"
KINDS = {
    "direct": "Makers of models",
    "aggregator": "Aggregators: one key, many makers",
    "cloud": "Clouds",
    "proprietary": "Subscriptions and private protocols",
    "custom": "Servers of your own, and the simulator",
}
AUTH = {
    "api_key": "API key",
    "api_key_plus": "API key and identifiers",
    "bearer_token": "bearer token",
    "oauth_pkce": "login in the browser",
    "oauth_device_flow": "login by device code",
    "aws": "AWS credentials",
    "gcp_adc": "Google credentials",
    "token_file": "token file of another program",
    "binding": "binding inside a Worker",
    "none": "none",
}
MATRIX = (
    ("streaming", "stream"),
    ("functions", "tools"),
    ("vision", "vision"),
    ("documents", "documents"),
    ("reasoning", "reasoning"),
    ("structured_output", "schema"),
    ("prompt_caching", "caching"),
    ("embeddings", "embeddings"),
)


def page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    files = list(catalog().values())
    models = sum(_live(file) for file in files)
    yield "# Providers"
    yield ""
    yield "<!-- Written by `make docs` from the files in providers/catalog/data. -->"
    yield ""
    yield (
        f"The catalog knows {len(files)} providers and {models:,} models, as of November 2026. A "
        "registration names one of these ids and says only what differs; everything else comes "
        "from the file. Prices, limits and addresses change: an admin can override each of them, "
        "and `manage.py catalog refresh` takes over what vendors and public lists say now. "
        "`manage.py catalog list <id>` shows the models of one provider with their limits and "
        "prices."
    )
    yield ""
    yield (
        "A tick says that the provider does it for at least one model. What one model can do is "
        "answered by its own facts first, then by its provider's, then by what a probe found."
    )
    for kind, title in KINDS.items():
        chosen = [file for file in files if file.kind == kind]
        yield ""
        yield f"## {title}"
        yield ""
        yield from _matrix(chosen)
        for file in chosen:
            yield ""
            yield from _provider(file)


def _matrix(files: list[ProviderFile]) -> Iterator[str]:
    yield "| Provider | Models | " + " | ".join(word for _, word in MATRIX) + " |"
    yield "|---|---:|" + ":---:|" * len(MATRIX)
    for file in files:
        ticks = ("✓" if feature in file.features else "" for feature, _ in MATRIX)
        count = str(_live(file)) if file.models else "live"
        yield f"| [{file.name}](#{_anchor(file)}) | {count} | " + " | ".join(ticks) + " |"


def _provider(file: ProviderFile) -> Iterator[str]:
    yield f'<a id="{_anchor(file)}"></a>'
    yield ""
    yield f"### {file.name}"
    yield ""
    facts = [("Id", f"`{file.id}`")]
    if file.known_as:
        facts.append(("Also known as", _codes(file.known_as)))
    if file.refused_at_runtime:
        facts.append(("Not served from here", file.refused_at_runtime))
    facts.append(("Authentication", _auth(file)))
    if file.auth.env:
        facts.append(("Environment", _codes(file.auth.env)))
    for kind, other in file.auth.alternatives.items():
        variables = f": {_codes(other.env)}" if other.env else ""
        facts.append((f"Or {AUTH[kind]}", f"{_shown(other.scheme)}{variables}"))
    for name, identifier in file.auth.identifiers.items():
        words = identifier.description
        if identifier.default:
            words += f" (default `{identifier.default}`)"
        elif not identifier.required:
            words += " (optional)"
        if identifier.env:
            words += f": {_codes(identifier.env)}"
        facts.append((f"Identifier `{name}`", words))
    for mode_name, mode in file.auth.upstream.items():
        facts.append((f"Upstream `{mode_name}`", mode.description))
    for protocol, url in _addresses(file):
        facts.append((f"`{protocol}`", f"`{url}`"))
    for url in file.fallback_base_urls:
        facts.append(("If that is away", f"`{url}`"))
    if file.headers:
        facts.append(("Static headers", _codes(f"{k}: {v}" for k, v in file.headers.items())))
    if file.oauth:
        facts.append(("Logins", "; ".join(login.description for login in file.oauth.values())))
    facts.append(("Live listing", _listing(file)))
    if file.docs:
        facts.append(("Documentation", f"<{file.docs}>"))
    yield "| | |"
    yield "|---|---|"
    for name, words in facts:
        yield f"| {name} | {words.replace('|', '&#124;')} |"
    if file.notes:
        yield ""
        yield file.notes
    if file.subscription is not None:
        yield ""
        yield f"**The vendor's position:** {file.subscription.position}"


def _addresses(file: ProviderFile) -> Iterator[tuple[str, str]]:
    if file.base_url:
        yield file.protocol, file.base_url
    for protocol, wire in file.protocols.items():
        if protocol != file.protocol:
            yield protocol, wire.base_url or file.base_url


def _auth(file: ProviderFile) -> str:
    shown = _shown(file.auth.scheme)
    return AUTH[file.auth.type] + (f", sent as {shown}" if shown else "")


def _shown(scheme: AuthScheme) -> str:
    match scheme.scheme:
        case "bearer":
            return "`Authorization: Bearer …`"
        case "header":
            return f"`{scheme.header}: {scheme.prefix}…`"
        case "sigv4":
            return "an AWS signature"
        case "google":
            return "a Google access token"
        case "none":
            return ""


def _listing(file: ProviderFile) -> str:
    if file.listing is None:
        return "none; the models are those of the catalog"
    words = f"`{file.listing.url or file.listing.path}`"
    if file.listing.is_public:
        words += ", answers without a key: proves nothing"
    return words


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _live(file: ProviderFile) -> int:
    return sum(not model.is_retired for model in file.models)


def _anchor(file: ProviderFile) -> str:
    return f"provider-{file.id}"


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" in arguments:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE.relative_to(ROOT)} is not what the provider files say: run `make docs`.")
        return 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(text):,} characters")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
