"""Registrations of providers: the platform's are managed by staff, a tenant's by its admins."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from django_filters import BooleanFilter, CharFilter, ChoiceFilter, FilterSet, UUIDFilter
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.providers.fields import (
    AnyObject,
    Features,
    HealthSerializer,
    Limits,
    SecretText,
    Texts,
    health_of,
    secrets_by_id,
)
from controlplane.api.providers.warnings import WARNING, Warnings, warned
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from providers.access import access_provider, manageable, scope_of
from providers.bundle.ownership import warnings_of_fields, warnings_of_removal
from providers.catalog import services
from providers.catalog.models import Provider
from providers.catalog.settings_shown import settings_of
from providers.health.services import with_latest_check
from providers.routing import expectations
from tenants import scope
from tenants.access import Role, access_tenant
from tenants.members.models import Tenant

_BIG = 2_147_483_647


class ProviderSerializer(serializers.Serializer[Provider]):
    """What a registration itself says. Empty values are the catalog's to say: see `effective`."""

    id = serializers.UUIDField()
    tenant_id = serializers.UUIDField(allow_null=True, help_text="null: the platform's.")
    slug = serializers.CharField()
    catalog_id = serializers.CharField(help_text="Empty: a provider of one's own.")
    name = serializers.CharField()
    kind = serializers.ChoiceField(Provider.Kind.choices)
    is_enabled = serializers.BooleanField()
    is_shared_with_all = serializers.BooleanField()
    protocol = serializers.CharField()
    base_url = serializers.CharField()
    auth_type = serializers.CharField()
    endpoint = Texts()
    headers = Texts()
    secret_headers = serializers.ListField(
        source="sealed_header_names",
        child=serializers.CharField(),
        help_text="Names of the headers whose values are stored sealed.",
    )
    prefix = serializers.CharField()
    force_model_prefix = serializers.BooleanField(allow_null=True)
    priority = serializers.IntegerField()
    weight = serializers.IntegerField()
    cooldown_seconds = serializers.IntegerField(allow_null=True)
    features = Features()
    quirks = AnyObject()
    limits = Limits()
    excluded_models = serializers.ListField(child=serializers.CharField())
    default_context_window = serializers.IntegerField()
    default_max_output_tokens = serializers.IntegerField()
    store_responses = serializers.BooleanField()
    passes_unknown_models = serializers.BooleanField()
    proxy_url = serializers.CharField()
    ca_certificate = serializers.CharField()
    connect_timeout_seconds = serializers.FloatField(allow_null=True)
    first_byte_timeout_seconds = serializers.FloatField(allow_null=True)
    idle_timeout_seconds = serializers.FloatField(allow_null=True)
    total_timeout_seconds = serializers.FloatField(allow_null=True)
    fallback_notes = serializers.CharField()
    owned_by = serializers.CharField(help_text="The bundle that made it; empty: a person.")
    owned_fields = Texts(help_text="Fields that the next apply of a bundle would set again.")
    probed_features = Features()
    probed_at = serializers.DateTimeField(allow_null=True)
    health = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")
    warnings = Warnings()

    @extend_schema_field(HealthSerializer(allow_null=True))
    def get_health(self, provider: Provider) -> dict[str, Any] | None:
        return health_of(provider)


