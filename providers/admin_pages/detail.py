"""What the page of one registration shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.core.paginator import Paginator
from django.db.models import Count, Prefetch, Q, QuerySet, prefetch_related_objects
from django.http import QueryDict
from django.utils.http import urlencode

from controlplane.console.pages import moment
from controlplane.kit import clock
from controlplane.kit.badges import Badge, StateChoices, Tone
from controlplane.kit.json import dumps_str
from providers.admin_pages.fields import PASTED
from providers.admin_pages.offers import ModelLine, Offer, model_lines
from providers.catalog.effective import Effective, Origin
from providers.catalog.loader import catalog
from providers.catalog.model_services import default_mappings
from providers.catalog.models import Provider
from providers.catalog.schema import ProviderFile
from providers.catalog.settings_shown import Setting, settings_of
from providers.credentials.models import Credential
from providers.credentials.references import references
from providers.credentials.resolution import REGISTRATION
from providers.health.models import Finding, ProviderCheck
from providers.health.services import standing_of, timeline
from providers.routing.models import Alias
from providers.routing.view import settings_or_problem

MODELS_A_PAGE: Final = 25
STRIP: Final = 60
_MAPPINGS: Final = 100
_QUERY: Final = ("find", "show", "page")
_ORIGINS: Final[Mapping[Origin, Badge]] = {
    "catalog": Badge("Catalog", Tone.QUIET, "What the shipped catalog says"),
    "platform": Badge("Platform", Tone.INFO, "Set on this registration by platform staff"),
    "tenant": Badge("Tenant", Tone.INFO, "Set on this registration by its tenant"),
    "default": Badge("Default", Tone.QUIET, "Nobody has said anything"),
}
# Settings in groups, by the first part of their name; the rest comes last.
_GROUPS: Final = (
    ("Connection", ("protocol", "base_url", "auth_type", "endpoint", "headers")),
    ("Names and order", ("prefix", "force_model_prefix", "priority", "weight")),
    ("Limits", ("limits", "cooldown_seconds")),
    ("Features", ("features",)),
    ("Quirks", ("quirks",)),
)


_SOURCES: Final[Mapping[str, str]] = {
    **{source.value: str(source.label) for source in Credential.Source},
    REGISTRATION: "The registration",
}
_NAMES: Final[Mapping[str, str]] = {
    "base_url": "Base URL",
    "auth_type": "Signed in to with",
    "proxy_url": "Proxy",
    "ca_certificate": "Certificate authority of its own",
}


@dataclass(frozen=True, slots=True)
class ShownSetting:
    name: str
    value: str
    origin: Badge
    bundle: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One check on the health strip."""

    tone: Tone
    label: str
    at: datetime
    sentence: str


@dataclass(frozen=True, slots=True)
class ShownCredential:
    row: Credential
    badge: Badge
    holds: str
    since: str
    ends: str


@dataclass(frozen=True, slots=True)
class Dependents:
    """What goes, or stops working, with a registration."""

    credentials: tuple[str, ...]
    models: int
    mappings: int
    tenants: int
    aliases: tuple[str, ...]
    aliases_left_empty: tuple[str, ...]


def context_of(provider: Provider, query: QueryDict) -> dict[str, Any]:
    # Read once: the settings, the list of models and the counts all ask for them.
    prefetch_related_objects([provider], "models", Prefetch("credentials", _without_secrets()))
    effective, problem = settings_or_problem(provider)
    file = catalog().get(provider.catalog_id) if provider.catalog_id else None
    checks = timeline(provider, limit=STRIP)
    lines = model_lines(provider, effective)
    mappings = list(provider.mappings.order_by("client_model")[: _MAPPINGS + 1])
    shares = provider.shares.count() if provider.tenant_id is None else 0
    return {
        "standing": standing_of(provider, is_broken=effective is None),
        "problem": problem,
        "file": file,
        "is_simulator": provider.catalog_id == "simulator",
        "effective": effective,
        "used_by": used_by(provider, shares=shares),
        "latest": checks[-1] if checks else None,
        "latest_finding": Finding.of(checks[-1].finding) if checks else None,
        "strip": [_bar(check) for check in checks],
        "credentials": [_credential(row) for row in provider.credentials.all()],
        "takes": _takes(file, provider),
        "has_login": file is not None and bool(file.oauth),
        "key_sources": key_sources(provider, effective),
        "models": _models_shown(lines, query),
        "mappings": mappings[:_MAPPINGS],
        "has_more_mappings": len(mappings) > _MAPPINGS,
        "usual_mappings": default_mappings(provider),
        "aliases": aliases_of(provider),
        "groups": grouped(settings_of(provider).settings, has_file=file is not None),
    }


def owner_text(provider: Provider, *, shares: int) -> str:
    if provider.tenant is not None:
        return provider.tenant.slug
    return f"Platform, for {used_by(provider, shares=shares).lower()}"


def used_by(provider: Provider, *, shares: int) -> str:
    if provider.tenant is not None:
        return f"Only {provider.tenant.slug}"
    if provider.is_shared_with_all:
        return "Every tenant"
    return f"{shares} chosen tenant{'' if shares == 1 else 's'}" if shares else "No tenant"


def credentials_of(provider: Provider) -> list[Credential]:
    return list(_without_secrets().filter(provider=provider))


