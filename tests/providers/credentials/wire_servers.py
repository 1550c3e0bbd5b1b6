"""Servers that speak as their vendors document it, and refuse whatever a vendor would refuse: KV
version 2 of HashiCorp Vault, AWS Secrets Manager, Google's token and metadata servers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Seen:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Server:
    url: str = ""
    requests: list[Seen] = field(default_factory=list)


@contextlib.contextmanager
def listening(answer: Callable[[Seen], Answer]) -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, self.path, headers, self.rfile.read(length))
            server.requests.append(seen)
            status, more, body = answer(seen)
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _any

        def log_message(self, *_: Any) -> None:
            """Tests read `requests`."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{made.server_address[1]}"
    try:
        yield server
    finally:
        made.shutdown()
        made.server_close()
        thread.join(20)


def _json(status: int, value: Any, kind: str = "application/json") -> Answer:
    return status, {"content-type": kind}, json.dumps(value).encode()


# --- HashiCorp Vault: developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2, 2026-11 -------------


@dataclass
class Kv2:
    token: str
    secrets: dict[str, dict[str, Any]]
    namespace: str = ""
    mount: str = "secret"
    deleted: set[str] = field(default_factory=set)
    is_sealed: bool = False

    def answer(self, seen: Seen) -> Answer:
        if self.is_sealed:
            return _json(503, {"errors": ["Vault is sealed"]})
        if seen.headers.get("x-vault-request") != "true":
            return _json(400, {"errors": ["missing required Vault header: X-Vault-Request"]})
        if seen.headers.get("x-vault-token") != self.token:
            return _json(403, {"errors": ["permission denied"]})
        if seen.headers.get("x-vault-namespace", "") != self.namespace:
            return _json(403, {"errors": ["permission denied"]})
        path = unquote(urlsplit(seen.path).path)
        prefix = f"/v1/{self.mount}/data/"
        if seen.method != "GET" or not path.startswith(prefix):
            return _json(404, {"errors": [f"no handler for route {path!r}"]})
        name = path.removeprefix(prefix)
        metadata = {
            "created_time": "2026-11-01T10:00:00.123456789Z",
            "custom_metadata": None,
            "deletion_time": "",
            "destroyed": False,
            "version": 3,
        }
        if name in self.deleted:
            metadata["deletion_time"] = "2026-11-02T10:00:00.123456789Z"
            return _json(404, self._wrapped({"data": None, "metadata": metadata}))
        if name not in self.secrets:
            return _json(404, {"errors": []})
        return _json(200, self._wrapped({"data": self.secrets[name], "metadata": metadata}))

    def _wrapped(self, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "request_id": "5b2c8a5e-0000-0000-0000-000000000000",
            "lease_id": "",
            "renewable": False,
            "lease_duration": 0,
            "data": data,
            "wrap_info": None,
            "warnings": None,
            "auth": None,
            "mount_type": "kv",
        }


# --- AWS Secrets Manager: docs.aws.amazon.com/secretsmanager/latest/apireference, 2026-11 ---------

