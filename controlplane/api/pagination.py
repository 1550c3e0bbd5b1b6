"""Lists in pages, newest first. A cursor names the last row seen, so pages neither skip nor repeat
rows while others are added."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any, Final

from django.db.models import QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api.errors import InvalidParameter

DEFAULT_LIMIT: Final = 50
MOST: Final = 200
NAMES: Final = frozenset({"cursor", "limit"})

_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class CursorPages(BasePagination):
    """Pages by the column that the view calls `position`, descending: `id` (a UUID that grows
    with time) or a number that is unique in the list."""

    _next: str | None = None

    def paginate_queryset(
        self, queryset: QuerySet[Any] | Sequence[Any], request: Request, view: Any = None
    ) -> list[Any]:
        assert isinstance(queryset, QuerySet)
        position = view.position
        limit = _limit(request.query_params.get("limit"))
        cursor = request.query_params.get("cursor")
        if cursor is not None:
            queryset = queryset.filter(**{f"{position}__lt": _cursor(position, cursor)})
        rows = list(queryset.order_by(f"-{position}")[: limit + 1])
        page = rows[:limit]
        self._next = str(getattr(page[-1], position)) if len(rows) > limit else None
        return page

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"items": data, "next_cursor": self._next})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": schema,
                "next_cursor": {
                    "type": "string",
                    "nullable": True,
                    "description": "Send it as `cursor` for the next page; null on the last one.",
                },
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "description": "`next_cursor` of the page before.",
                "schema": {"type": "string"},
            },
            {
                "name": "limit",
                "in": "query",
                "required": False,
                "description": "How many rows a page holds.",
                "schema": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MOST,
                    "default": DEFAULT_LIMIT,
                },
            },
        ]


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST:
        raise InvalidParameter(f"Choose a limit from 1 to {MOST}.", param="limit")
    return int(text)


def _cursor(position: str, text: str) -> uuid.UUID | int:
    if position == "id" and _UUID.fullmatch(text):
        return uuid.UUID(text)
    if position != "id" and _NUMBER.fullmatch(text):
        return int(text)
    raise InvalidParameter("Send next_cursor of the page before, as it came.", param="cursor")
