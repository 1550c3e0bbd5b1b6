"""What the door itself refuses."""

from __future__ import annotations

from controlplane.kit.errors import FaultKind, GatewayError


class DoorError(GatewayError):
    """Base. Raise a leaf."""


class UnknownPath(DoorError):
    kind = FaultKind.NOT_FOUND
    code = "unknown_path"


class MethodNotAllowed(DoorError):
    kind = FaultKind.METHOD
    code = "method_not_allowed"


class BodyTooLarge(DoorError):
    kind = FaultKind.TOO_LARGE
    code = "request_too_large"


class HeadersTooLarge(DoorError):
    kind = FaultKind.HEADERS_TOO_LARGE
    code = "headers_too_large"


class BodyTooSlow(DoorError):
    kind = FaultKind.TIMEOUT_CLIENT
    code = "request_timeout"


class CompressedBody(DoorError):
    kind = FaultKind.UNSUPPORTED_MEDIA
    code = "compressed_body"


class InvalidBody(DoorError):
    kind = FaultKind.BAD_REQUEST
    code = "invalid_json"


class TooManyItems(DoorError):
    kind = FaultKind.BAD_REQUEST
    code = "too_many_items"


class UnknownModel(DoorError):
    kind = FaultKind.NOT_FOUND
    code = "model_not_found"


class EndpointNotOffered(DoorError):
    """The model exists, but nobody who serves it has this endpoint."""

    kind = FaultKind.BAD_REQUEST
    code = "endpoint_not_offered"


class NotInBackground(DoorError):
    """Asked for what only a background response has, or for one."""

    kind = FaultKind.BAD_REQUEST
    code = "background_not_offered"


class LossyTranslation(DoorError):
    kind = FaultKind.BAD_REQUEST
    code = "lossy_translation"


class NoUsableTarget(DoorError):
    kind = FaultKind.OVERLOADED
    code = "no_usable_target"


class Overloaded(DoorError):
    kind = FaultKind.OVERLOADED
    code = "overloaded"


class ClientGone(Exception):
    """The caller hung up: nobody is left to answer."""
