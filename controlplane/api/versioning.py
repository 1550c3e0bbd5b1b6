"""Two people who edit the same thing never overwrite each other unseen.

A representation carries its version as ETag; a change names the one it was made from in If-Match.
The services' conditional UPDATE decides, so what is checked here may be a moment old.
"""

from __future__ import annotations

import re
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from controlplane.api.errors import PreconditionRequired
from controlplane.kit.models import Versioned
from tenants.errors import StaleVersion

IF_MATCH: Final = OpenApiParameter(
    "If-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    required=True,
    description='The ETag of what you read, which is its version in quotes: `"3"`. Missing: 428; '
    "changed since: 412.",
)
ETAG: Final = OpenApiParameter(
    "ETag",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    response=[200, 201],
    description="The version, in quotes: send it back as If-Match with a change.",
)

# Proxies that compress turn an ETag into a weak one; the version in it stays the same.
_TAG: Final = re.compile(r'(?:W/)?"([1-9][0-9]{0,9})"')


def etag(row: Versioned) -> str:
    return f'"{row.version}"'


def seen_version(request: Request, row: Any) -> int:
    """The row's version, if it is one that the caller has seen. Raises PreconditionRequired,
    StaleVersion."""
    header = request.headers.get("If-Match", "").strip()
    if not header:
        raise PreconditionRequired(
            "Send If-Match with the ETag of what you read, so that no change of somebody else "
            "is overwritten.",
            param="If-Match",
        )
    if header == "*":
        raise PreconditionRequired(
            "If-Match: * would overwrite changes that nobody has seen: send the ETag you read.",
            param="If-Match",
        )
    version: int = row.version
    if str(version) not in _TAG.findall(header):
        raise StaleVersion("This has changed since you read it: read it again, then decide.")
    return version
