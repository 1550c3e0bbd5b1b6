"""AWS KMS as the key ring. Credentials come from the standard AWS chain.

https://docs.aws.amazon.com/kms/latest/APIReference/
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from tenants.vault.errors import KeyRingProblem, KeyServiceUnavailable
from tenants.vault.wrapping.contract import KeyContext, Wrapped

SCHEME = "aws-kms"
# The caller's or the key's fault: trying again does not help.
_REFUSALS = frozenset(
    {
        "AccessDeniedException",
        "DisabledException",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncorrectKeyException",
        "InvalidArnException",
        "InvalidCiphertextException",
        "InvalidClientTokenId",
        "InvalidKeyUsageException",
        "InvalidSignatureException",
        "KMSInvalidStateException",
        "MissingAuthenticationToken",
        "NotFoundException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "ValidationException",
    }
)

_clients: dict[tuple[str, str], Any] = {}
_clients_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Kms:
    """`key` is an id, ARN or alias. Rows keep the ARN, so that a moved alias means a rewrap."""

    key: str
    region: str = ""
    endpoint_url: str = ""

    def __post_init__(self) -> None:
        if not self.key:
            raise KeyRingProblem("Set AWS_KMS_KEY_ID to the id, ARN or alias of a KMS key.")

    def current(self) -> str:
        metadata = self._call("describe_key", KeyId=self.key).get("KeyMetadata", {})
        if not metadata.get("Enabled"):
            raise KeyRingProblem(
                f"KMS key {self.key} is {metadata.get('KeyState', 'not enabled')}: "
                "enable it or set AWS_KMS_KEY_ID to another."
            )
        return f"{SCHEME}:{metadata['Arn']}"

    def wrap(self, key: bytes, context: KeyContext) -> Wrapped:
        answer = self._call(
            "encrypt", KeyId=self.key, Plaintext=key, EncryptionContext=context.as_text()
        )
        return Wrapped(f"{SCHEME}:{answer['KeyId']}", bytes(answer["CiphertextBlob"]))

    def unwrap(self, wrapped: Wrapped, context: KeyContext) -> bytes:
        # Naming the key keeps KMS from trying whichever key the blob claims.
        answer = self._call(
            "decrypt",
            KeyId=wrapped.wrapped_by.removeprefix(f"{SCHEME}:"),
            CiphertextBlob=wrapped.blob,
            EncryptionContext=context.as_text(),
        )
        return bytes(answer["Plaintext"])

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from botocore import exceptions as botocore

        try:
            answer: dict[str, Any] = getattr(self._client(), operation)(**arguments)
        except botocore.ClientError as error:
            detail = error.response.get("Error", {})
            code, reason = detail.get("Code", ""), detail.get("Message", "")
            sentence = f"KMS refused {operation} with {code}: {reason or 'no reason given'}"
            if code in _REFUSALS:
                raise KeyRingProblem(sentence) from None
            raise KeyServiceUnavailable(sentence) from None
        except (botocore.HTTPClientError, botocore.ConnectionError) as error:
            raise KeyServiceUnavailable(
                f"KMS cannot be reached: {type(error).__name__}. "
                "Check AWS_KMS_REGION, AWS_KMS_ENDPOINT_URL and the network."
            ) from None
        except botocore.BotoCoreError as error:
            # No region, no credentials, half-configured profile.
            raise KeyRingProblem(f"KMS cannot be used: {error}") from None
        return answer

    def _client(self) -> Any:
        # Building a client reads megabytes of service descriptions: once per process.
        with _clients_lock:
            client = _clients.get((self.region, self.endpoint_url))
            if client is None:
                from botocore.config import Config
                from botocore.session import get_session

                client = get_session().create_client(
                    "kms",
                    region_name=self.region or None,
                    endpoint_url=self.endpoint_url or None,
                    config=Config(
                        connect_timeout=5,
                        read_timeout=10,
                        retries={"mode": "standard", "total_max_attempts": 3},
                        proxies={},  # proxy variables are ignored, as everywhere
                    ),
                )
                _clients[(self.region, self.endpoint_url)] = client
        return client
