"""What asking for a file or a batch can fail with."""

from __future__ import annotations

from controlplane.kit.errors import FaultKind
from providers.errors import ProviderError


class VendorObjectNotFound(ProviderError):
    """Never made, deleted, or another tenant's: one answer for all of them."""

    kind = FaultKind.NOT_FOUND
    code = "not_found"


class VendorObjectUnreachable(ProviderError):
    """The row is there, and the registration or the credential that made it is gone."""

    kind = FaultKind.CONFLICT
    code = "credential_removed"


class VendorObjectTaken(ProviderError):
    """A vendor named something new with an id that stands for something else here."""

    kind = FaultKind.UPSTREAM
    code = "upstream_unreadable"


class BadBatchFile(ProviderError):
    """The file of a batch, where a line cannot be read."""

    kind = FaultKind.BAD_REQUEST
    code = "invalid_batch_file"
