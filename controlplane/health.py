"""/health: the process answers. /ready: everything it needs answers too.

Neither tells a stranger anything else; with METRICS_TOKEN as bearer token /ready names what it
looked at.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from controlplane.celery import HEARTBEAT
from controlplane.kit import clock
from controlplane.kit.errors import GatewayError
from controlplane.kit.jobs.models import Heartbeat
from controlplane.supervisor.preflight import unapplied_migrations

# Beat comes every second; this is what the supervisor grants before it restarts.
SILENT_AFTER: Final = timedelta(seconds=30)
# Anybody may ask, so asking often costs one look per this time.
LOOK_SECONDS: Final = 1.0
# Opening a data key may mean a call to an external key service.
KEY_RING_LOOK_SECONDS: Final = 30.0

OK: Final = "ok"


@require_safe
@never_cache
def health(_request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    results = _readiness.results()
    is_ready = all(result == OK for result in results.values())
    body: dict[str, object] = {"status": "ok" if is_ready else "not ready"}
    if may_see_details(request):
        body["checks"] = results
    return JsonResponse(body, status=200 if is_ready else 503)


def may_see_details(request: HttpRequest) -> bool:
    token: str = settings.METRICS_TOKEN
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return (
        bool(token)
        and scheme.lower() == "bearer"
        and hmac.compare_digest(given.strip().encode(), token.encode())
    )


class Readiness:
    """The last look at each part. One instance per process; callers in between share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked_at = -LOOK_SECONDS
        self._results: dict[str, str] = {}
        self._is_migrated = False
        self._key_ring_ok_at: float | None = None

    def results(self) -> dict[str, str]:
        """Name of each part to "ok" or to what is wrong with it, in words without secrets."""
        with self._lock:
            if time.monotonic() - self._looked_at >= LOOK_SECONDS:
                self._results = self._look()
                self._looked_at = time.monotonic()
            return self._results

    def _look(self) -> dict[str, str]:
        results = {"database": _answer(_look_at_database)}
        rest: dict[str, Callable[[], str]] = {
            "migrations": self._look_at_migrations,
            "key_ring": self._look_at_key_ring,
            "background": _look_at_background,
        }
        for name, look in rest.items():
            # They all ask the database, each with a time-out of its own.
            results[name] = _answer(look) if results["database"] == OK else "unknown"
        return results

    def _look_at_migrations(self) -> str:
        # Reading the graph takes a tenth of a second, and what was applied stays so.
        if not self._is_migrated:
            missing = unapplied_migrations()
            if missing:
                return f"{len(missing)} not applied, the first is {missing[0]}"
            self._is_migrated = True
        return OK

    def _look_at_key_ring(self) -> str:
        from tenants.vault.services import verify_key_ring

        now = time.monotonic()
        if self._key_ring_ok_at is None or now - self._key_ring_ok_at > KEY_RING_LOOK_SECONDS:
            self._key_ring_ok_at = None
            verify_key_ring()
            self._key_ring_ok_at = now
        return OK


def _look_at_database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return OK


def _look_at_background() -> str:
    beat_at = Heartbeat.objects.filter(name=HEARTBEAT).values_list("beat_at", flat=True).first()
    if beat_at is None:
        return "has not been heard yet"
    silent = clock.now() - beat_at
    return OK if silent <= SILENT_AFTER else f"silent for {silent.total_seconds():.0f} s"


def _answer(look: Callable[[], str]) -> str:
    try:
        return look()
    except DatabaseError as error:
        return f"does not answer ({type(error).__name__})"
    except InconsistentMigrationHistory:
        return "the applied migrations do not fit the code"
    except (GatewayError, ImproperlyConfigured) as error:
        return str(error)


_readiness = Readiness()
