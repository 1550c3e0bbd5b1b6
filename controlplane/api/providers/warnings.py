"""Sentences beside an answer: done as asked, but a bundle would undo it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.response import Response

HEADER: Final = "X-Warning"
WARNING: Final = OpenApiParameter(
    HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    response=[204],
    description="Said when the row comes from a bundle, whose next apply would make it again.",
)


class Warnings(serializers.ListField):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            child=serializers.CharField(),
            read_only=True,
            default=[],
            help_text="After a change: what the next apply of a bundle would undo.",
            **options,
        )


def warned(answer: Response, sentences: Sequence[str]) -> Response:
    """In the body; an answer without one carries them in a header."""
    if not sentences:
        return answer
    if isinstance(answer.data, dict):
        answer.data["warnings"] = list(sentences)
    else:
        answer[HEADER] = " ".join(sentences).encode("ascii", "replace").decode()
    return answer
