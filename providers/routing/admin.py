"""Routing in the console: aliases and their pools, how each tenant is routed, what rests now, and
what was decided for each request."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from controlplane.console.actions import bulk_action
from controlplane.console.explaining import explain_page
from controlplane.console.filters import TenantFilter
from controlplane.console.forms import LinesField, VersionedForm
from controlplane.console.pages import (
    NavEntry,
    Page,
    ReadOnlyPage,
    adopt,
    detail_page,
    list_page,
    moment,
)
from controlplane.kit import clock
from controlplane.kit.badges import Badge, Tone
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.routing import aliases
from providers.routing.aliases import PoolEntry
from providers.routing.models import Alias, Resting, RouteTrace, RoutingPolicy
from providers.routing.policy import own_policy, set_policy
from providers.routing.rules import EDITABLE
from providers.routing.sharing import end_rests
from providers.routing.strategies import STRATEGIES
from providers.routing.traces import decided_again

_EVERYBODY = "all tenants"


def pool_entries(lines: list[str], tenant_id: uuid.UUID | None) -> list[PoolEntry]:
    """`registration/model` where there is such a registration, else a model of any. A tenant's own
    registration comes before the platform's of the same name."""
    slugs = {line.partition("/")[0] for line in lines}
    rows = Provider.objects.filter(Q(tenant=None) | Q(tenant_id=tenant_id), slug__in=slugs)
    # The tenant's own last: they take the place of the platform's.
    ordered = sorted(rows, key=lambda provider: provider.tenant_id is not None)
    found = {provider.slug: provider for provider in ordered}
    entries = []
    for line in lines:
        slug, slash, model = line.partition("/")
        provider = found.get(slug) if slash and model else None
        entries.append(PoolEntry(model if provider else line, provider))
    return entries


class AliasForm(VersionedForm):
    pool = LinesField(
        label="Stands for",
        help_text="registration/model, or a model's name alone for whoever has it: one per line, "
        "tried in this order unless another way of choosing is set.",
        required=True,
    )

    class Meta:
        model = Alias
        fields = (
            *("tenant", "name", "is_enabled", "strategy", "is_reported_as_alias"),
            "total_timeout_seconds",
        )
        labels = {"total_timeout_seconds": "Longest answer, in seconds"}
        help_texts = {
            "tenant": "Empty: every tenant may use it.",
            "name": "What clients ask for.",
            "is_reported_as_alias": "Answers name the alias instead of the model that served.",
            "total_timeout_seconds": "Of a request with all its attempts, to its last byte. Empty: "
            "as for every other.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.initial["pool"] = [str(entry) for entry in aliases.pool_of(self.instance)]


@admin.register(Alias)
class AliasPage(Page):
    nav_group = "Routing"
    nav_title = "Aliases"
    nav_icon = "alt_route"
    nav_order = 10
    empty_title = "No aliases yet"
    empty_text = (
        "An alias is a name of your own for a model, or for several that stand in for each other. "
        "Clients keep the name while you change what is behind it."
    )
    empty_label = "Create an alias"

    form = AliasForm
    list_display = ("title", "state", "pool_shown", "way", "owner")
    list_filter = ("is_enabled", TenantFilter)
    list_select_related = ("tenant",)
    search_fields = ("name", "targets__model")
    ordering = ("name",)
    autocomplete_fields = ("tenant",)
    actions = ("enable", "disable")
    is_deletable = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alias]:
        found: QuerySet[Alias] = super().get_queryset(request)
        return found.prefetch_related("targets__provider")

    def get_readonly_fields(self, request: HttpRequest, obj: Alias | None = None) -> Any:
        return () if obj is None else ("tenant",)

    def get_fieldsets(self, request: HttpRequest, obj: Alias | None = None) -> Any:
        about = ["tenant", "name", "pool", "strategy", "is_reported_as_alias"]
        about += ["total_timeout_seconds", "is_enabled"]
        return ((None, {"fields": about if obj is None else [*about, "seen_version"]}),)

    @admin.display(description="alias", ordering="name")
    def title(self, row: Alias) -> SafeString:
        return format_html('<span class="cell-main cell-code">{}</span>', row.name)

    @admin.display(description="state")
    def state(self, row: Alias) -> SafeString:
        badge = Badge("On", Tone.GOOD) if row.is_enabled else Badge("Off", Tone.QUIET)
        return badge.html()

    @admin.display(description="stands for")
    def pool_shown(self, row: Alias) -> str:
        names = [
            f"{target.provider.slug}/{target.model}" if target.provider else target.model
            for target in sorted(row.targets.all(), key=lambda target: target.position)
        ]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return " → ".join(names[:3]) + more

    @admin.display(description="chosen")
    def way(self, row: Alias) -> str:
        return row.get_strategy_display() or "as its tenant's policy says"

    @admin.display(description="for", ordering="tenant__slug")
    def owner(self, row: Alias) -> str:
        return row.tenant.slug if row.tenant is not None else _EVERYBODY

    def save_model(self, request: HttpRequest, obj: Alias, form: Any, change: bool) -> None:
        data = form.cleaned_data
        entries = pool_entries(data["pool"], obj.tenant_id)
        values = {name: data[name] for name in aliases.EDITABLE}
        if change:
            row = Alias.objects.get(pk=obj.pk)
            version = data["seen_version"]
            adopt(
                obj,
                aliases.change_alias(row, expected_version=version, targets=entries, **values),
            )
            return
        adopt(obj, aliases.create_alias(targets=entries, tenant_id=obj.tenant_id, **values))

    def delete_model(self, request: HttpRequest, obj: Alias) -> None:
        aliases.remove_alias(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Alias]) -> None:
        for row in queryset:
            aliases.remove_alias(row)

    @bulk_action(label="Switch on", done="switched on", already="on before")
    def enable(self, request: HttpRequest, row: Alias) -> bool:
        return aliases.enable_alias(row, is_enabled=True)

    @bulk_action(label="Switch off", done="switched off", already="off before")
    def disable(self, request: HttpRequest, row: Alias) -> bool:
        return aliases.enable_alias(row, is_enabled=False)


