"""What the OpenAPI document says beyond what the views do: how callers prove who they are, and
the one shape of errors."""

from __future__ import annotations

import functools
from typing import Any, Final

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer

_CONTROL: Final = ("/api/v1/", "/v1/providers", "/v1/capabilities")

ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "param", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "Stable; decide by this."},
                "message": {"type": "string", "description": "For people: what to do."},
                "param": {
                    "type": "string",
                    "nullable": True,
                    "description": "The field, parameter or header it is about.",
                },
                "request_id": {"type": "string", "description": "To find it in the logs."},
            },
        }
    },
}


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its metaclass
    target_class = "controlplane.api.authentication.KeyAuthentication"
    name = "controlKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "pcp_live_…",
            "description": "A tenant's API key with the scope `read` or `manage`.",
        }


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its metaclass
    target_class = "controlplane.api.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "A person who signed in to the console. Changes also need the header "
            "X-CSRFToken.",
        }


def describe_errors(result: Any, **_: Any) -> Any:
    """A hook of drf-spectacular's: whatever is not listed answers in the one shape."""
    result.setdefault("components", {}).setdefault("schemas", {})["Error"] = ERROR
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, operations in result.get("paths", {}).items():
        if not path.startswith(_CONTROL):
            continue
        for operation in operations.values():
            responses = operation["responses"]
            for status, response in responses.items():
                if status >= "400":
                    response["content"] = content
            responses["default"] = {"description": "What went wrong.", "content": content}
    return result


@functools.cache
def document() -> bytes:
    """The OpenAPI document. It depends on the code alone, so one process makes it once."""
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    rendered: bytes = OpenApiJsonRenderer().render(schema)
    return rendered
