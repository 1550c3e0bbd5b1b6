"""Does it work? Tests a registration, refreshes its models, and shows how it fared."""

from __future__ import annotations

from typing import Any

from django_filters import BooleanFilter, ChoiceFilter, FilterSet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import MomentFilter, StrictSerializer
from controlplane.api.view import ControlView
from providers.access import access_credential, access_provider, scope_of
from providers.health.models import Finding, ProviderCheck
from providers.health.services import check_provider
from providers.inventory.services import refresh_provider

_SPELLED_OUT = 200


class CheckSerializer(serializers.Serializer[ProviderCheck]):
    id = serializers.UUIDField()
    at = serializers.DateTimeField()
    is_ok = serializers.BooleanField()
    finding = serializers.ChoiceField(Finding.choices)
    sentence = serializers.CharField(help_text="What was found and what to do.")
    milliseconds = serializers.IntegerField(allow_null=True, help_text="null: nothing was sent.")


class ProbeSerializer(CheckSerializer):
    models = serializers.IntegerField(
        allow_null=True, help_text="How many models the provider lists; null: it was not asked."
    )


class NewProbeSerializer(StrictSerializer):
    credential_id = serializers.UUIDField(
        allow_null=True,
        default=None,
        help_text="With which credential; null: the one that requests would try first.",
    )


class NewRefreshSerializer(StrictSerializer):
    is_dry_run = serializers.BooleanField(default=False, help_text="Only say what would change.")


class FactChangeSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class RefreshedSerializer(serializers.Serializer[Any]):
    problem = serializers.CharField(help_text="Why no list came; empty: it did.")
    written = serializers.IntegerField(help_text="Rows made, changed or taken away.")
    added = serializers.ListField(child=serializers.CharField())
    added_count = serializers.IntegerField()
    changed = FactChangeSerializer(many=True)
    changed_count = serializers.IntegerField()
    gone = serializers.ListField(
        child=serializers.CharField(), help_text="Known here and not in the list."
    )
    gone_count = serializers.IntegerField()


@extend_schema(tags=["providers"])
class ProbeView(ControlView):
    queryset = ProviderCheck.objects.all()

    @extend_schema(
        operation_id="probe_provider",
        summary="Test the connection (admins)",
        description="Asks for the provider's models or makes the smallest real call, for at most "
        "a minute. The answer is 200 whatever was found: see `is_ok`.",
        request=NewProbeSerializer,
        responses=ProbeSerializer,
    )
    def post(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        wanted = self.validated(NewProbeSerializer)["credential_id"]
        credential = None
        if wanted is not None:
            credential = access_credential(self.caller, provider_id, wanted, write=True)
        with scope_of(provider):
            check, verdict = check_provider(provider, credential=credential)
        shown = self.shown(check, CheckSerializer)
        return Response({**shown, "models": verdict.models})


class CheckFilters(FilterSet):  # type: ignore[misc]  # untyped
    is_ok = BooleanFilter()
    finding = ChoiceFilter(choices=Finding.choices)
    since = MomentFilter(field_name="at", lookup_expr="gte")
    until = MomentFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = ProviderCheck
        fields = ("is_ok", "finding")


@extend_schema(tags=["providers"])
class ChecksView(ControlView):
    is_list = True
    queryset = ProviderCheck.objects.all()
    filterset_class = CheckFilters

    @extend_schema(
        operation_id="list_checks",
        summary="How a registration fared, newest first",
        responses=CheckSerializer(many=True),
    )
    def get(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=False)
        with scope_of(provider):
            return self.page(provider.checks.all(), CheckSerializer)


@extend_schema(tags=["models"])
class RefreshView(ControlView):
    queryset = ProviderCheck.objects.all()

    @extend_schema(
        operation_id="refresh_models",
        summary="Ask the provider which models it has (admins)",
        description="Differences are kept as overrides of this registration; rows that a person "
        "wrote stay as they are.",
        request=NewRefreshSerializer,
        responses=RefreshedSerializer,
    )
    def post(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        is_dry_run = self.validated(NewRefreshSerializer)["is_dry_run"]
        with scope_of(provider):
            done = refresh_provider(provider, write=not is_dry_run)
        difference = done.difference
        shown = {
            "problem": done.problem,
            "written": done.written,
            "added": [model.id for model in difference.added[:_SPELLED_OUT]],
            "added_count": len(difference.added),
            "changed": difference.changed[:_SPELLED_OUT],
            "changed_count": len(difference.changed),
            "gone": list(difference.gone[:_SPELLED_OUT]),
            "gone_count": len(difference.gone),
        }
        return Response(RefreshedSerializer(shown).data)
