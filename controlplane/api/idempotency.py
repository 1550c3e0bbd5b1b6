"""Idempotency-Key: a creation that is sent again after a lost answer happens once, and is answered
as it was the first time."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from controlplane.api.authentication import actor_of
from controlplane.api.errors import InvalidParameter
from controlplane.api.versioning import etag
from controlplane.kit import clock, json
from controlplane.kit.models import Versioned
from controlplane.kit.secret import Secret
from tenants.idempotency.services import once

HEADER: Final = "Idempotency-Key"
IDEMPOTENCY_KEY: Final = OpenApiParameter(
    HEADER,
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Any text of your own, new for each thing you create, such as a UUID. Sent again "
    "within 24 hours with the same request it creates nothing and answers as the first time "
    "(with `Idempotent-Replayed: true`); with another request: 422.",
)

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Created:
    """What a creation answers: the representation, where it lives, and its version."""

    data: Mapping[str, Any]
    location: str
    row: Versioned | None = None

    def content(self) -> Secret:
        headers = {"Location": self.location}
        if self.row is not None:
            headers["ETag"] = etag(self.row)
        body = json.loads(JSONRenderer().render(self.data))
        return Secret(json.dumps_str({"headers": headers, "body": body}))


def create_once(
    view: Any, *, tenant_id: uuid.UUID | None, create: Callable[[], Created]
) -> Response:
    """Runs `create` in a transaction, and not again for a key that was seen before. Validate the
    request first, and call this in the scope of the tenant (None = the platform's)."""
    request = view.request
    key = request.headers.get(HEADER)
    if key is None:
        with transaction.atomic():
            return _response(create().content(), is_replayed=False)
    if not _KEY.fullmatch(key):
        raise InvalidParameter(
            "An Idempotency-Key has 1 to 255 visible ASCII characters.", param=HEADER
        )
    kind, caller_id, _ = actor_of(view.caller)
    content, is_replayed = once(
        tenant_id=tenant_id,
        caller=f"{kind}:{caller_id}",
        key=key,
        request=f"{request.method} {request.path}\n".encode() + view.raw_body,
        now=clock.now(),
        act=lambda: create().content(),
    )
    return _response(content, is_replayed=is_replayed)


def _response(content: Secret, *, is_replayed: bool) -> Response:
    stored = json.loads_dict(content.reveal())
    headers = stored["headers"]
    if is_replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(stored["body"], status=201, headers=headers)
