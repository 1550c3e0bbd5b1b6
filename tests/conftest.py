"""What every test may use, and what no test may do: leave this machine, or wait by sleeping."""

from __future__ import annotations

import asyncio
import gc
import inspect
import ipaddress
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from tests.database_file import watch
from tests.patience import LONG_SECONDS

if TYPE_CHECKING:
    from controlplane.kit.secret import Secret
    from tenants.keys.models import ApiKey
    from tenants.members.models import Tenant, User

ROOT = Path(__file__).resolve().parent.parent
LONGEST_SLEEP_SECONDS = 0.05

# Python 3.11 and older name the socket by `AF_UNIX` only where there is one.
_UNIX = getattr(socket, "AF_UNIX", None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "sleeps(reason): may call sleep: what it waits for cannot be waited on"
    )


def _give_httpx_time() -> None:
    """It gives up after five seconds, and a busy machine may stall for as long. Our own clients
    name their limits themselves."""
    limits = inspect.signature(httpx.Client).parameters["timeout"].default
    limits.connect = limits.read = limits.write = limits.pool = LONG_SECONDS


_give_httpx_time()


def pytest_collection_finish() -> None:
    """Thousands of tests and their modules stay to the end: the collector need not look through
    them each time."""
    gc.collect()
    gc.freeze()


# How long an example takes says what the machine does beside it, not what is wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Captured text travels between processes as UTF-8; what tests log may be no text at all."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


# --- No network beyond loopback ------------------------------------------------------------------

# Kept as a list, not only raised: code under test may catch what the hook raises, and a broken
# address guard would then look like a refused connection.
_outside: list[str] = []


class NetworkUsed(AssertionError):
    """A test reached for another machine."""


def _is_here(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback or address.is_unspecified)


def _is_number(host: object) -> bool:
    """Numeric hosts are parsed, not looked up."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in str(host) else socket.AF_INET, str(host))
    except OSError:
        return False
    return True


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith("socket."):
        return
    if event in {"socket.connect", "socket.sendto"}:
        sock, address = arguments
        if sock.family == _UNIX or _is_here(address[0]):
            return
    elif event == "socket.getaddrinfo":
        address = arguments[0]
        if _is_here(address) or _is_number(address):
            return
    else:
        return
    _outside.append(f"{event} {address!r}")
    raise NetworkUsed(f"Tests stay on this machine; this one wanted {event} {address!r}.")


# An audit hook sees every connect, also those of C code that calls the socket's method.
sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def network_tries() -> Iterator[list[str]]:
    """Fails a test that left something in here: what it tried to reach beyond loopback."""
    _outside.clear()
    yield _outside
    tried, _outside[:] = list(_outside), []
    assert not tried, f"Tests stay on this machine; this one wanted {tried}."


# --- No second opener of the test database -------------------------------------------------------

sys.addaudithook(watch)


# --- No sleeping ---------------------------------------------------------------------------------


class Slept(AssertionError):
    """A test waited for time instead of for a condition."""


def _is_ours(frame: Any, *folders: str) -> bool:
    file = frame.f_code.co_filename
    return any(file.startswith(str(ROOT / folder)) for folder in folders)


@pytest.fixture(autouse=True)
def _no_sleeping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """time.sleep in our code or tests, asyncio.sleep in tests: wait on an event with a deadline.

    Libraries may sleep (they poll subprocesses), and our async code may (it backs off).
    """
    if request.node.get_closest_marker("soak") or request.node.get_closest_marker("sleeps"):
        return
    really_sleep, really_sleep_async = time.sleep, asyncio.sleep

    def sleep(seconds: float) -> None:
        if seconds > LONGEST_SLEEP_SECONDS and _is_ours(
            sys._getframe(1), "tests", "controlplane", "providers", "tenants"
        ):
            raise Slept(f"time.sleep({seconds}): wait on a condition with a deadline instead.")
        really_sleep(seconds)

    def sleep_async(delay: float, result: Any = None) -> Any:
        if delay > LONGEST_SLEEP_SECONDS and _is_ours(sys._getframe(1), "tests"):
            raise Slept(f"asyncio.sleep({delay}): wait on a condition with a deadline instead.")
        return really_sleep_async(delay, result)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(asyncio, "sleep", sleep_async)


def wait_until(
    condition: Callable[[], Any], *, seconds: float = LONG_SECONDS, what: str = ""
) -> Any:
    """The first true answer of `condition`; fails after `seconds`, saying `what` did not happen."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.02)
    return answer


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., Any]:
    return wait_until


# --- Who and what most tests need ----------------------------------------------------------------


@pytest.fixture
def tenant(db: None) -> Tenant:
    from tenants.members.models import Tenant

    return Tenant.objects.create(slug="acme", name="Acme")


@pytest.fixture
def other_tenant(db: None) -> Tenant:
    from tenants.members.models import Tenant

    return Tenant.objects.create(slug="globex", name="Globex")


@pytest.fixture
def user(tenant: Tenant) -> User:
    """A person with the role `member` in `tenant`."""
    from tenants import scope
    from tenants.members.models import Membership, User

    person = User.objects.create_user("member@acme.test", "correct horse battery")
    with scope.tenant(tenant.id):
        Membership.objects.create(tenant=tenant, user=person, role=Membership.Role.MEMBER)
    return person


@pytest.fixture
def staff(db: None) -> User:
    """Platform staff with every permission; a member of no tenant."""
    from tenants.members.models import User

    return User.objects.create_superuser("staff@platform.test", "correct horse battery")


@pytest.fixture
def scope(tenant: Tenant) -> Iterator[Tenant]:
    """The test acts for `tenant`."""
    from tenants import scope

    with scope.tenant(tenant.id):
        yield tenant


@pytest.fixture
def key(tenant: Tenant) -> tuple[ApiKey, Secret]:
    """A key of `tenant` and its text, as `create_key` hands them out."""
    from tenants import scope
    from tenants.audit import actor
    from tenants.keys import services

    with scope.tenant(tenant.id), actor.acting_as("command", None, "tests", ""):
        return services.create_key(tenant=tenant, label="test key")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    from tests import migrated

    migrated.migrate_once()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Once, by the process that all others were started by."""
    if not hasattr(session.config, "workerinput"):
        from tests import migrated

        migrated.drop()


@pytest.fixture(scope="session", autouse=True)
def _flush_empties_the_audit_log() -> Iterator[None]:
    from tests.audit_log import emptied_by_flush

    with emptied_by_flush():
        yield
