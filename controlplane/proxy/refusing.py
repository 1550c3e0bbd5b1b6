"""An error as an answer, in the caller's dialect."""

from __future__ import annotations

from controlplane.kit import json
from controlplane.kit.errors import Fault
from controlplane.proxy import respond
from controlplane.proxy.exchange import Answer
from controlplane.proxy.faults import fault_headers
from providers.protocols import registry


def refused(dialect: str, fault: Fault, request_id: str) -> Answer:
    """An error answer in the words of `dialect`."""
    body = json.dumps(registry.client(dialect).encode_error(fault, request_id))
    headers = [*respond.json_headers(request_id), *fault_headers(fault)]
    return Answer(fault.http_status, headers, body)
