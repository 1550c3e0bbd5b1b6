"""Fields that refuse what would only fail further down."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import available_timezones

from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils import timezone
from django_filters import IsoDateTimeFilter
from django_filters.fields import IsoDateTimeField
from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """For request bodies: a field that means nothing is refused, since mistyped it would silently
    change nothing."""

    def to_internal_value(self, data: Any) -> Any:
        # What is no object at all is the base's to refuse.
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, Mapping) else []
        if unknown:
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {unknown[0][:100]: f"There is no such field here; there are {known}."}
            )
        return super().to_internal_value(data)


class Moment(serializers.DateTimeField):
    """A time as UTC. One whose UTC form has no year of four digits is refused, not stored."""

    def to_internal_value(self, value: Any) -> datetime:
        moment = super().to_internal_value(value)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise serializers.ValidationError("This time is too far away.") from None


class TimeZone(serializers.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=64, **options)

    def to_internal_value(self, data: Any) -> str:
        name: str = super().to_internal_value(data)
        if name not in available_timezones():
            raise serializers.ValidationError("Use a name of the IANA list, such as Europe/Berlin.")
        return name


class _MomentField(IsoDateTimeField):  # type: ignore[misc]  # untyped
    def clean(self, value: Any) -> datetime | None:
        moment = super().clean(value)
        if moment is None:
            return None
        try:
            aware = moment if timezone.is_aware(moment) else timezone.make_aware(moment, UTC)
            return aware.astimezone(UTC)
        except OverflowError:
            raise DjangoValidationError("This time is too far away.") from None


class MomentFilter(IsoDateTimeFilter):  # type: ignore[misc]  # untyped
    field_class = _MomentField
