"""Registrations and keys of other programs, looked at first. Secrets go straight to the vault."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.errors import InvalidParameter
from controlplane.api.fields import StrictSerializer
from controlplane.api.providers.fields import SecretText
from controlplane.api.registry.bundles import PlanSerializer, StaffView, plan_shown
from controlplane.kit.secret import Secret
from providers.bundle import apply as bundles
from providers.bundle.text import MOST_BYTES
from providers.imports import cliproxy, environment, pi
from providers.imports.found import Imported


class FileText(SecretText):
    """A whole file, in which secrets stand."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MOST_BYTES, trim_whitespace=False, required=False, **options)


class NewImportSerializer(StrictSerializer):
    origin = serializers.ChoiceField(["cliproxy", "pi", "environment"])
    content = FileText(
        help_text="`cliproxy`: the text of config.yaml. `environment`: lines of NAME=value."
    )
    auth = FileText(help_text="`pi`: the text of auth.json.")
    models = FileText(help_text="`pi`: the text of models.json.")
    tenant = serializers.CharField(
        max_length=63, default="", help_text="Slug: into this tenant. Empty: the platform."
    )
    is_dry_run = serializers.BooleanField(default=True, help_text="Only say what would change.")


class IgnoredSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    reason = serializers.CharField()


class ImportedSerializer(PlanSerializer):
    ignored = IgnoredSerializer(many=True, help_text="Keys that were not taken over, and why.")


@extend_schema(tags=["registry"])
class ImportView(StaffView):
    @extend_schema(
        operation_id="import_registry",
        summary="Take over registrations and keys of another program (platform staff)",
        description="A dry run unless said otherwise. No command in a file is run, and no file "
        "that one names is read here.",
        request=NewImportSerializer,
        responses=ImportedSerializer,
    )
    def post(self, request: Request) -> Response:
        wanted = self.validated(NewImportSerializer)
        found = _read(wanted)
        do = bundles.plan if wanted["is_dry_run"] else bundles.apply
        done = do(found.bundle, secrets=found.secrets)
        shown = plan_shown(done, is_applied=not wanted["is_dry_run"])
        ignored = [{"key": one.key, "reason": one.reason} for one in found.ignored]
        return Response({**shown, "ignored": ignored})


def _read(wanted: dict[str, Any]) -> Imported:
    origin, tenant = wanted["origin"], wanted["tenant"]
    takes = ("auth", "models") if origin == "pi" else ("content",)
    for name in ("content", "auth", "models"):
        if name in wanted and name not in takes:
            raise InvalidParameter(f"{origin!r} takes {' and '.join(takes)}.", param=name)
    if not any(name in wanted for name in takes):
        raise InvalidParameter(f"Send {' or '.join(takes)}.", param=takes[0])
    if origin == "pi":
        return pi.read(auth=wanted.get("auth"), models=wanted.get("models"), tenant=tenant)
    content: Secret = wanted["content"]
    if origin == "cliproxy":
        return cliproxy.read(content, tenant=tenant)
    return environment.read(content, tenant=tenant)