class PolicyForm(VersionedForm):
    allowed_strategies = LinesField(
        label="Requests may choose",
        help_text=f"What the header x-route-strategy may ask for, one per line: "
        f"{', '.join(STRATEGIES)}. Empty: any of them.",
    )

    class Meta:
        model = RoutingPolicy
        fields = ("tenant", "strategy", "allowed_strategies", "is_sticky", "shows_route")
        help_texts = {
            "tenant": "Empty: for every tenant that says nothing itself.",
            "strategy": "How one of several usable targets is chosen.",
            "is_sticky": "So that a provider's prompt cache stays warm.",
            "shows_route": "In the headers x-route-provider, x-route-model and x-route-attempts.",
        }

    def clean_tenant(self) -> Any:
        tenant = self.cleaned_data["tenant"]
        known = own_policy(tenant.pk if tenant is not None else None)
        if self.instance._state.adding and not known._state.adding:
            raise ValidationError("There is a policy for it already: change that one.")
        return tenant


@admin.register(RoutingPolicy)
class RoutingPolicyPage(Page):
    nav_group = "Routing"
    nav_title = "Policies"
    nav_icon = "tune"
    nav_order = 20
    empty_title = "Nothing is said yet"
    empty_text = (
        "Without a policy, providers of one priority take turns, conversations keep their "
        "provider, and answers say who served."
    )
    empty_label = "Set a policy"

    form = PolicyForm
    list_display = ("title", "strategy", "is_sticky", "shows_route", "changed")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    ordering = ("tenant__slug",)
    autocomplete_fields = ("tenant",)

    def get_readonly_fields(self, request: HttpRequest, obj: RoutingPolicy | None = None) -> Any:
        return () if obj is None else ("tenant",)

    def get_fieldsets(self, request: HttpRequest, obj: RoutingPolicy | None = None) -> Any:
        fields = ["tenant", *EDITABLE]
        return ((None, {"fields": fields if obj is None else [*fields, "seen_version"]}),)

    @admin.display(description="for", ordering="tenant__slug")
    def title(self, row: RoutingPolicy) -> str:
        return row.tenant.slug if row.tenant is not None else _EVERYBODY

    @admin.display(description="changed", ordering="updated_at")
    def changed(self, row: RoutingPolicy) -> str:
        return moment(row.updated_at)

    def save_model(self, request: HttpRequest, obj: RoutingPolicy, form: Any, change: bool) -> None:
        data = form.cleaned_data
        row = own_policy(obj.tenant_id)
        version = data["seen_version"] if change else None
        values = {name: data[name] for name in EDITABLE}
        adopt(obj, set_policy(row, expected_version=version, **values))


class EndedFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("resting", "Resting now"), ("over", "Over, waits for a first request")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "resting":
                return queryset.filter(until__gt=clock.now())
            case "over":
                return queryset.filter(until__lte=clock.now())
            case _:
                return queryset


@admin.register(Resting)
class RestingPage(Page):
    nav_group = "Routing"
    nav_title = "Resting now"
    nav_icon = "bedtime"
    nav_order = 30
    empty_title = "Nothing rests"
    empty_text = (
        "A provider, key or model that failed five times in a row, or whose provider asked to "
        "wait, is left alone for a while and shown here. It comes back by itself."
    )

    list_display = ("title", "state", "why", "comes_back", "credential", "since_shown")
    list_filter = (EndedFilter,)
    list_select_related = ("provider",)
    search_fields = ("provider__slug", "model")
    ordering = ("-until",)
    list_display_links = None
    actions = ("end",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Rows are the gateways' own; people end them from the list.
        return obj is None and bool(super().has_change_permission(request))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """One query says whose keys rest on this page."""
        listed = super().get_changelist_instance(request)
        listed.result_list = rows = list(listed.result_list)
        ids = {row.credential_id for row in rows if row.credential_id}
        labels = {
            str(pk): label
            for pk, label in Credential.objects.filter(pk__in=ids).values_list("pk", "label")
        }
        for row in rows:
            row.key_label = labels.get(row.credential_id, "removed")
        return listed

    def get_readonly_fields(self, request: HttpRequest, obj: Resting | None = None) -> Any:
        return ("title", "state", "why", "comes_back", "credential", "since_shown")

    def get_fieldsets(self, request: HttpRequest, obj: Resting | None = None) -> Any:
        return ((None, {"fields": self.get_readonly_fields(request, obj)}),)

    @admin.display(description="what rests", ordering="provider__slug")
    def title(self, row: Resting) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub cell-code">{}</span>',
            row.provider.slug,
            row.model or "all models",
        )

    @admin.display(description="state")
    def state(self, row: Resting) -> SafeString:
        is_over = row.until <= clock.now()
        badge = Badge("To be tried again", Tone.INFO) if is_over else Badge("Resting", Tone.WARN)
        return badge.html()

    @admin.display(description="because of", ordering="outcome")
    def why(self, row: Resting) -> str:
        return _WHY.get(row.outcome, row.outcome) + (
            f", {row.times} times in a row" if row.times > 1 else ""
        )

    @admin.display(description="until", ordering="until")
    def comes_back(self, row: Resting) -> str:
        return moment(row.until, has_seconds=True)

    @admin.display(description="credential")
    def credential(self, row: Resting) -> str:
        if not row.credential_id:
            return "all"
        return getattr(row, "key_label", row.credential_id)

    @admin.display(description="since", ordering="since")
    def since_shown(self, row: Resting) -> str:
        return moment(row.since)

    @bulk_action(label="Use it again now", done="may be used again", already="over before")
    def end(self, request: HttpRequest, row: Resting) -> bool:
        return bool(end_rests(row.provider, [row.pk]))


_WHY = {
    "rate": "a rate limit",
    "quota": "a used-up quota",
    "auth": "a refused key",
    "forbidden": "a forbidden model",
    "overload": "errors of the provider",
    "network": "no connection",
    "broken": "broken connections",
    "timeout": "no answer in time",
    "protocol": "unreadable answers",
    "unavailable": "a key that cannot be read",
}


class WhenFilter(admin.SimpleListFilter):
    title = "time"
    parameter_name = "when"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("hour", "The last hour"), ("day", "The last day")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        spans = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
        span = spans.get(self.value() or "")
        return queryset.filter(at__gte=clock.now() - span) if span else queryset


