"""What a tenant's programs ask of the registry with their key: which providers they may use, what
those offer and can do, how they fare. Changes take the scope `manage`, and only reach the tenant's
own registrations."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.authentication import KeyAuthentication
from controlplane.api.errors import InvalidParameter, UnknownParameter
from controlplane.api.fields import StrictSerializer
from controlplane.api.providers.fields import Limits
from controlplane.api.providers.warnings import Warnings, warned
from controlplane.api.view import ControlView
from controlplane.proxy.errors import UnknownModel
from providers.access import usable
from providers.bundle.ownership import warnings_of_fields
from providers.catalog.features import FEATURES, Capability
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.services import set_enabled
from providers.catalog.settings_shown import limits_of
from providers.health.models import FINE, Finding, Standing
from providers.health.services import standing_of, timeline, with_latest_check
from providers.routing import view as registry
from providers.routing.plan import nearest_names
from providers.routing.table import RouteTable
from tenants import scope
from tenants.errors import KeyForbidden, NotFound, RoleForbidden
from tenants.keys import rules
from tenants.keys.caller import KeyCaller
from tenants.keys.models import KeyScope
from tenants.members.models import Membership

Role = Membership.Role
_CHECKS: Final = 30


class TenantKey(KeyAuthentication):
    """Any key of a tenant's: a program that calls models may know which there are."""

    opened_by = frozenset(KeyScope)


class TenantKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its metaclass
    target_class = "controlplane.api.providers.tenant.TenantKey"
    name = "tenantKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "pcp_live_…",
            "description": "A tenant's API key with the scope `proxy`. The dialects' own headers "
            "(x-api-key, api-key, x-goog-api-key) work as well.",
        }


class LatestSerializer(serializers.Serializer[Any]):
    finding = serializers.ChoiceField(Finding.choices)
    is_ok = serializers.BooleanField()
    at = serializers.DateTimeField()


class UsableProviderSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="As in `name/model`.")
    display_name = serializers.CharField()
    kind = serializers.ChoiceField(Provider.Kind.choices)
    owner = serializers.ChoiceField(["platform", "tenant"])
    is_enabled = serializers.BooleanField()
    state = serializers.ChoiceField(Standing.choices)
    protocol = serializers.CharField()
    docs = serializers.CharField(help_text="The vendor's own documentation.")
    models = serializers.IntegerField(help_text="How many models your key may call there.")
    max_context_window = serializers.IntegerField(help_text="The largest; 0: unknown.")
    health = LatestSerializer(allow_null=True)


class UsableProvidersSerializer(serializers.Serializer[Any]):
    items = UsableProviderSerializer(many=True)


class ProviderDetailSerializer(UsableProviderSerializer):
    problem = serializers.CharField(help_text="Why it cannot work; empty: it can.")
    features = serializers.DictField(child=serializers.BooleanField())
    limits = Limits()
    warnings = Warnings()


class EnabledSerializer(StrictSerializer):
    enabled = serializers.BooleanField()


class UsableModelSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="What the provider calls it.")
    names = serializers.ListField(
        child=serializers.CharField(),
        help_text="What you may call it, aliases and prefixes applied; empty: the provider takes "
        "no requests now.",
    )
    display_name = serializers.CharField()
    kind = serializers.CharField()
    context_window = serializers.IntegerField(help_text="0: unknown.")
    max_output_tokens = serializers.IntegerField(help_text="0: unknown.")
    modalities = serializers.ListField(child=serializers.CharField())
    reasoning = serializers.BooleanField()
    functions = serializers.BooleanField()
    streaming = serializers.BooleanField()
    price = serializers.DictField(
        child=serializers.JSONField(),
        allow_null=True,
        help_text="US dollars per million tokens, as text; null: unknown, or not shown to you.",
    )


class UsableModelsSerializer(serializers.Serializer[Any]):
    items = UsableModelSerializer(many=True)


class CapabilitySerializer(serializers.Serializer[Any]):
    feature = serializers.ChoiceField(FEATURES)
    is_supported = serializers.BooleanField(allow_null=True, help_text="null: nobody knows.")
    source = serializers.ChoiceField(  # type: ignore[assignment]  # the base uses the name for itself
        ["model", "provider", "probe", "unknown"], help_text="Who says so."
    )


class ProviderCapabilitiesSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    max_context_window = serializers.IntegerField()
    max_output_tokens = serializers.IntegerField()
    capabilities = CapabilitySerializer(many=True)


class CheckedSerializer(LatestSerializer):
    milliseconds = serializers.IntegerField(allow_null=True)


class StatusSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    is_enabled = serializers.BooleanField()
    state = serializers.ChoiceField(Standing.choices)
    problem = serializers.CharField()
    checks = CheckedSerializer(many=True, help_text="The latest, oldest first.")


