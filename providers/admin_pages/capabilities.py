"""Models and what they can do, across all registrations, each answer with who gave it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.core.paginator import Paginator
from django.http import QueryDict
from django.utils.http import urlencode

from providers.catalog.effective import EffectiveModel
from providers.catalog.features import FEATURES, Capability, capabilities, facts_of
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.schema import Feature, Model
from providers.routing.view import settings_or_problem

ROWS_A_PAGE: Final = 50
_SOURCES: Final = {
    "model": "the model's facts",
    "provider": "the provider's features",
    "probe": "a probe",
    "unknown": "nobody yet",
}


@dataclass(frozen=True, slots=True)
class Cell:
    answer: str
    source: str
    hint: str


@dataclass(frozen=True, slots=True)
class Line:
    provider: Provider
    model: EffectiveModel
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class _Offered:
    provider: Provider
    model: EffectiveModel
    features: dict[str, bool]
    catalogued: Model | None

    def answers(self) -> tuple[Capability, ...]:
        return capabilities(
            model=facts_of(self.model, self.catalogued),
            provider=self.features,
            probed=self.provider.probed_features,
        )


def context_of(query: QueryDict) -> dict[str, Any]:
    """Filtered before anything is worked out, so that a page costs what it shows."""
    slug = str(query.get("provider", ""))[:63]
    search = str(query.get("find", ""))[:100]
    feature = query.get("can", "")
    words = search.lower().split()
    registered = list(
        Provider.objects.filter(is_enabled=True)
        .select_related("tenant")
        .prefetch_related("models")
        .order_by("slug", "pk")
    )
    found = [
        offered
        for offered in _offered([row for row in registered if slug in {"", row.slug}])
        if all(word in _text(offered) for word in words)
    ]
    if feature in FEATURES:
        found = [one for one in found if _can(one, feature)]
    page = Paginator(found, ROWS_A_PAGE).get_page(query.get("page"))
    sent = {"provider": slug, "find": search, "can": feature}
    kept = {name: str(value) for name, value in sent.items() if value}

    def link(number: int) -> str:
        return f"?{urlencode({**kept, 'page': str(number)})}"

    return {
        "features": [(name, name.replace("_", " ").capitalize()) for name in FEATURES],
        "providers": sorted({row.slug for row in registered}),
        "lines": [_line(offered) for offered in page],
        "page": page,
        "found": len(found),
        "chosen_provider": slug,
        "search": search,
        "chosen_feature": feature,
        "is_filtered": bool(kept),
        "before": link(page.previous_page_number()) if page.has_previous() else "",
        "after": link(page.next_page_number()) if page.has_next() else "",
    }


def _offered(providers: list[Provider]) -> Iterator[_Offered]:
    for provider in providers:
        settings, _ = settings_or_problem(provider)
        if settings is None:
            continue
        file = catalog().get(provider.catalog_id) if provider.catalog_id else None
        known = {model.id: model for model in (file.models if file is not None else ())}
        for model in settings.models:
            yield _Offered(provider, model, settings.features, known.get(model.spec.id))


def _text(offered: _Offered) -> str:
    model = offered.model
    return " ".join((offered.provider.slug, model.display_name, *model.names)).lower()


def _can(offered: _Offered, feature: Feature) -> bool:
    return any(answer.is_supported for answer in offered.answers() if answer.feature == feature)


def _line(offered: _Offered) -> Line:
    return Line(
        provider=offered.provider,
        model=offered.model,
        cells=tuple(_cell(answer) for answer in offered.answers()),
    )


def _cell(answer: Capability) -> Cell:
    word = {True: "yes", False: "no", None: "unknown"}[answer.is_supported]
    name = answer.feature.replace("_", " ").capitalize()
    return Cell(
        answer=word,
        source=answer.source,
        hint=f"{name}: {word}, says {_SOURCES[answer.source]}"
        if answer.is_supported is not None
        else f"{name}: nobody knows yet",
    )