class ProviderChangesSerializer(StrictSerializer):
    catalog_id = serializers.CharField(
        max_length=63,
        allow_blank=True,
        required=False,
        help_text="A provider of the catalog, by id or by another name of it.",
    )
    name = serializers.CharField(max_length=120, allow_blank=True, required=False)
    is_enabled = serializers.BooleanField(required=False)
    protocol = serializers.CharField(max_length=63, allow_blank=True, required=False)
    base_url = serializers.CharField(max_length=500, allow_blank=True, required=False)
    auth_type = serializers.CharField(max_length=24, allow_blank=True, required=False)
    endpoint = Texts(required=False, help_text="Non-secret identifiers that URLs need.")
    headers = Texts(required=False, help_text="Sent with every request; no secrets.")
    secret_headers = serializers.DictField(
        child=SecretText(),
        required=False,
        write_only=True,
        help_text="All secret headers, by name; what is not named is taken away.",
    )
    secrets = serializers.DictField(
        child=SecretText(),
        required=False,
        write_only=True,
        help_text="Stored secrets again, by credential id: needed where the scheme, host or port "
        "changes that they are sent to.",
    )
    prefix = serializers.CharField(max_length=63, allow_blank=True, required=False)
    force_model_prefix = serializers.BooleanField(allow_null=True, required=False)
    priority = serializers.IntegerField(min_value=-_BIG, max_value=_BIG, required=False)
    weight = serializers.IntegerField(min_value=0, max_value=1_000_000, required=False)
    cooldown_seconds = serializers.IntegerField(
        min_value=0, max_value=86_400, allow_null=True, required=False
    )
    features = Features(required=False)
    quirks = AnyObject(required=False)
    limits = Limits(required=False)
    excluded_models = serializers.ListField(
        child=serializers.CharField(max_length=255),
        max_length=200,
        required=False,
        help_text="Names or globs such as `*-preview`: hidden from clients.",
    )
    default_context_window = serializers.IntegerField(min_value=0, max_value=_BIG, required=False)
    default_max_output_tokens = serializers.IntegerField(
        min_value=0, max_value=_BIG, required=False
    )
    store_responses = serializers.BooleanField(required=False)
    passes_unknown_models = serializers.BooleanField(required=False)
    proxy_url = serializers.CharField(max_length=500, allow_blank=True, required=False)
    ca_certificate = serializers.CharField(max_length=65_536, allow_blank=True, required=False)
    connect_timeout_seconds = serializers.FloatField(
        min_value=0.1, max_value=3600, allow_null=True, required=False
    )
    first_byte_timeout_seconds = serializers.FloatField(
        min_value=0.1, max_value=3600, allow_null=True, required=False
    )
    idle_timeout_seconds = serializers.FloatField(
        min_value=0.1, max_value=3600, allow_null=True, required=False
    )
    total_timeout_seconds = serializers.FloatField(
        min_value=0.1, max_value=3600, allow_null=True, required=False
    )
    fallback_notes = serializers.CharField(max_length=10_000, allow_blank=True, required=False)


class NewProviderSerializer(ProviderChangesSerializer):
    secrets = None  # type: ignore[assignment]  # nothing is stored yet
    slug = serializers.RegexField(
        r"^[a-z0-9][a-z0-9._-]{0,62}\Z",
        help_text="The name in model names such as `slug/model`. It stays for ever.",
        error_messages={
            "invalid": "Use up to 63 lower-case letters, digits, dots, hyphens and underscores."
        },
    )


class SettingSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    value = serializers.JSONField(allow_null=True)
    origin = serializers.ChoiceField(["catalog", "platform", "tenant", "default"])
    owner = serializers.CharField(help_text="The bundle that set it; empty: a person.")


class EffectiveModelSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    names = serializers.ListField(child=serializers.CharField())
    display_name = serializers.CharField()
    kind = serializers.CharField()
    protocol = serializers.CharField()
    context_window = serializers.IntegerField(help_text="0: unknown.")
    max_output_tokens = serializers.IntegerField(help_text="0: unknown.")
    origins = Texts(help_text="Which layer decided a value.")


class EffectiveSerializer(serializers.Serializer[Any]):
    problem = serializers.CharField(help_text="Why it cannot work; empty: it can.")
    settings = SettingSerializer(many=True)
    models = EffectiveModelSerializer(many=True)


class SharingSerializer(serializers.Serializer[Any]):
    with_all = serializers.BooleanField()
    tenant_ids = serializers.ListField(child=serializers.UUIDField())
    warnings = Warnings()


class NewSharingSerializer(StrictSerializer):
    with_all = serializers.BooleanField()
    tenant_ids = serializers.ListField(
        child=serializers.UUIDField(),
        max_length=1000,
        default=[],
        help_text="Those who may use it where not all may.",
    )


class ProviderFilters(FilterSet):  # type: ignore[misc]  # untyped
    slug = CharFilter()
    catalog_id = CharFilter()
    kind = ChoiceFilter(choices=Provider.Kind.choices)
    is_enabled = BooleanFilter()

    class Meta:
        model = Provider
        fields: tuple[str, ...] = ("slug", "catalog_id", "kind", "is_enabled")


