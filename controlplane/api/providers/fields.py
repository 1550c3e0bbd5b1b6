"""Pieces that several representations share."""

from __future__ import annotations

import uuid
from typing import Any, Final

from rest_framework import serializers
from rest_framework.fields import empty

from controlplane.api.errors import InvalidParameter
from controlplane.kit.secret import Secret
from providers.catalog import validators
from providers.catalog.models import Provider
from providers.health.models import FINE, Finding

_LONGEST_SECRET: Final = 65_536


class SecretText(serializers.CharField):
    """Goes in and never comes out. Becomes a Secret before anything else sees it."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("help_text", "Stored sealed; nobody can read it again.")
        options.setdefault("max_length", _LONGEST_SECRET)
        options.setdefault("trim_whitespace", True)
        super().__init__(write_only=True, **options)

    def run_validation(self, data: Any = empty) -> Any:
        value = super().run_validation(data)
        return Secret(value) if isinstance(value, str) else value


class Texts(serializers.DictField):
    """Names and texts."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("child", serializers.CharField(max_length=1000, allow_blank=True))
        super().__init__(**options)


class AnyObject(serializers.DictField):
    """Names and values of any kind; the service says what is wrong with one."""


class Features(serializers.DictField):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            child=serializers.BooleanField(),
            help_text=f"Feature to yes or no. There are {', '.join(validators.FEATURES)}.",
            **options,
        )


class Limits(serializers.DictField):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            child=serializers.IntegerField(min_value=0, max_value=2_147_483_647),
            help_text=f"0 = none. There are {', '.join(validators.LIMITS)}.",
            **options,
        )


class HealthSerializer(serializers.Serializer[Any]):
    """The latest check."""

    finding = serializers.ChoiceField(Finding.choices)
    is_ok = serializers.BooleanField()
    sentence = serializers.CharField()
    at = serializers.DateTimeField()


def health_of(provider: Provider) -> dict[str, Any] | None:
    """Of a row that was read `with_latest_check`. None = never checked."""
    finding = getattr(provider, "health_finding", None)
    if finding is None:
        return None
    return {
        "finding": finding,
        "is_ok": finding in FINE,
        "sentence": provider.health_sentence,  # type: ignore[attr-defined]  # annotated
        "at": provider.health_at,  # type: ignore[attr-defined]  # annotated
    }


def secrets_by_id(given: dict[str, Secret]) -> dict[uuid.UUID, Secret]:
    """`{"credential id": "secret"}` as the services take it."""
    try:
        return {uuid.UUID(name): secret for name, secret in given.items()}
    except ValueError:
        raise InvalidParameter(
            "`secrets` names credentials by their id.", param="secrets"
        ) from None
