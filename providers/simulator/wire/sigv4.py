"""AWS signatures, verified by making them again with AWS's own signer.

Known access keys and their secrets are part of the world (`access_keys`); the control API adds
more. A signature's age is judged by the machine's clock: callers sign with theirs, however the
simulated time was set.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from providers.simulator.access_keys import secrets_of
from providers.simulator.http import Request
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused
from providers.simulator.world import World

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest

SERVICE: Final = "bedrock"
MAX_AGE: Final = timedelta(minutes=15)
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/\s]+)/(?P<date>\d{8})/(?P<region>[a-z0-9-]+)/"
    r"(?P<service>[a-z0-9-]+)/aws4_request,\s*SignedHeaders=(?P<signed>[a-z0-9;_-]+),\s*"
    r"Signature=(?P<signature>[0-9a-f]{64})\Z"
)


def verify(request: Request, world: World) -> None:
    """Raises Refused(403) as AWS does."""
    found = _AUTHORIZATION.match(request.headers.get("authorization", ""))
    if found is None:
        raise Refused(
            403,
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' "
            "parameters.",
            code="IncompleteSignatureException",
            rule="signature_form",
        )
    token = request.headers.get("x-amz-security-token", "")
    if token.startswith("expired"):
        raise Refused(
            403,
            "The security token included in the request is expired",
            code="ExpiredTokenException",
        )
    secret = secrets_of(world).get(found["key"])
    status = key_status(found["key"], world)
    if secret is None or status == 401:
        raise Refused(
            403,
            "The security token included in the request is invalid.",
            code="UnrecognizedClientException",
        )
    if status:
        raise Refused(status, "The access key is not allowed to do this.")
    _check_scope(request, found)
    signed = found["signed"].split(";")
    required = {"host", "x-amz-date"} | ({"x-amz-security-token"} if token else set())
    if missing := sorted(required - set(signed)):
        raise _mismatch(f"'{missing[0]}' must be a signed header.", "signed_headers")
    digest = request.headers.get("x-amz-content-sha256")
    if digest is not None and digest != hashlib.sha256(request.body).hexdigest():
        raise _mismatch("The payload hash does not match the body.", "payload_hash")
    expected = _signature(request, found, secret, token, signed)
    if not hmac.compare_digest(expected, found["signature"]):
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
            "signature",
        )


def _check_scope(request: Request, found: re.Match[str]) -> None:
    try:
        text = request.headers.get("x-amz-date", "")
        at = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _mismatch("Date must be in ISO-8601 'basic format'.", "signature_date") from None
    if f"{at:%Y%m%d}" != found["date"]:
        raise _mismatch("Date in Credential scope does not match YYYYMMDD.", "signature_date")
    if abs(datetime.now(UTC) - at) > MAX_AGE:
        raise _mismatch(f"Signature expired: {at:%Y%m%dT%H%M%SZ} is too far from now.", "")
    if found["service"] != SERVICE:
        raise _mismatch(
            f"Credential should be scoped to correct service: '{SERVICE}'.", "signature_service"
        )


def _mismatch(message: str, rule: str) -> Refused:
    return Refused(403, message, code="InvalidSignatureException", rule=rule)


def _signature(
    request: Request, found: re.Match[str], secret: str, token: str, signed: list[str]
) -> str:
    # Imported on first use: it is heavy, and most worlds never see a signed request.
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    class Signer(SigV4Auth):  # type: ignore[misc]  # botocore is not typed
        def headers_to_sign(self, request: AWSRequest) -> object:
            # All that the caller signed and nothing else, also what the signer itself leaves out.
            return request.headers

    signer = Signer(Credentials(found["key"], secret, token or None), SERVICE, found["region"])
    headers = {name: request.headers[name] for name in signed if name in request.headers}
    query = f"?{request.query_string}" if request.query_string else ""
    again = AWSRequest(
        method=request.method,
        # The scheme does not matter: the host is a signed header.
        url=f"http://{request.headers.get('host', '')}{request.prefix}{request.path}{query}",
        data=request.body,
        headers=headers,
    )
    again.context["timestamp"] = request.headers["x-amz-date"]
    canonical = signer.canonical_request(again)
    result: str = signer.signature(signer.string_to_sign(again, canonical), again)
    return result