_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/([a-z]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


@dataclass
class SecretsManager:
    """Signatures are checked by the letter of AWS' own description, not by its library."""

    access_key: str
    secret_key: str
    region: str
    secrets: dict[str, str]

    def answer(self, seen: Seen) -> Answer:
        problem = self._signature_problem(seen)
        if problem:
            return self._error("InvalidSignatureException", problem)
        if (
            seen.method != "POST"
            or seen.path != "/"
            or seen.headers.get("content-type") != "application/x-amz-json-1.1"
        ):
            return self._error("UnknownOperationException", "")
        if seen.headers.get("x-amz-target") != "secretsmanager.GetSecretValue":
            return self._error("UnknownOperationException", "")
        wanted = json.loads(seen.body)["SecretId"]
        name = wanted.rpartition(":secret:")[2].rpartition("-")[0] if ":" in wanted else wanted
        if name not in self.secrets:
            return self._error(
                "ResourceNotFoundException", "Secrets Manager can't find the specified secret."
            )
        return _json(
            200,
            {
                "ARN": self.arn(name),
                "CreatedDate": 1.7e9,
                "Name": name,
                "SecretString": self.secrets[name],
                "VersionId": "a1b2c3d4-5678-90ab-cdef-EXAMPLE11111",
                "VersionStages": ["AWSCURRENT"],
            },
            "application/x-amz-json-1.1",
        )

    def arn(self, name: str) -> str:
        return f"arn:aws:secretsmanager:{self.region}:123456789012:secret:{name}-a1b2c3"

    def _error(self, kind: str, message: str) -> Answer:
        body = {"__type": kind, "Message": message}
        return _json(400, body, "application/x-amz-json-1.1")

    def _signature_problem(self, seen: Seen) -> str:
        found = _SIGNATURE.fullmatch(seen.headers.get("authorization", ""))
        if found is None:
            return "no signature"
        key, date, region, service, signed, signature = found.groups()
        if (key, region, service) != (self.access_key, self.region, "secretsmanager"):
            return f"scoped to {key}/{region}/{service}"
        names = signed.split(";")
        if not {"host", "x-amz-date", "x-amz-target"} <= set(names):
            return f"only {signed} are signed"
        canonical = "\n".join(
            (
                seen.method,
                seen.path,
                "",
                *(f"{name}:{seen.headers[name].strip()}" for name in names),
                "",
                signed,
                hashlib.sha256(seen.body).hexdigest(),
            )
        )
        text = "\n".join(
            (
                "AWS4-HMAC-SHA256",
                seen.headers["x-amz-date"],
                f"{date}/{region}/{service}/aws4_request",
                hashlib.sha256(canonical.encode()).hexdigest(),
            )
        )
        made = f"AWS4{self.secret_key}".encode()
        for part in (date, region, service, "aws4_request"):
            made = hmac.digest(made, part.encode(), "sha256")
        expected = hmac.new(made, text.encode(), "sha256").hexdigest()
        return "" if hmac.compare_digest(expected, signature) else "signatures differ"


# --- Google: RFC 7523 at token_uri, and the metadata server of a machine, 2026-11 -----------------


@dataclass
class GoogleTokens:
    public_key: RSAPublicKey
    email: str
    # Whatever the address is at which the token is asked for.
    audience: str = "https://oauth2.googleapis.com/token"
    token: str = "ya29.from-a-key-file"

    def answer(self, seen: Seen) -> Answer:
        sent = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        if sent.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return _json(400, {"error": "unsupported_grant_type"})
        head, claims, signature = sent["assertion"].split(".")
        self.public_key.verify(
            _unpadded(signature), f"{head}.{claims}".encode(), PKCS1v15(), hashes.SHA256()
        )
        told = json.loads(_unpadded(claims))
        is_right = (
            json.loads(_unpadded(head))["alg"] == "RS256"
            and told["iss"] == self.email
            and told["aud"] == self.audience
            and told["scope"] == "https://www.googleapis.com/auth/cloud-platform"
            and told["iat"] - 60 <= time.time() < told["exp"] <= told["iat"] + 3_600
        )
        if not is_right:
            return _json(400, {"error": "invalid_grant"})
        return _json(200, {"access_token": self.token, "expires_in": 3_599, "token_type": "Bearer"})


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def metadata_server(seen: Seen) -> Answer:
    """Of a machine at Google whose service account is the default one."""
    flavor = {"metadata-flavor": "Google", "server": "Metadata Server for VM"}
    if seen.headers.get("metadata-flavor") != "Google":
        return 403, flavor, b"Missing Metadata-Flavor:Google header."
    asked = urlsplit(seen.path)
    accounts = "/computeMetadata/v1/instance/service-accounts/"
    if asked.path in ("", "/"):
        return 200, flavor, b"computeMetadata/\n"
    if asked.path == "/computeMetadata/v1/project/project-id":
        return 200, {**flavor, "content-type": "application/text"}, b"acme-project"
    if asked.path == "/computeMetadata/v1/universe/universe-domain":
        return 404, flavor, b""
    if asked.path.removeprefix(accounts).rstrip("/") == "default":
        status, kind, body = _json(200, {"email": _MACHINE, "aliases": ["default"], "scopes": []})
        return status, {**flavor, **kind}, body
    if asked.path in (f"{accounts}default/token", f"{accounts}{_MACHINE}/token"):
        status, kind, body = _json(
            200,
            {"access_token": "ya29.of-the-machine", "expires_in": 3_599, "token_type": "Bearer"},
        )
        return status, {**flavor, **kind}, body
    return 404, flavor, b""


_MACHINE = "machine@acme-project.iam.gserviceaccount.com"