@admin.register(RouteTrace)
class TracePage(ReadOnlyPage):
    nav_group = "Routing"
    nav_title = "Decisions"
    nav_icon = "account_tree"
    nav_order = 40
    nav_more = (NavEntry("Explain a request", "route", "explain", 45),)
    empty_title = "No requests yet"
    empty_text = (
        "For each request it is kept for some days where it went and why: never what was asked "
        "or answered."
    )

    list_display = ("title", "state", "served", "tries", "tenant_slug", "when")
    list_filter = ("outcome", WhenFilter, TenantFilter)
    list_select_related = ("tenant",)
    search_fields = ("request_id", "model", "served_by")
    ordering = ("-at",)
    actions_list = ("explain",)
    actions_detail = ("again",)
    fields = ("title", "state", "when", "tenant_slug", "served", "needs", "tried", "refused")
    readonly_fields = fields

    @admin.display(description="model", ordering="model")
    def title(self, row: RouteTrace) -> SafeString:
        return format_html(
            '<span class="cell-main">{}</span> <span class="cell-sub cell-code">{}</span>',
            row.model,
            row.request_id,
        )

    @admin.display(description="outcome", ordering="outcome")
    def state(self, row: RouteTrace) -> SafeString:
        return RouteTrace.Outcome.of(row.outcome).badge.html()

    @admin.display(description="served by", ordering="served_by")
    def served(self, row: RouteTrace) -> str:
        return row.served_by or "–"

    @admin.display(description="attempts", ordering="attempts")
    def tries(self, row: RouteTrace) -> int:
        return row.attempts

    @admin.display(description="tenant", ordering="tenant__slug")
    def tenant_slug(self, row: RouteTrace) -> str:
        return str(row.tenant.slug)

    @admin.display(description="time", ordering="at")
    def when(self, row: RouteTrace) -> str:
        return moment(row.at, has_seconds=True)

    @admin.display(description="needed")
    def needs(self, row: RouteTrace) -> str:
        needs = row.decision.get("needs", {})
        words = [*needs.get("features", ())]
        if needs.get("most_tokens"):
            words.append(f"room for up to {needs['most_tokens']:,} tokens")
        if needs.get("max_output"):
            words.append(f"{needs['max_output']:,} tokens of answer")
        return ", ".join(words) or "nothing in particular"

    @admin.display(description="tried")
    def tried(self, row: RouteTrace) -> SafeString | str:
        return _lines(
            f"{each['target']}: {each['outcome']}"
            + (f" ({each['code']})" if each["code"] else "")
            + (f", asked again after {each['mended']}" if each.get("mended") else "")
            + f", {each['milliseconds']} ms"
            + (f", key “{each['credential']}”" if each["credential"] else "")
            for each in row.decision.get("tried", ())
        )

    @admin.display(description="not asked")
    def refused(self, row: RouteTrace) -> SafeString | str:
        return _lines(_refusal(each) for each in row.decision.get("refused", ()))

    @list_page(label="Explain a request", path="explain", icon="route")
    def explain(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        back = self.url_of("changelist")
        return explain_page(self, request, strategies=STRATEGIES, back_url=back)

    @detail_page(label="Explain again now", path="again", icon="refresh")
    def again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        trace: RouteTrace = self.row(request, object_id, to_change=False)
        now = decided_again(trace)
        then = [each["target"] for each in trace.decision.get("tried", ())]
        return TemplateResponse(
            request,
            "console/routing/again.html",
            self.context(
                request,
                f"{trace.model}: then and now",
                original=trace,
                then_at=moment(trace.at, has_seconds=True),
                then_order=[*then, *trace.decision.get("next", ())],
                then_refused=[_refusal(each) for each in trace.decision.get("refused", ())],
                now_order=now["order"],
                now_refused=[_refusal(each) for each in now["refused"]],
                is_known=now["is_known"],
                back_url=self.url_of("change", trace.pk),
            ),
        )


def _refusal(each: dict[str, Any]) -> str:
    figures = ""
    if each["code"] == "resting":
        figures = f" because of {_WHY.get(each['detail'], each['detail'])}"
    elif each["limit"]:
        figures = f" ({each['limit']:,.0f}, asked {each['asked']:,.0f})"
    return f"{each['target']}: {each['code'].replace('_', ' ')}{figures}"


def _lines(texts: Any) -> SafeString | str:
    return format_html_join("", "<div>{}</div>", ((text,) for text in texts)) or "–"
