"""Certificates are always verified, on the event loop of tests and on that of production."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers.errors import TlsFailed, UpstreamBroken
from providers.upstream.client import UpstreamClient
from providers.upstream.guard import Guard

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
BODY = b"a word " * 100_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file with key and certificate for 127.0.0.1, and the certificate as a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + pem
    )
    return file, pem.decode()


def run(loop: str, scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario)


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"/cut" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha")
                await writer.drain()
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def listening(file: Path, host: str = "127.0.0.1") -> tuple[asyncio.Server, int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = await asyncio.start_server(answers, host, 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_private_ca_is_trusted_where_it_is_named(
    loop: str, certificate: tuple[Path, str]
) -> None:
    async def scenario() -> None:
        server, port = await listening(certificate[0])
        client = UpstreamClient(guard=Guard(["127.0.0.0/8"]), ca_certificate=certificate[1])
        for _ in range(3):
            response = await client.send("GET", f"https://127.0.0.1:{port}/", headers={})
            assert await response.read() == BODY
            response.close()
        response = await client.send("GET", f"https://127.0.0.1:{port}/cut", headers={})
        with pytest.raises(UpstreamBroken):
            await response.read()
        response.close()
        await client.close()
        server.close()

    run(loop, scenario())


@pytest.mark.parametrize("loop", LOOPS)
def test_nobody_else_is_believed(loop: str, certificate: tuple[Path, str]) -> None:
    async def scenario() -> None:
        # An unknown signer; and a known one who vouches for another address.
        for ca, host in (("", "127.0.0.1"), (certificate[1], "127.0.0.2")):
            server, port = await listening(certificate[0], host)
            client = UpstreamClient(guard=Guard(["127.0.0.0/8"]), ca_certificate=ca)
            with pytest.raises(TlsFailed):
                await client.send("GET", f"https://{host}:{port}/", headers={})
            await client.close()
            server.close()

    run(loop, scenario())
