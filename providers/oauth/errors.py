"""What can go wrong with a login before a vendor is even asked, and afterwards."""

from __future__ import annotations

from controlplane.kit.errors import FaultKind
from providers.errors import ProviderError


class LoginsOff(ProviderError):
    """The operator has not switched the logins of this provider on."""

    kind = FaultKind.FORBIDDEN
    code = "logins_off"


class UnknownWay(ProviderError):
    """This provider has no such way to sign in."""

    kind = FaultKind.BAD_REQUEST
    code = "unknown_login"


class TooManyLogins(ProviderError):
    """A person may have so many open logins, and start so many an hour (bar W6)."""

    kind = FaultKind.RATE_LIMIT
    code = "too_many_logins"


class LoginClosed(ProviderError):
    """It ended, or somebody else was faster."""

    kind = FaultKind.CONFLICT
    code = "login_closed"


class BadPastedCode(ProviderError):
    kind = FaultKind.BAD_REQUEST
    code = "bad_pasted_code"


class SharingForbidden(ProviderError):
    """One person's account for several people, and nobody recorded that the vendor permits it."""

    kind = FaultKind.FORBIDDEN
    code = "sharing_forbidden"


class LoginFailed(ProviderError):
    """A vendor's login server said no, or nothing."""

    kind = FaultKind.UPSTREAM
    code = "login_failed"
