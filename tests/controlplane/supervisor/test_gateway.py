from __future__ import annotations

import socket

import pytest

from controlplane.supervisor.gateway import CannotListen, bind
from tests.patience import LONG_SECONDS


def test_a_free_port_is_found_and_listens() -> None:
    with bind("127.0.0.1", 0, is_shared=False) as ours:
        address = ours.getsockname()
        with socket.create_connection(address, timeout=LONG_SECONDS):
            pass


def test_a_shared_port_is_only_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with bind("127.0.0.1", 0, is_shared=True) as ours:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(ours.getsockname(), timeout=LONG_SECONDS)
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind(ours.getsockname())


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_port_in_use_is_refused_also_when_its_owner_would_share_it(is_shared: bool) -> None:
    with socket.socket() as owner:
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = owner.getsockname()[1]
        with pytest.raises(CannotListen, match=f"Port {port} on 127.0.0.1 is in use"):
            bind("127.0.0.1", port, is_shared=is_shared)


def test_a_foreign_address_is_refused() -> None:
    with pytest.raises(CannotListen, match=r"203\.0\.113\.1 is no address of this machine"):
        bind("203.0.113.1", 0, is_shared=False)


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6 loopback")
def test_ipv6_loopback() -> None:
    with bind("::1", 0, is_shared=False) as ours:
        assert ours.getsockname()[0] == "::1"
