"""What a registration says of its models, and which names it takes for them."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from django_filters import BooleanFilter, CharFilter, ChoiceFilter, FilterSet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer
from controlplane.api.idempotency import IDEMPOTENCY_KEY, Created, create_once
from controlplane.api.providers.fields import AnyObject, SecretText, secrets_by_id
from controlplane.api.providers.warnings import WARNING, Warnings, warned
from controlplane.api.versioning import ETAG, IF_MATCH, seen_version
from controlplane.api.view import ControlView
from providers.access import access_mapping, access_model, access_provider, scope_of
from providers.bundle.ownership import warnings_of_change, warnings_of_removal
from providers.catalog import model_services
from providers.catalog.models import ModelMapping, ProviderModel
from providers.routing import expectations

_BIG = 2_147_483_647


class ModelSerializer(serializers.Serializer[ProviderModel]):
    """A row of the registration's own; empty facts are the catalog's to say."""

    id = serializers.UUIDField()
    provider_id = serializers.UUIDField()
    upstream_id = serializers.CharField(help_text="What the provider calls it.")
    alias = serializers.CharField(help_text="What clients call it; empty: the same.")
    display_name = serializers.CharField()
    is_enabled = serializers.BooleanField()
    origin = serializers.ChoiceField(ProviderModel.Origin.choices)
    protocol = serializers.CharField()
    context_window = serializers.IntegerField(allow_null=True)
    max_output_tokens = serializers.IntegerField(allow_null=True)
    supports_functions = serializers.BooleanField(allow_null=True)
    supports_streaming = serializers.BooleanField(allow_null=True)
    facts = AnyObject()
    owned_by = serializers.CharField(help_text="The bundle that made it; empty: a person.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")
    warnings = Warnings()


class ModelChangesSerializer(StrictSerializer):
    alias = serializers.CharField(max_length=255, allow_blank=True, required=False)
    display_name = serializers.CharField(max_length=255, allow_blank=True, required=False)
    is_enabled = serializers.BooleanField(required=False)
    protocol = serializers.CharField(max_length=63, allow_blank=True, required=False)
    context_window = serializers.IntegerField(
        min_value=0, max_value=_BIG, allow_null=True, required=False
    )
    max_output_tokens = serializers.IntegerField(
        min_value=0, max_value=_BIG, allow_null=True, required=False
    )
    supports_functions = serializers.BooleanField(allow_null=True, required=False)
    supports_streaming = serializers.BooleanField(allow_null=True, required=False)
    facts = AnyObject(
        required=False,
        help_text="Other facts as the catalog has them: price, modalities, reasoning, levels, "
        "features, quirks.",
    )
    secrets = serializers.DictField(
        child=SecretText(),
        required=False,
        write_only=True,
        help_text="Stored secrets again, by credential id, where another protocol lives at "
        "another host.",
    )


class NewModelSerializer(ModelChangesSerializer):
    upstream_id = serializers.CharField(max_length=255)


class MappingSerializer(serializers.Serializer[ModelMapping]):
    id = serializers.UUIDField()
    provider_id = serializers.UUIDField()
    client_model = serializers.CharField(help_text="What clients ask for.")
    upstream_model = serializers.CharField(help_text="What this provider calls it.")
    owned_by = serializers.CharField(help_text="The bundle that made it; empty: a person.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(help_text="The ETag is this number in quotes.")
    warnings = Warnings()


class MappingChangesSerializer(StrictSerializer):
    client_model = serializers.CharField(max_length=255, required=False)
    upstream_model = serializers.CharField(max_length=255, required=False)


class NewMappingSerializer(StrictSerializer):
    client_model = serializers.CharField(max_length=255)
    upstream_model = serializers.CharField(max_length=255)


class DefaultsSerializer(serializers.Serializer[Any]):
    added = serializers.IntegerField(help_text="How many rows were written.")


class ModelFilters(FilterSet):  # type: ignore[misc]  # untyped
    search = CharFilter(field_name="upstream_id", lookup_expr="icontains", label="Part of the id.")
    is_enabled = BooleanFilter()
    origin = ChoiceFilter(choices=ProviderModel.Origin.choices)

    class Meta:
        model = ProviderModel
        fields = ("search", "is_enabled", "origin")


@extend_schema(tags=["models"])
class ModelsView(ControlView):
    is_list = True
    queryset = ProviderModel.objects.all()
    filterset_class = ModelFilters

    @extend_schema(
        operation_id="list_models_of_provider",
        summary="What a registration says of its models",
        responses=ModelSerializer(many=True),
    )
    def get(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=False)
        with scope_of(provider):
            return self.page(provider.models.all(), ModelSerializer)

    @extend_schema(
        operation_id="add_model",
        summary="Add a model, or say something else of one the catalog knows (admins)",
        request=NewModelSerializer,
        responses={
            201: ModelSerializer,
            409: OpenApiResponse(description="There is such a row already."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        wanted = self.validated(NewModelSerializer)

        secrets = secrets_by_id(wanted.pop("secrets", {}))

        def create() -> Created:
            with expectations.guarded():
                model = model_services.add_model(provider=provider, secrets=secrets, **wanted)
            location = reverse("api-provider-model", args=[provider.id, model.id])
            return Created(self.shown(model, ModelSerializer), location, model)

        with scope_of(provider):
            return create_once(self, tenant_id=provider.tenant_id, create=create)


@extend_schema(tags=["models"])
class ModelView(ControlView):
    queryset = ProviderModel.objects.all()

    @extend_schema(
        operation_id="read_model_of_provider",
        summary="One row",
        responses=ModelSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, provider_id: str, model_id: str) -> Response:
        model = access_model(self.caller, provider_id, model_id, write=False)
        return self.one(model, ModelSerializer)

    @extend_schema(
        operation_id="change_model",
        summary="Change what a registration says of a model (admins)",
        description="From then on no refresh touches the row.",
        request=ModelChangesSerializer,
        responses=ModelSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, provider_id: str, model_id: str) -> Response:
        model = access_model(self.caller, provider_id, model_id, write=True)
        values = self.validated(ModelChangesSerializer)
        version = seen_version(request, model)
        secrets = secrets_by_id(values.pop("secrets", {}))
        with scope_of(model.provider), expectations.guarded():
            model_services.change_model(model, expected_version=version, secrets=secrets, **values)
        return warned(self.one(model, ModelSerializer), warnings_of_change(model))

    @extend_schema(
        operation_id="remove_model",
        summary="Take a row away: the catalog's word counts again (admins)",
        responses={204: None},
        parameters=[IF_MATCH, WARNING],
    )
    def delete(self, request: Request, provider_id: str, model_id: str) -> Response:
        model = access_model(self.caller, provider_id, model_id, write=True)
        seen_version(request, model)
        with scope_of(model.provider), expectations.guarded():
            model_services.remove_model(model)
        return warned(Response(status=204), warnings_of_removal(model))


@extend_schema(tags=["models"])
class MappingsView(ControlView):
    is_list = True
    queryset = ModelMapping.objects.all()

    @extend_schema(
        operation_id="list_mappings",
        summary="Which names a registration takes for its models",
        responses=MappingSerializer(many=True),
    )
    def get(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=False)
        with scope_of(provider):
            return self.page(provider.mappings.all(), MappingSerializer)

    @extend_schema(
        operation_id="add_mapping",
        summary="Take another name for a model (admins)",
        request=NewMappingSerializer,
        responses={
            201: MappingSerializer,
            409: OpenApiResponse(description="The name is mapped already."),
        },
        parameters=[IDEMPOTENCY_KEY, ETAG],
    )
    def post(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        wanted = self.validated(NewMappingSerializer)

        def create() -> Created:
            with expectations.guarded():
                mapping = model_services.add_mapping(provider, **wanted)
            location = reverse("api-provider-mapping", args=[provider.id, mapping.id])
            return Created(self.shown(mapping, MappingSerializer), location, mapping)

        with scope_of(provider):
            return create_once(self, tenant_id=provider.tenant_id, create=create)


@extend_schema(tags=["models"])
class DefaultMappingsView(ControlView):
    queryset = ModelMapping.objects.all()

    @extend_schema(
        operation_id="add_default_mappings",
        summary="Write the usual names of well-known models as rows (admins)",
        description="Rows like any other: change them or take them away. A name that is mapped "
        "already stays as it is.",
        request=None,
        responses=DefaultsSerializer,
    )
    def post(self, request: Request, provider_id: str) -> Response:
        provider = access_provider(self.caller, provider_id, write=True)
        with scope_of(provider):
            added = model_services.add_default_mappings(provider)
        return Response({"added": added})


@extend_schema(tags=["models"])
class MappingView(ControlView):
    queryset = ModelMapping.objects.all()

    @extend_schema(
        operation_id="read_mapping",
        summary="One mapping",
        responses=MappingSerializer,
        parameters=[ETAG],
    )
    def get(self, request: Request, provider_id: str, mapping_id: str) -> Response:
        mapping = access_mapping(self.caller, provider_id, mapping_id, write=False)
        return self.one(mapping, MappingSerializer)

    @extend_schema(
        operation_id="change_mapping",
        summary="Change a mapping (admins)",
        request=MappingChangesSerializer,
        responses=MappingSerializer,
        parameters=[IF_MATCH, ETAG],
    )
    def patch(self, request: Request, provider_id: str, mapping_id: str) -> Response:
        mapping = access_mapping(self.caller, provider_id, mapping_id, write=True)
        values = self.validated(MappingChangesSerializer)
        version = seen_version(request, mapping)
        with scope_of(mapping.provider), expectations.guarded():
            model_services.change_mapping(mapping, expected_version=version, **values)
        return warned(self.one(mapping, MappingSerializer), warnings_of_change(mapping))

    @extend_schema(
        operation_id="remove_mapping",
        summary="Take a mapping away (admins)",
        responses={204: None},
        parameters=[IF_MATCH, WARNING],
    )
    def delete(self, request: Request, provider_id: str, mapping_id: str) -> Response:
        mapping = access_mapping(self.caller, provider_id, mapping_id, write=True)
        seen_version(request, mapping)
        with scope_of(mapping.provider), expectations.guarded():
            model_services.remove_mapping(mapping)
        return warned(Response(status=204), warnings_of_removal(mapping))
