"""Every error of the control API in one shape, whatever raised it:

{"error": {"code": …, "message": …, "param": …, "request_id": …}}
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response

from controlplane.kit.errors import Fault, FaultKind, GatewayError
from tenants.errors import NotFound, StaleVersion

log = logging.getLogger(__name__)

PREFIX: Final = "/api/"

INTERNAL: Final = Fault(
    kind=FaultKind.INTERNAL,
    code="internal_error",
    message="Something went wrong on our side. Try again; if it stays, tell us the request id.",
)
_BUSY: Final = Fault(
    kind=FaultKind.OVERLOADED,
    code="database_unavailable",
    message="The database did not answer in time. Nothing was changed: try again.",
    retry_after_seconds=1,
)
_COLLISION: Final = Fault(
    kind=FaultKind.CONFLICT,
    code="conflict",
    message="Somebody else made the same change at this moment. Nothing was changed: read again.",
)


class ControlError(GatewayError):
    """Base of what the control API itself refuses. Raise a leaf."""

    status: int = 0

    def fault(self) -> Fault:
        return Fault(
            kind=self.kind,
            code=self.code,
            message=self.message,
            status=self.status,
            param=self.param,
        )


class UnknownPath(ControlError):
    kind = FaultKind.NOT_FOUND
    code = "unknown_path"


class UnknownParameter(ControlError):
    kind = FaultKind.BAD_REQUEST
    code = "unknown_parameter"


class InvalidBody(ControlError):
    kind = FaultKind.BAD_REQUEST
    code = "invalid_json"


class InvalidParameter(ControlError):
    kind = FaultKind.BAD_REQUEST
    code = "invalid_parameter"


class BodyTooLarge(ControlError):
    kind = FaultKind.TOO_LARGE
    code = "request_too_large"


class LengthRequired(ControlError):
    kind = FaultKind.BAD_REQUEST
    status = 411
    code = "length_required"


class UnsupportedBody(ControlError):
    kind = FaultKind.UNSUPPORTED_MEDIA
    code = "unsupported_media_type"


class CsrfFailed(ControlError):
    kind = FaultKind.FORBIDDEN
    code = "csrf_failed"


class PeopleOnly(ControlError):
    kind = FaultKind.FORBIDDEN
    code = "people_only"


class TooManyEvents(ControlError):
    kind = FaultKind.UNPROCESSABLE
    code = "too_many_events"


class PreconditionRequired(ControlError):
    kind = FaultKind.BAD_REQUEST
    status = 428
    code = "precondition_required"


def handle(error: Exception, context: Mapping[str, Any]) -> Response:
    """REST framework's EXCEPTION_HANDLER."""
    fault = fault_of(error, context.get("view"))
    if fault is INTERNAL:
        log.exception("bug in the control API", exc_info=error)
    elif isinstance(error, DatabaseError | InterfaceError):
        log.warning("the database refused a change: %s", type(error).__name__, exc_info=error)
    headers = {}
    if fault.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if fault.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, round(fault.retry_after_seconds)))
    return Response(body_of(fault), status=fault.http_status, headers=headers)


def fault_of(error: Exception, view: Any = None) -> Fault:
    """What is not listed here is a bug, and looks like one."""
    match error:
        case StaleVersion():
            seen = error.fault()
            return Fault(
                kind=seen.kind, code=seen.code, message=seen.message, status=412, param="If-Match"
            )
        case GatewayError():
            return error.fault()
        case exceptions.ValidationError():
            return _invalid(error.detail)
        case DjangoValidationError():
            has_fields = hasattr(error, "error_dict")
            return _invalid(error.message_dict if has_fields else error.messages)
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return Fault(
                kind=FaultKind.AUTH,
                code="not_authenticated",
                message="Sign in, or send an API key: Authorization: Bearer pcp_live_…",
            )
        case exceptions.MethodNotAllowed():
            allowed = " or ".join(getattr(view, "allowed_methods", [])) or "another method"
            return Fault(
                kind=FaultKind.METHOD, code="method_not_allowed", message=f"Use {allowed} here."
            )
        case exceptions.PermissionDenied():
            code = str(error.get_codes())
            is_plain = code == exceptions.PermissionDenied.default_code
            return Fault(
                kind=FaultKind.FORBIDDEN,
                code="forbidden" if is_plain else code,
                message=str(error.detail),
            )
        case PermissionDenied():
            return Fault(kind=FaultKind.FORBIDDEN, code="forbidden", message="You may not do this.")
        case exceptions.NotFound() | Http404():
            return NotFound("There is nothing here under this id.").fault()
        case RequestDataTooBig():
            return BodyTooLarge("The request is too large.").fault()
        case SuspiciousOperation() | MultiPartParserError() | UnreadablePostError():
            return InvalidBody("The request could not be read: check its headers and body.").fault()
        case IntegrityError():
            return _COLLISION
        case OperationalError() | InterfaceError():
            return _BUSY
    return INTERNAL


def body_of(fault: Fault) -> dict[str, Any]:
    return {
        "error": {
            "code": fault.code,
            "message": fault.message,
            "param": fault.param,
            "request_id": structlog.contextvars.get_contextvars().get("request_id", ""),
        }
    }


def bare_response(fault: Fault) -> JsonResponse:
    """The same answer, for code that runs outside REST framework's views."""
    return JsonResponse(body_of(fault), status=fault.http_status)


def is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith(PREFIX)


def _invalid(detail: Any) -> Fault:
    param, message = _first(detail)
    return Fault(
        kind=FaultKind.BAD_REQUEST,
        code="invalid_request",
        message=message,
        param=".".join(param) or None,
    )


_ABOUT_ALL: Final = frozenset({"non_field_errors", "__all__"})


def _first(detail: Any) -> tuple[tuple[str, ...], str]:
    """The first thing that is wrong, and the path to it."""
    match detail:
        case Mapping():
            for name, inner in detail.items():
                path, message = _first(inner)
                return (path if name in _ABOUT_ALL else (str(name), *path)), message
        case str():
            return (), str(detail)
        case Sequence():
            for index, inner in enumerate(detail):
                if not inner:
                    continue
                path, message = _first(inner)
                is_text = isinstance(inner, str)
                return (path if is_text else (str(index), *path)), message
    return (), "The request is not valid."
