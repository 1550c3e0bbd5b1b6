"""What checks of registrations found, kept for some days."""

from __future__ import annotations

from datetime import datetime

from django.db import models

from controlplane.kit import clock
from controlplane.kit.badges import StateChoices, Tone
from controlplane.kit.models import Row
from providers.catalog.models import Provider


class Finding(StateChoices):
    """How a check went. The sentence beside it says what to do."""

    WORKS = "works", Tone.GOOD, "Works"
    REACHABLE = "reachable", Tone.INFO, "Reachable, key not proven"
    BUSY = "busy", Tone.WARN, "Busy"
    NO_CREDENTIAL = "no_credential", Tone.WARN, "No credential"
    KEY_REFUSED = "key_refused", Tone.BAD, "Key refused"
    FORBIDDEN = "forbidden", Tone.BAD, "Not allowed"
    UNPAID = "unpaid", Tone.BAD, "Not paid"
    WRONG_PATH = "wrong_path", Tone.BAD, "Wrong path"
    WRONG_PROTOCOL = "wrong_protocol", Tone.BAD, "Wrong protocol"
    MODEL_MISSING = "model_missing", Tone.BAD, "Model missing"
    BAD_REQUEST = "bad_request", Tone.BAD, "Request refused"
    REDIRECTED = "redirected", Tone.BAD, "Redirects"
    NAME_UNKNOWN = "name_unknown", Tone.BAD, "Name unknown"
    ADDRESS_REFUSED = "address_refused", Tone.BAD, "Address not allowed"
    UNREACHABLE = "unreachable", Tone.BAD, "Connection refused"
    TLS = "tls", Tone.BAD, "TLS failed"
    TIMEOUT = "timeout", Tone.BAD, "No answer in time"
    BROKEN = "broken", Tone.BAD, "Broke off"
    UPSTREAM_ERROR = "upstream_error", Tone.BAD, "Provider's error"
    MISCONFIGURED = "misconfigured", Tone.BAD, "Cannot work"


# Somebody can use the provider: a limit that is reached now is no fault of the registration.
FINE = frozenset({Finding.WORKS, Finding.REACHABLE, Finding.BUSY})


class Standing(StateChoices):
    """How a registration is, in one word. Follows from its switch and latest check; no column."""

    WORKING = "working", Tone.GOOD, "Working"
    UNCHECKED = "unchecked", Tone.INFO, "Not checked yet"
    NO_CREDENTIAL = "no_credential", Tone.WARN, "No credential"
    FAILING = "failing", Tone.BAD, "Failing"
    CANNOT_WORK = "cannot_work", Tone.BAD, "Cannot work"
    OFF = "off", Tone.QUIET, "Off"


class ProviderCheckQuerySet(models.QuerySet["ProviderCheck"]):
    def before(self, moment: datetime) -> ProviderCheckQuerySet:
        return self.filter(at__lt=moment)


class ProviderCheck(Row):
    """One check of one registration. `sentence` never holds a secret."""

    tenant_owned_through = "provider"

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="checks")
    at = models.DateTimeField(default=clock.now)
    is_ok = models.BooleanField()
    finding = models.CharField(max_length=16, choices=Finding)
    sentence = models.CharField(max_length=500)
    milliseconds = models.PositiveIntegerField(null=True, blank=True)

    objects = ProviderCheckQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["provider", "-at"], name="provider_check_latest"),
            models.Index(fields=["at"], name="provider_check_age"),
        ]

    def __str__(self) -> str:
        return f"{self.provider_id} at {self.at:%Y-%m-%d %H:%M:%S}: {self.finding}"