class ServingSerializer(serializers.Serializer[Any]):
    provider = serializers.CharField()
    model = serializers.CharField()
    capabilities = CapabilitySerializer(many=True)


class ModelCapabilitiesSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    capabilities = CapabilitySerializer(
        many=True, help_text="Of the first that would be tried; the others may differ."
    )
    providers = ServingSerializer(many=True)


class TenantView(ControlView):
    """What a key sees. Nothing here is paged: a tenant's providers are few."""

    authentication_classes = (TenantKey,)
    parameters: ClassVar[frozenset[str]] = frozenset()

    @property
    def key(self) -> KeyCaller:
        found: KeyCaller = self.request.user  # type: ignore[assignment]  # keys alone get in here
        return found

    @property
    def tenant_id(self) -> uuid.UUID:
        return self.key.tenant_id

    @cached_property
    def table(self) -> RouteTable:
        return registry.table_of(self.tenant_id)

    @cached_property
    def providers(self) -> list[Provider]:
        """What the tenant may use; its own come first where two have one name."""
        with scope.platform("providers of a tenant"):
            rows = with_latest_check(usable(self.tenant_id)).prefetch_related(
                "models", "mappings", "credentials"
            )
            return sorted(rows, key=lambda row: (row.slug, row.tenant_id is None))

    def provider(self, name: str) -> Provider:
        for row in self.providers:
            if row.slug == name:
                return row
        raise NotFound("There is no provider of this name that you may use.")

    def allows(self, model: str) -> bool:
        return self._patterns is None or self._patterns.fullmatch(model) is not None

    @cached_property
    def _patterns(self) -> re.Pattern[str] | None:
        return rules.model_patterns(self.key.allowed_models)

    def _check_query(self, request: Request) -> None:
        unknown = sorted(set(request.query_params) - self.parameters)
        if unknown:
            known = ", ".join(sorted(self.parameters)) or "none"
            raise UnknownParameter(
                f"The parameter {unknown[0][:100]!r} is not known here; there are: {known}.",
                param=unknown[0][:100],
            )

    def described(self, provider: Provider) -> dict[str, Any]:
        settings, problem = registry.settings_or_problem(provider)
        models = (
            registry.models_of(provider, settings, self.table, self.allows)
            if settings is not None
            else []
        )
        file = catalog().get(provider.catalog_id) if provider.catalog_id else None
        return {
            "name": provider.slug,
            "display_name": provider.name or (file.name if file is not None else ""),
            "kind": provider.kind,
            "owner": "tenant" if provider.tenant_id else "platform",
            "is_enabled": provider.is_enabled,
            "state": standing_of(provider, is_broken=settings is None),
            "protocol": settings.protocol if settings is not None else provider.protocol,
            "docs": file.docs if file is not None else "",
            "models": sum(1 for model in models if model.names),
            "max_context_window": max(
                (model.model.spec.context_window for model in models), default=0
            ),
            "health": latest_of(provider),
            "problem": problem if provider.tenant_id else problem and "Ask the operator.",
            "features": settings.features if settings is not None else {},
            "limits": limits_of(provider, file),
        }


@extend_schema(tags=["providers"])
class ProvidersView(TenantView):
    @extend_schema(
        operation_id="list_usable_providers",
        summary="The providers you may use",
        responses=UsableProvidersSerializer,
    )
    def get(self, request: Request) -> Response:
        items = [self.described(provider) for provider in self.providers]
        return Response(UsableProvidersSerializer({"items": items}).data)