def _without_secrets() -> QuerySet[Credential]:
    rows: QuerySet[Credential] = Credential.objects.select_related("tenant").defer("sealed")
    return rows.order_by("-priority", "label")


def aliases_of(provider: Provider) -> list[Alias]:
    rows = Alias.objects.filter(targets__provider=provider).select_related("tenant")
    return list(rows.distinct().order_by("name", "pk"))


def dependents(provider: Provider) -> Dependents:
    aliases = aliases_of(provider)
    elsewhere = set(
        Alias.objects.filter(pk__in=[alias.pk for alias in aliases])
        .annotate(
            others=Count(
                "targets", filter=~Q(targets__provider=provider) | Q(targets__provider=None)
            )
        )
        .filter(others__gt=0)
        .values_list("pk", flat=True)
    )
    return Dependents(
        credentials=tuple(row.label for row in credentials_of(provider)),
        models=provider.models.count(),
        mappings=provider.mappings.count(),
        tenants=provider.shares.count(),
        aliases=tuple(alias.name for alias in aliases if alias.pk in elsewhere),
        aliases_left_empty=tuple(alias.name for alias in aliases if alias.pk not in elsewhere),
    )


def grouped(
    settings: tuple[Setting, ...], *, has_file: bool
) -> list[tuple[str, list[ShownSetting]]]:
    """By what they are about. Without a file of the catalog, what nobody said is a default."""
    place = {first: title for title, names in _GROUPS for first in names}
    out: dict[str, list[ShownSetting]] = {title: [] for title, _ in _GROUPS}
    for setting in settings:
        title = place.get(setting.name.partition(".")[0], "Everything else")
        out.setdefault(title, []).append(
            ShownSetting(
                name=_words(setting.name),
                value=_value(setting.value),
                origin=_ORIGINS[setting.origin if has_file else _without_file(setting.origin)],
                bundle=setting.owner,
            )
        )
    return [(title, shown) for title, shown in out.items() if shown]


def _without_file(origin: Origin) -> Origin:
    return "default" if origin == "catalog" else origin


def key_sources(provider: Provider, effective: Effective | None) -> list[str]:
    """Whose key requests show, first to last: see credentials/resolution.py. People's own logins
    serve them alone and are left out."""
    if effective is None or effective.scheme.scheme == "none":
        return []
    refs = references(provider, effective, provider.tenant_id, {})
    return [f"{_SOURCES[ref.source]}: {ref.label}" for ref in refs]


def credential_badge(row: Credential) -> Badge:
    state: StateChoices = Credential.State.of(row.state)
    return Badge(str(state.label), state.tone, row.state_reason)


def credential_holds(row: Credential) -> str:
    """What may be shown of where its secret is."""
    if row.source == Credential.Source.STORED:
        return row.fingerprint or "nothing yet"
    return f"{row.get_source_display()}: {row.reference}"


def list_query(sent: QueryDict) -> str:
    """The search that a form came from, to go back to it."""
    found = {name: str(sent[name])[:100] for name in _QUERY if sent.get(name)}
    return f"?{urlencode(found)}" if found else ""


def _models_shown(lines: list[ModelLine], query: QueryDict) -> dict[str, Any]:
    search, show = query.get("find", "")[:100], query.get("show", "")
    words = search.lower().split()
    found = [line for line in lines if line.matches(words)]
    if show in {"on", "off"}:
        found = [line for line in found if (line.offer is Offer.ON) == (show == "on")]
    page = Paginator(found, MODELS_A_PAGE).get_page(query.get("page"))
    sent = {"find": search, "show": show}
    kept = {name: str(value) for name, value in sent.items() if value}
    return {
        "page": page,
        "search": search,
        "show": show,
        "found": len(found),
        "total": len(lines),
        "on": sum(line.offer is Offer.ON for line in lines),
        "before": _page_link(kept, page.previous_page_number()) if page.has_previous() else "",
        "after": _page_link(kept, page.next_page_number()) if page.has_next() else "",
    }


def _page_link(kept: dict[str, str], number: int) -> str:
    return f"?{urlencode({**kept, 'page': str(number)})}#models"


def _takes(file: ProviderFile | None, provider: Provider) -> str:
    """What a person can add to it: `key`, `optional` (a key, where the server asks for one),
    `login` or `nothing`."""
    usual = provider.auth_type or (file.auth.type if file is not None else "api_key")
    others: set[str] = set()
    if file is not None and not provider.auth_type:
        # One with headers of its own works only once the settings name it.
        others = {name for name, other in file.auth.alternatives.items() if not other.headers}
    if usual == "none":
        return "optional" if others & PASTED else "nothing"
    return "key" if {usual, *others} & PASTED else "login"


def _bar(check: ProviderCheck) -> Bar:
    finding = Finding.of(check.finding)
    return Bar(finding.tone, str(finding.label), check.at, check.sentence)


def _credential(row: Credential) -> ShownCredential:
    ends = moment(row.expires_at, empty="")
    if row.expires_at is not None and row.expires_at <= clock.now():
        ends = f"ended {ends}"
    return ShownCredential(
        row=row,
        badge=credential_badge(row),
        holds=credential_holds(row),
        since=moment(row.state_since or row.created_at),
        ends=ends,
    )


def _words(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    first, dot, rest = name.partition(".")
    if first == "headers" and dot:
        return f"Header {rest}"
    words = (rest if dot else first).replace("_", " ")
    return words[:1].upper() + words[1:]


def _value(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return dumps_str(value)
