"""What a protocol can find wrong: with the client's request, or with the upstream's answer."""

from __future__ import annotations

from controlplane.kit.errors import FaultKind, GatewayError


class ProtocolError(GatewayError):
    """Base of both directions. Raise a leaf."""


class LocalProtocolError(ProtocolError):
    """The client's request cannot be read or cannot be expressed. `param` names the field."""

    kind = FaultKind.BAD_REQUEST
    code = "invalid_request"


class UnsupportedContent(LocalProtocolError):
    """Content that the target protocol cannot carry. Content is refused, never dropped."""

    code = "unsupported_content"


class UnsupportedParameter(LocalProtocolError):
    """A parameter whose absence would change the meaning of the answer (n > 1, for example)."""

    code = "unsupported_parameter"


class RemoteProtocolError(ProtocolError):
    """The upstream sent bytes that are not its protocol, or more than our bounds allow."""

    kind = FaultKind.UPSTREAM
    code = "upstream_unreadable"
