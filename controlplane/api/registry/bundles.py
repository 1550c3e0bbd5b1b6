"""The registry as one file: out, looked at, and in. For platform staff: it is everybody's."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.fields import StrictSerializer
from controlplane.api.permissions import IsPlatformStaff
from controlplane.api.providers.fields import SecretText
from controlplane.api.view import ControlView
from providers.bundle import apply as bundles
from providers.bundle.document import Bundle, read, write
from providers.bundle.export import export
from providers.bundle.plan import Plan
from providers.bundle.secrets import Secrets, secrets_of
from providers.bundle.text import MOST_BYTES
from providers.catalog.models import Provider


class BundleSerializer(serializers.Serializer[Any]):
    bundle = serializers.CharField(help_text="YAML, without secrets.")


class NewBundleSerializer(StrictSerializer):
    bundle = serializers.CharField(
        max_length=MOST_BYTES, trim_whitespace=False, help_text="YAML; docs/registry.md has it all."
    )
    secrets = serializers.DictField(
        child=SecretText(),
        required=False,
        write_only=True,
        help_text="By `registration/label`, of a tenant's `tenant:registration/label`: for "
        "credentials that are new, or whose host changes.",
    )
    secret_headers = serializers.DictField(
        child=serializers.DictField(child=SecretText()),
        required=False,
        write_only=True,
        help_text="By registration, then by name of the header.",
    )


class FieldStepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class StepSerializer(serializers.Serializer[Any]):
    action = serializers.ChoiceField(["create", "change", "remove"])
    what = serializers.CharField()
    name = serializers.CharField()
    fields = FieldStepSerializer(many=True)  # type: ignore[assignment]  # the base uses the name for itself


class RemarkSerializer(serializers.Serializer[Any]):
    place = serializers.CharField()
    sentence = serializers.CharField()


class PlanSerializer(serializers.Serializer[Any]):
    is_applied = serializers.BooleanField()
    steps = StepSerializer(many=True, help_text="Empty: the registry is so already.")
    notes = RemarkSerializer(many=True, help_text="What is still to be done by hand.")
    problems = RemarkSerializer(many=True, help_text="With any of these nothing is written.")


def plan_shown(plan: Plan, *, is_applied: bool) -> dict[str, Any]:
    """As the serializers say; a step's fields would hide those of the serializer itself."""
    return {
        "is_applied": is_applied,
        "steps": [
            {
                "action": step.action,
                "what": step.what,
                "name": step.name,
                "fields": [
                    {"name": field.name, "before": field.before, "after": field.after}
                    for field in step.fields
                ],
            }
            for step in plan.steps
        ],
        "notes": [{"place": one.place, "sentence": one.sentence} for one in plan.notes],
        "problems": [{"place": one.place, "sentence": one.sentence} for one in plan.problems],
    }


class StaffView(ControlView):
    queryset = Provider.objects.all()
    permission_classes = (IsAuthenticated, IsPlatformStaff)


@extend_schema(tags=["registry"])
class ExportView(StaffView):
    @extend_schema(
        operation_id="export_registry",
        summary="The registry as a bundle (platform staff)",
        description="Registrations, models, mappings, aliases, sharing and policies as people set "
        "them. Credentials are references; what refreshes and checks found is left out.",
        responses=BundleSerializer,
    )
    def get(self, request: Request) -> Response:
        return Response({"bundle": write(export())})


@extend_schema(tags=["registry"])
class PlanView(StaffView):
    @extend_schema(
        operation_id="plan_registry",
        summary="What a bundle would change (platform staff)",
        request=NewBundleSerializer,
        responses=PlanSerializer,
    )
    def post(self, request: Request) -> Response:
        bundle, secrets = _wanted(self)
        return Response(plan_shown(bundles.plan(bundle, secrets=secrets), is_applied=False))


@extend_schema(tags=["registry"])
class ApplyView(StaffView):
    @extend_schema(
        operation_id="apply_registry",
        summary="Make the registry as a bundle says (platform staff)",
        description="All of it or nothing. Twice changes nothing.",
        request=NewBundleSerializer,
        responses={
            200: PlanSerializer,
            400: OpenApiResponse(description="Nothing was written; `plan` says everything."),
        },
    )
    def post(self, request: Request) -> Response:
        bundle, secrets = _wanted(self)
        return Response(plan_shown(bundles.apply(bundle, secrets=secrets), is_applied=True))


def _wanted(view: ControlView) -> tuple[Bundle, Secrets]:
    wanted = view.validated(NewBundleSerializer)
    secrets = secrets_of(wanted.get("secrets", {}), wanted.get("secret_headers", {}))
    return read(wanted["bundle"]), secrets