class AllProviderFilters(ProviderFilters):
    tenant_id = UUIDFilter(field_name="tenant_id")

    class Meta(ProviderFilters.Meta):
        fields = (*ProviderFilters.Meta.fields, "tenant_id")


@extend_schema(tags=["providers"])
class ProvidersView(ControlView):
    is_list = True
    queryset = Provider.objects.all()
    filterset_class = AllProviderFilters

    def get_permissions(self) -> list[BasePermission]:
        found: list[BasePermission] = [IsAuthenticated()]
        # Asked without a request while the schema is made.
        if getattr(self.request, "method", None) == "POST":
            found.append(IsPlatformStaff())
        return found

    @extend_schema(
        operation_id="list_providers",
        summary="The registrations you may manage or look at",
        responses=ProviderSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        with scope.platform("registrations of a caller"):
            rows = with_latest_check(manageable(self.caller, Provider.objects.all()))
            return self.page(rows, ProviderSerializer)

    @extend_schema(
        operation_id="register_platform_provider",
        summary="Register a provider for the platform (platform staff)",
        description="A known `catalog_id` brings everything along, and what is given here is "
        "layered on top. Without one, give `protocol` and `base_url`.",
        request=NewProviderSerializer,
        responses={
            201: ProviderSerializer,
            409: OpenApiResponse(description="The slug is taken."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request) -> Response:
        with scope.platform("a registration of the platform"):
            return _created(self, None)


@extend_schema(tags=["providers"])
class TenantProvidersView(ControlView):
    is_list = True
    queryset = Provider.objects.all()
    filterset_class = ProviderFilters

    @extend_schema(
        operation_id="list_tenant_providers",
        summary="A tenant's own registrations",
        responses=ProviderSerializer(many=True),
    )
    def get(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id)
        with scope.tenant(tenant.id):
            # In a tenant's scope the platform's registrations show too.
            own = Provider.objects.filter(tenant_id=tenant.id)
            return self.page(with_latest_check(own), ProviderSerializer)

    @extend_schema(
        operation_id="register_tenant_provider",
        summary="Register a provider for a tenant (admins)",
        request=NewProviderSerializer,
        responses={
            201: ProviderSerializer,
            409: OpenApiResponse(description="The slug is taken."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, tenant_id: str) -> Response:
        tenant = access_tenant(self.caller, tenant_id, at_least=Role.ADMIN)
        with scope.tenant(tenant.id):
            return _created(self, tenant.id)


@extend_schema(tags=["providers"])
class ProviderView(ControlView):
    queryset = Provider.objects.all()

    @extend_schema(
        operation_id="read_provider",
        summary="One registration",
        responses=ProviderSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, provider_id: str) -> Response:
        return shown(self, access_provider(self.caller, provider_id, write=False))

    @extend_schema(
        operation_id="replace_provider",
        summary="Replace a registration (admins)",
        description="It becomes exactly this: what is not given goes back to its default. "
        "Credentials, models and mappings stay.",
        request=ProviderChangesSerializer,
        responses=ProviderSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def put(self, request: Request, provider_id: str) -> Response:
        return self._change(request, provider_id, services.replace_registration)

    @extend_schema(
        operation_id="change_provider",
        summary="Change a registration (admins)",
        description="Where scheme, host or port change that a stored secret is sent to, send the "
        "secret again in `secrets`.",
        request=ProviderChangesSerializer,
        responses=ProviderSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, provider_id: str) -> Response:
        return self._change(request, provider_id, services.change_registration)

    @extend_schema(
        operation_id="remove_provider",
        summary="Take a registration away, with its models, mappings and credentials (admins)",
        responses={204: None},
        parameters=[IF_MATCH, WARNING],
    )
    def delete(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        seen_version(request, provider)
        with scope_of(provider):
            services.remove(provider)
        return warned(Response(status=204), warnings_of_removal(provider))

    def _change(self, request: Request, provider_id: str, change: Any) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        values = self.validated(ProviderChangesSerializer)
        version = seen_version(request, provider)
        secrets = secrets_by_id(values.pop("secrets", {}))
        before = services.shown(provider)
        if values or request.method == "PUT":
            with scope_of(provider), expectations.guarded():
                change(provider, expected_version=version, secrets=secrets, **values)
        after = services.shown(provider)
        differs = [name for name in before if before[name] != after[name]]
        return warned(shown(self, provider), warnings_of_fields(provider, differs))


@extend_schema(tags=["providers"])
class EnableProviderView(ControlView):
    queryset = Provider.objects.all()

    @extend_schema(
        operation_id="enable_provider",
        summary="Switch a registration on (admins)",
        request=None,
        responses=ProviderSerializer,
        parameters=[ETAG],
    )
    def post(self, request: Request, provider_id: str) -> Response:
        return _switched(self, provider_id, is_enabled=True)


@extend_schema(tags=["providers"])
class DisableProviderView(ControlView):
    queryset = Provider.objects.all()

    @extend_schema(
        operation_id="disable_provider",
        summary="Switch a registration off (admins)",
        description="Within a second no gateway sends it requests.",
        request=None,
        responses=ProviderSerializer,
        parameters=[ETAG],
    )
    def post(self, request: Request, provider_id: str) -> Response:
        return _switched(self, provider_id, is_enabled=False)


@extend_schema(tags=["providers"])
class EffectiveView(ControlView):
    queryset = Provider.objects.all()

    @extend_schema(
        operation_id="read_effective_settings",
        summary="What is used, and where each value comes from",
        responses=EffectiveSerializer,
    )
    def get(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=False)
        with scope_of(provider):
            found = settings_of(provider)
        return Response(EffectiveSerializer(found).data)


@extend_schema(tags=["providers"])
class SharingView(ControlView):
    queryset = Provider.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)

    @extend_schema(
        operation_id="read_sharing",
        summary="Who may use a registration of the platform (platform staff)",
        responses=SharingSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=False)
        return self._sharing(provider)

    @extend_schema(
        operation_id="share_provider",
        summary="Share a registration of the platform with all tenants or some (platform staff)",
        request=NewSharingSerializer,
        responses=SharingSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def put(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        wanted = self.validated(NewSharingSerializer)
        seen_version(request, provider)
        tenants = _tenants(wanted["tenant_ids"])
        with scope.platform("share a registration"), expectations.guarded():
            services.share(provider, with_all=wanted["with_all"], tenants=tenants)
        said = warnings_of_fields(provider, ["is_shared_with_all", "shared_with"])
        return warned(self._sharing(provider), said)

    def _sharing(self, provider: Provider) -> Response:
        with scope.platform("who shares a registration"):
            ids = list(provider.shares.order_by("tenant_id").values_list("tenant_id", flat=True))
        data = {"with_all": provider.is_shared_with_all, "tenant_ids": ids}
        return Response(SharingSerializer(data).data, headers={"ETag": f'"{provider.version}"'})


def shown(view: ControlView, provider: Provider) -> Response:
    """One registration with its latest check, as it is now."""
    return view.one(_fresh(provider), ProviderSerializer)


def _fresh(provider: Provider) -> Provider:
    with scope_of(provider):
        found: QuerySet[Provider] = with_latest_check(Provider.objects.filter(pk=provider.pk))
        return found.get()


def _created(view: ControlView, tenant_id: uuid.UUID | None) -> Response:
    wanted = view.validated(NewProviderSerializer)

    def create() -> Created:
        with expectations.guarded():
            provider = services.register(tenant_id=tenant_id, **wanted)
        location = reverse("api-provider", args=[provider.id])
        return Created(view.shown(provider, ProviderSerializer), location, provider)

    return create_once(view, tenant_id=tenant_id, create=create)


def _switched(view: ControlView, provider_id: str, *, is_enabled: bool) -> Response:
    provider = access_provider(view.caller, provider_id, write=True)
    with scope_of(provider):
        is_changed = services.set_enabled(provider, is_enabled=is_enabled)
    said = warnings_of_fields(provider, ["is_enabled"]) if is_changed else []
    return warned(shown(view, provider), said)


def _tenants(ids: list[uuid.UUID]) -> list[Tenant]:
    found = list(Tenant.objects.filter(pk__in=ids))
    missing = sorted({str(tenant_id) for tenant_id in ids} - {str(row.pk) for row in found})
    if missing:
        raise serializers.ValidationError({"tenant_ids": [f"There is no tenant {missing[0]}."]})
    return found
