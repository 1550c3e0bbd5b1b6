"""Models of a connected account that have terms of their own: read them, and accept one's."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer
from controlplane.api.view import ControlView
from providers.credentials.models import Credential
from providers.oauth import model_terms
from providers.oauth.access import (
    access_login_credential,
    access_own_login_credential,
    person_of,
    scope_of,
)
from providers.oauth.model_terms import Link, ModelTerms


class TermsLinkSerializer(serializers.Serializer[Link]):
    text = serializers.CharField()
    url = serializers.CharField()


class ModelTermsSerializer(serializers.Serializer[ModelTerms]):
    id = serializers.CharField()
    name = serializers.CharField()
    is_enabled = serializers.BooleanField(help_text="Its terms are accepted: it answers.")
    terms = serializers.CharField(help_text="The vendor's words; empty: it sent none.")
    links = TermsLinkSerializer(many=True, help_text="What these words refer to.")


class ModelsWithTermsSerializer(serializers.Serializer[dict[str, object]]):
    items = ModelTermsSerializer(many=True)


class AcceptTermsSerializer(StrictSerializer):
    model = serializers.CharField(max_length=255, help_text="An `id` of the list.")


@extend_schema(tags=["logins"])
class ConnectionModelsView(ControlView):
    queryset = Credential.objects.none()

    @extend_schema(
        operation_id="list_models_with_terms",
        summary="Models of a connected account whose makers have terms of their own",
        description="Asks the provider, and waits for it. Other models need nothing accepted.",
        responses=ModelsWithTermsSerializer,
    )
    def get(self, request: Request, connection_id: str) -> Response:
        row = access_login_credential(self.caller, connection_id)
        with scope_of(row):
            found = model_terms.terms_of(row) if model_terms.has_terms(row.provider) else []
        return Response(ModelsWithTermsSerializer({"items": found}).data)


@extend_schema(tags=["logins"])
class AcceptTermsView(ControlView):
    queryset = Credential.objects.none()

    @extend_schema(
        operation_id="accept_model_terms",
        summary="Accept the terms of one model, in the name of who signed in",
        description="Read them first: this agrees with the model's maker for the account. Only "
        "the person who signed in may do it.",
        request=AcceptTermsSerializer,
        responses={
            200: ModelsWithTermsSerializer,
            403: OpenApiResponse(description="Not who signed in, or an organisation decides."),
        },
    )
    def post(self, request: Request, connection_id: str) -> Response:
        person_of(self.caller)
        row = access_own_login_credential(self.caller, connection_id)
        model = self.validated(AcceptTermsSerializer)["model"]
        with scope_of(row):
            model_terms.accept(row, model)
            found = model_terms.terms_of(row)
        return Response(ModelsWithTermsSerializer({"items": found}).data)
