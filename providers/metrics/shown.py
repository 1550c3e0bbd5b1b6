"""The figures as JSON for a tenant, and as Prometheus text for the operator."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from controlplane.kit.json import JSONDict
from providers.metrics.figures import Figures, quantile
from providers.metrics.traffic import by_model
from providers.routing.models import Resting
from tenants import scope

WINDOWS: Final = (1, 5, 60)
QUANTILES: Final = (0.5, 0.95, 0.99)
# Bar T5. One provider has at most some 25 series: the busiest keep their name.
MOST_SERIES: Final = 500
NAMED_PROVIDERS: Final = 15
OTHER: Final = "other"
_PROMETHEUS_MINUTES: Final = 5


def figures_shown(figures: Figures) -> JSONDict:
    ratio = figures.success_ratio
    return {
        "requests": figures.requests,
        "success_ratio": None if ratio is None else round(ratio, 4),
        "errors": dict(sorted(figures.failures.items())),
        "latency_seconds": _quantiles(figures.latencies),
        "first_token_seconds": _quantiles(figures.first_tokens),
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "cost_nanos": figures.cost_nanos,
    }


def tenant_view(tenant_id: uuid.UUID, providers: dict[str, str], now: datetime) -> JSONDict:
    """What the tenant's own requests showed. `providers` maps the ids of those it may use to
    their slugs: of those it is told, too, what rests."""
    with scope.tenant(tenant_id):
        windows = {minutes: by_model(now=now, minutes=minutes) for minutes in WINDOWS}
    entries: list[JSONDict] = []
    for provider, model in sorted(windows[max(WINDOWS)]):
        entries.append(
            {
                "provider": provider,
                "model": model,
                "windows": {
                    f"{minutes}m": figures_shown(windows[minutes].get((provider, model), Figures()))
                    for minutes in WINDOWS
                },
            }
        )
    with scope.platform("rests of the providers asked for"):
        rests = list(
            Resting.objects.filter(provider_id__in=list(providers), until__gt=now).order_by(
                "until"
            )[:100]
        )
    resting = [
        {
            "provider": providers[str(row.provider_id)],
            "model": row.model or None,
            "reason": row.outcome,
            "until": row.until.isoformat(),
        }
        for row in rests
    ]
    return {"object": "list", "data": entries, "resting": resting}


def prometheus_text(now: datetime) -> str:
    """Of all tenants, without naming one: the last five minutes, per provider."""
    with scope.platform("figures for Prometheus"):
        models = by_model(now=now, minutes=_PROMETHEUS_MINUTES)
        resting = list(
            Resting.objects.filter(until__gt=now).values_list("provider__slug", flat=True)
        )
    providers: dict[str, Figures] = {}
    for (provider, _), figures in models.items():
        providers.setdefault(provider, Figures()).add(figures)
    named = _folded(providers)
    rests: dict[str, int] = {}
    for slug in resting:
        name = slug if slug in named else OTHER
        rests[name] = rests.get(name, 0) + 1
    lines: list[str] = []
    for metric, explanation, samples in _metrics(named, rests):
        lines += [f"# HELP {metric} {explanation}", f"# TYPE {metric} gauge", *samples]
    return "\n".join(lines) + "\n"


def _folded(providers: dict[str, Figures]) -> dict[str, Figures]:
    busiest = sorted(providers, key=lambda name: (-providers[name].requests, name))
    folded: dict[str, Figures] = {}
    for place, name in enumerate(busiest):
        folded.setdefault(name if place < NAMED_PROVIDERS else OTHER, Figures()).add(
            providers[name]
        )
    return folded


def _metrics(
    providers: dict[str, Figures], rests: dict[str, int]
) -> Iterable[tuple[str, str, list[str]]]:
    yield (
        "gateway_provider_requests_5m",
        "Requests of the last five minutes by how they ended.",
        [
            _sample("gateway_provider_requests_5m", provider, count, outcome=outcome)
            for provider, figures in providers.items()
            for outcome, count in {"ok": figures.succeeded, **figures.failures}.items()
        ],
    )
    for name, explanation, of in (
        ("latency_seconds_5m", "Time to the end of an answer.", "latencies"),
        ("first_token_seconds_5m", "Time to the first content.", "first_tokens"),
    ):
        metric = f"gateway_provider_{name}"
        yield (
            metric,
            explanation,
            [
                _sample(metric, provider, round(value, 4), quantile=str(share))
                for provider, figures in providers.items()
                for share in QUANTILES
                if (value := quantile(getattr(figures, of), share)) is not None
            ],
        )
    for name, explanation, of in (
        ("input_tokens_5m", "Tokens of prompts.", "input_tokens"),
        ("output_tokens_5m", "Tokens of answers.", "output_tokens"),
        ("cost_nanodollars_5m", "What it cost, as far as prices are known.", "cost_nanos"),
    ):
        metric = f"gateway_provider_{name}"
        yield (
            metric,
            explanation,
            [_sample(metric, provider, getattr(f, of)) for provider, f in providers.items()],
        )
    metric = "gateway_provider_resting"
    yield (
        metric,
        "Places (provider, credential, model) that rest now.",
        [_sample(metric, provider, count) for provider, count in sorted(rests.items())],
    )


def _sample(metric: str, provider: str, value: float, **labels: str) -> str:
    words = {"provider": provider, **labels}
    written = ",".join(f'{name}="{_escaped(text)}"' for name, text in words.items())
    return f"{metric}{{{written}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _quantiles(counts: list[int]) -> JSONDict:
    found = {f"p{round(share * 100)}": quantile(counts, share) for share in QUANTILES}
    return {name: None if value is None else round(value, 4) for name, value in found.items()}
