"""The first words with a login server: register, discover, and ask for a code."""

from __future__ import annotations

import msgspec

from providers.catalog.models import Provider
from providers.errors import ProviderError
from providers.oauth import asking
from providers.oauth.flows import device
from providers.oauth.flows.login import Login, frozen
from providers.oauth.flows.outcomes import Ended, Shown, Transient
from providers.oauth.flows.wire import Ask, Reply
from providers.oauth.memory import Memory


def start_device(
    provider: Provider, login: Login, memory: Memory, client_name: str
) -> tuple[Shown | Ended, Memory]:
    """Up to two questions, and none of them again: the person can press "start again"."""
    if device.needs_discovery(login):
        reply = _heard(provider, device.discovery_ask(login))
        if isinstance(reply, Ended):
            return reply, memory
        found = device.read_discovery(login, reply)
        if isinstance(found, Ended | Transient):
            return _ended(found), memory
        login = msgspec.structs.replace(login, oauth=msgspec.structs.replace(login.oauth, **found))
        memory = msgspec.structs.replace(memory, login=frozen(login), discovered=found)
    if device.needs_registration(login):
        reply = _heard(provider, device.register_ask(login, client_name))
        if isinstance(reply, Ended):
            return reply, memory
        client = device.read_registration(reply)
        if isinstance(client, Ended | Transient):
            return _ended(client), memory
        memory = msgspec.structs.replace(memory, client=client)
    reply = _heard(provider, device.start_ask(login, memory.client))
    if isinstance(reply, Ended):
        return reply, memory
    shown = device.read_start(login, reply)
    if isinstance(shown, Ended | Transient):
        return _ended(shown), memory
    return shown, msgspec.structs.replace(memory, device_code=shown.device_code)


def _heard(provider: Provider, question: Ask) -> Reply | Ended:
    try:
        return asking.ask(provider, question)
    except ProviderError as error:
        return Ended("error", "provider_unreachable", error.message)


def _ended(outcome: Ended | Transient) -> Ended:
    if isinstance(outcome, Transient):
        return Ended("error", "provider_unreachable", outcome.sentence)
    return outcome