@extend_schema(tags=["providers"])
class ProviderView(TenantView):
    @extend_schema(
        operation_id="read_usable_provider",
        summary="One provider you may use",
        responses=ProviderDetailSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        found = self.described(self.provider(name))
        return Response(ProviderDetailSerializer(found).data)


@extend_schema(tags=["providers"])
class EnabledView(TenantView):
    @extend_schema(
        operation_id="switch_own_provider",
        summary="Switch one of the tenant's own providers on or off",
        description="With a key that has the scope `manage` and acts as an admin. Within a second "
        "every gateway knows.",
        request=EnabledSerializer,
        responses={
            200: ProviderDetailSerializer,
            403: OpenApiResponse(description="The provider is the platform's, or the key may not."),
        },
    )
    def put(self, request: Request, name: str) -> Response:
        provider = self.provider(name)
        wanted = self.validated(EnabledSerializer)["enabled"]
        if self.key.is_read_only:
            raise KeyForbidden("This API key lacks the scope 'manage': it may read, not change.")
        if self.key.role not in {Role.ADMIN, Role.OWNER}:
            raise RoleForbidden("This takes the role admin or above.")
        if provider.tenant_id is None:
            raise RoleForbidden(
                "This provider is the platform's: its operator switches it on and off."
            )
        with scope.tenant(self.tenant_id):
            is_changed = set_enabled(provider, is_enabled=wanted)
        answer = Response(ProviderDetailSerializer(self.described(provider)).data)
        return warned(answer, warnings_of_fields(provider, ["is_enabled"]) if is_changed else [])


@extend_schema(tags=["models"])
class ModelsView(TenantView):
    @extend_schema(
        operation_id="list_usable_models",
        summary="The models of a provider that you may use",
        responses=UsableModelsSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        provider = self.provider(name)
        settings, _ = registry.settings_or_problem(provider)
        shows_prices = registry.shows_prices_to(self.tenant_id)
        found = (
            registry.models_of(provider, settings, self.table, self.allows)
            if settings is not None
            else []
        )
        items = [
            {
                "id": entry.model.spec.id,
                "names": entry.names,
                "display_name": entry.model.display_name,
                "kind": entry.model.kind,
                "context_window": entry.model.spec.context_window,
                "max_output_tokens": entry.model.spec.max_output_tokens,
                "modalities": entry.model.spec.modalities,
                "reasoning": entry.model.spec.reasoning,
                "functions": entry.model.functions,
                "streaming": entry.model.streaming,
                "price": registry.price_shown(entry.model, provider, shows_prices=shows_prices),
            }
            for entry in found
        ]
        return Response(UsableModelsSerializer({"items": items}).data)


@extend_schema(tags=["providers"])
class CapabilitiesOfProviderView(TenantView):
    @extend_schema(
        operation_id="read_provider_capabilities",
        summary="What a provider can do",
        responses=ProviderCapabilitiesSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        provider = self.provider(name)
        settings, _ = registry.settings_or_problem(provider)
        models = settings.models if settings is not None else ()
        found: Iterable[Capability] = (
            registry.capabilities_of(provider, settings, None) if settings is not None else ()
        )
        data = {
            "name": provider.slug,
            "max_context_window": max((model.spec.context_window for model in models), default=0),
            "max_output_tokens": max((model.spec.max_output_tokens for model in models), default=0),
            "capabilities": found,
        }
        return Response(ProviderCapabilitiesSerializer(data).data)


@extend_schema(tags=["providers"])
class StatusView(TenantView):
    @extend_schema(
        operation_id="read_provider_status",
        summary="How a provider fares",
        responses=StatusSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        provider = self.provider(name)
        settings, problem = registry.settings_or_problem(provider)
        with scope.platform("checks of a provider"):
            checks = timeline(provider, limit=_CHECKS)
        data = {
            "name": provider.slug,
            "is_enabled": provider.is_enabled,
            "state": standing_of(provider, is_broken=settings is None),
            "problem": problem if provider.tenant_id else problem and "Ask the operator.",
            "checks": checks,
        }
        return Response(StatusSerializer(data).data)


@extend_schema(tags=["models"])
class CapabilitiesView(TenantView):
    parameters = frozenset({"model", "feature"})

    @extend_schema(
        operation_id="ask_capabilities",
        summary="Can this model do that?",
        description="Answered from what is known of the model itself, then of the provider, then "
        "from what tests have shown; each answer names its source.",
        parameters=[
            OpenApiParameter(
                "model", OpenApiTypes.STR, required=True, description="As you would call it."
            ),
            OpenApiParameter(
                "feature",
                OpenApiTypes.STR,
                enum=list(FEATURES),
                description="Only this; left out: all of them.",
            ),
        ],
        responses=ModelCapabilitiesSerializer,
    )
    def get(self, request: Request) -> Response:
        name = request.query_params.get("model", "")
        feature = request.query_params.get("feature")
        if not name:
            raise InvalidParameter("Say which model: ?model=…", param="model")
        if feature is not None and feature not in FEATURES:
            raise InvalidParameter(
                f"There is no feature {feature[:100]!r}; there are {', '.join(FEATURES)}.",
                param="feature",
            )
        found = registry.servings(name, self.table, self.providers) if self.allows(name) else []
        if not found:
            near = nearest_names(name, self.table, self.allows)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise UnknownModel(
                f"There is no model {name[:200]!r} that you may use.{hint}", param="model"
            )
        providers = [
            {
                "provider": serving.provider.slug,
                "model": serving.model.spec.id,
                "capabilities": _only(serving.capabilities, feature),
            }
            for serving in found
        ]
        data = {
            "model": name,
            "capabilities": providers[0]["capabilities"],
            "providers": providers,
        }
        return Response(ModelCapabilitiesSerializer(data).data)


def latest_of(provider: Provider) -> dict[str, Any] | None:
    """The latest check without its sentence, which may name hosts of the operator's."""
    finding = getattr(provider, "health_finding", None)
    if finding is None:
        return None
    return {
        "finding": finding,
        "is_ok": finding in FINE,
        "at": provider.health_at,  # type: ignore[attr-defined]  # annotated
    }


def _only(found: Iterable[Capability], feature: str | None) -> list[Capability]:
    return [entry for entry in found if feature is None or entry.feature == feature]
