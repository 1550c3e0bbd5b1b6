"""What providers did in the last hour, in the console: one line each, with a small chart."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from controlplane.console import dashboard
from controlplane.console.pages import ReadOnlyPage
from controlplane.kit import clock
from controlplane.kit.badges import Badge, Tone
from providers.metrics.figures import Figures, quantile
from providers.metrics.models import TrafficMinute
from providers.metrics.traffic import figures_of
from tenants.quotas.models import shown

MINUTES: Final = 60
_HEIGHT: Final = 24
_MOST_LINES: Final = 200
# Below this share of good answers somebody should look.
_POOR: Final = 0.95


@dataclass(slots=True)
class Line:
    provider: str
    model: str
    figures: Figures = field(default_factory=Figures)
    minutes: list[int] = field(default_factory=lambda: [0] * MINUTES)

    @property
    def success(self) -> Badge:
        ratio = self.figures.success_ratio
        if ratio is None:
            return Badge("–", Tone.QUIET)
        tone = Tone.GOOD if ratio >= 0.99 else Tone.WARN if ratio >= _POOR else Tone.BAD
        return Badge(f"{ratio:.1%}", tone)

    @property
    def errors(self) -> str:
        found = sorted(self.figures.failures.items(), key=lambda pair: -pair[1])
        return ", ".join(f"{count} {outcome}" for outcome, count in found[:3]) or "–"

    @property
    def latency(self) -> str:
        return _seconds(self.figures.latencies)

    @property
    def first_token(self) -> str:
        return _seconds(self.figures.first_tokens)

    @property
    def tokens(self) -> str:
        return f"{self.figures.input_tokens:,} → {self.figures.output_tokens:,}"

    @property
    def cost(self) -> str:
        return shown("money", self.figures.cost_nanos) if self.figures.cost_nanos else "–"

    @property
    def bars(self) -> list[tuple[int, int, int]]:
        """(x, y, height) of each minute, the latest at the right."""
        most = max(self.minutes) or 1
        tall = [-(-count * _HEIGHT // most) for count in self.minutes]
        return [(place * 2, _HEIGHT - high, high) for place, high in enumerate(tall) if high]


def _seconds(counts: list[int]) -> str:
    found = [quantile(counts, share) for share in (0.5, 0.95, 0.99)]
    return " / ".join("–" if value is None else f"{value:.2f}" for value in found)


def lines(now: datetime) -> list[Line]:
    """The busiest first. In the platform's scope."""
    first = now.astimezone(UTC).replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
    found: dict[tuple[str, str], Line] = {}
    for row in TrafficMinute.objects.since(first).iterator(chunk_size=2_000):
        line = found.setdefault((row.provider, row.model), Line(row.provider, row.model))
        line.figures.add(figures_of(row))
        place = int((row.minute - first).total_seconds() // 60)
        line.minutes[min(place, MINUTES - 1)] += row.requests
    ordered = sorted(found.values(), key=lambda line: -line.figures.requests)
    return ordered[:_MOST_LINES]


@admin.register(TrafficMinute)
class TrafficPage(ReadOnlyPage):
    nav_group = "Routing"
    nav_title = "Traffic"
    nav_icon = "monitoring"
    nav_order = 5
    ordering = ("-minute",)
    empty_title = "No traffic in the last hour"
    empty_text = "As soon as requests are answered, each provider's figures show here."

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.GET:
            # There is nothing to filter by here, so nothing may be asked about (bar T4).
            raise DisallowedModelAdminLookup("This page takes no parameters.")
        return TemplateResponse(
            request,
            "console/metrics/traffic.html",
            self.context(
                request,
                "Traffic of the last hour",
                lines=lines(clock.now()),
                width=MINUTES * 2,
                height=_HEIGHT,
                empty_title=self.empty_title,
                empty_text=self.empty_text,
            ),
        )


@dashboard.card(order=60)
def traffic_card(_request: HttpRequest) -> dashboard.Card:
    total = Figures()
    poor = 0
    for line in lines(clock.now()):
        total.add(line.figures)
        ratio = line.figures.success_ratio
        poor += ratio is not None and ratio < _POOR
    ratio = total.success_ratio
    return dashboard.Card(
        title="Requests to providers",
        figure=f"{total.requests:,}",
        note="in the last hour" + ("" if ratio is None else f", {ratio:.1%} answered"),
        url=reverse("admin:providers_trafficminute_changelist"),
        icon="monitoring",
        badges=(Badge(f"{poor} with many errors", Tone.BAD),) if poor else (),
    )
