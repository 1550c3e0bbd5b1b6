"""Vault's transit engine and AWS KMS, as far as we use them: small, strict, over real HTTP.

They refuse what the real ones refuse and record what they refuse, so that a test can ask
whether anything odd was sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import quote

Answer = tuple[int, dict[str, Any]]


class Fake:
    """One server on a free port. `complaints` lists every request that was not as documented."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.fail_with: Answer | None = None
        self.url = ""

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        raise NotImplementedError

    def complain(self, text: str) -> None:
        self.complaints.append(text)


@contextmanager
def running(fake: Fake) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.requests.append(f"{self.command} {self.path}")
            status, document = fake.fail_with or fake.answer(self.command, self.path, headers, body)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class FakeTransit(Fake):
    """Transit at `mount` with one key of type aes256-gcm96 and as many versions as wanted."""

    TOKEN: ClassVar = "hvs.test-token"

    def __init__(self, mount: str = "transit", key: str = "gateway", namespace: str = "") -> None:
        super().__init__()
        self.mount, self.key, self.namespace = mount, key, namespace
        self.versions = 1
        self.type = "aes256-gcm96"
        self._kept: dict[str, tuple[str, str]] = {}

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if headers.get("x-vault-token") != self.TOKEN:
            return 403, {"errors": ["permission denied"]}
        if headers.get("x-vault-namespace", "") != self.namespace:
            return 404, {"errors": ["no handler for route"]}
        if headers.get("x-vault-request") != "true":
            self.complain("no X-Vault-Request header")
        prefix = f"/v1/{self.mount}/"
        if not path.startswith(prefix):
            return 404, {"errors": [f'no handler for route "{path}"']}
        operation, _, name = path.removeprefix(prefix).partition("/")
        match method, operation:
            case "GET", "keys":
                if name != self.key:
                    return 404, {"errors": []}
                return 200, {
                    "data": {"name": name, "type": self.type, "latest_version": self.versions}
                }
            case "POST", "encrypt":
                if name != self.key:
                    self.complain(f"the real one would have made the key {name!r}")
                return self._encrypt(self._body(body, {"plaintext", "associated_data"}, headers))
            case "POST", "decrypt":
                return self._decrypt(self._body(body, {"ciphertext", "associated_data"}, headers))
        return 405, {"errors": ["unsupported operation"]}

    def _body(self, body: bytes, names: set[str], headers: dict[str, str]) -> dict[str, str]:
        if headers.get("content-type") != "application/json":
            self.complain(f"content type {headers.get('content-type')!r}")
        document: dict[str, str] = json.loads(body)
        if set(document) != names:
            self.complain(f"fields {sorted(document)}")
        for name in names - {"ciphertext"}:
            base64.b64decode(document[name], validate=True)
        return document

    def _encrypt(self, document: dict[str, str]) -> Answer:
        token = base64.b64encode(os.urandom(24)).decode()
        ciphertext = f"vault:v{self.versions}:{token}"
        self._kept[ciphertext] = document["plaintext"], document["associated_data"]
        return 200, {"data": {"ciphertext": ciphertext, "key_version": self.versions}}

    def _decrypt(self, document: dict[str, str]) -> Answer:
        plaintext, associated = self._kept.get(document["ciphertext"], ("", ""))
        if not plaintext or associated != document["associated_data"]:
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, {"data": {"plaintext": plaintext}}


class FakeKms(Fake):
    """KMS with one key. Checks the signature of every request as AWS would."""

    ACCESS_KEY: ClassVar = "AKIDEXAMPLE"
    SECRET_KEY: ClassVar = "test-secret-key"
    REGION: ClassVar = "eu-central-1"
    ARN: ClassVar = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    ALIAS: ClassVar = "alias/gateway"

    def __init__(self) -> None:
        super().__init__()
        self.state = "Enabled"
        self._kept: dict[str, tuple[str, dict[str, str]]] = {}

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if not self._is_signed(method, path, headers, body):
            return 400, {"__type": "InvalidSignatureException", "message": "signature mismatch"}
        if headers.get("content-type") != "application/x-amz-json-1.1":
            self.complain(f"content type {headers.get('content-type')!r}")
        document = json.loads(body)
        answers: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "TrentService.DescribeKey": self._describe,
            "TrentService.Encrypt": self._encrypt,
            "TrentService.Decrypt": self._decrypt,
        }
        target = headers.get("x-amz-target", "")
        if (method, path) != ("POST", "/") or target not in answers:
            return 400, {"__type": "UnknownOperationException"}
        if document.get("KeyId") not in {self.ARN, self.ALIAS}:
            return 400, {"__type": "NotFoundException", "message": "Invalid keyId"}
        return answers[target](document)

    def _describe(self, document: dict[str, Any]) -> Answer:
        self._expect(document, {"KeyId"})
        return 200, {
            "KeyMetadata": {
                "KeyId": self.ARN.rpartition("/")[2],
                "Arn": self.ARN,
                "Enabled": self.state == "Enabled",
                "KeyState": self.state,
            }
        }

    def _encrypt(self, document: dict[str, Any]) -> Answer:
        self._expect(document, {"KeyId", "Plaintext", "EncryptionContext"})
        if self.state != "Enabled":
            return 400, {"__type": "DisabledException", "message": "key is disabled"}
        blob = base64.b64encode(os.urandom(48)).decode()
        self._kept[blob] = document["Plaintext"], document["EncryptionContext"]
        return 200, {
            "CiphertextBlob": blob,
            "KeyId": self.ARN,
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        }

    def _decrypt(self, document: dict[str, Any]) -> Answer:
        self._expect(document, {"KeyId", "CiphertextBlob", "EncryptionContext"})
        if self.state != "Enabled":
            return 400, {"__type": "DisabledException", "message": "key is disabled"}
        plaintext, context = self._kept.get(document["CiphertextBlob"], ("", {}))
        if not plaintext or context != document["EncryptionContext"]:
            return 400, {"__type": "InvalidCiphertextException"}
        return 200, {
            "Plaintext": plaintext,
            "KeyId": self.ARN,
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        }

    def _expect(self, document: dict[str, Any], names: set[str]) -> None:
        if set(document) != names:
            self.complain(f"fields {sorted(document)}")

    def _is_signed(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bool:
        """Signature Version 4, computed here once more."""
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
        credential = parts.get("Credential", "").split("/")
        if scheme != "AWS4-HMAC-SHA256" or len(credential) != 5:
            return False
        access_key, day, region, service, end = credential
        if (access_key, region, service, end) != (
            self.ACCESS_KEY,
            self.REGION,
            "kms",
            "aws4_request",
        ):
            return False
        names = parts["SignedHeaders"].split(";")
        if not {"host", "x-amz-date", "x-amz-target"} <= set(names):
            return False
        canonical = "\n".join(
            [
                method,
                quote(path),
                "",
                *(f"{name}:{' '.join(headers[name].split())}" for name in names),
                "",
                ";".join(names),
                hashlib.sha256(body).hexdigest(),
            ]
        )
        to_sign = "\n".join(
            [
                scheme,
                headers["x-amz-date"],
                f"{day}/{region}/{service}/{end}",
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = b"AWS4" + self.SECRET_KEY.encode()
        for step in (day, region, service, end):
            key = hmac.new(key, step.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(signature, parts["Signature"])
