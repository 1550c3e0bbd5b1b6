"""With Redis, a change is heard at once instead of at the next poll. Nothing depends on it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from threading import Event
from typing import Any, Final

import redis
from django.conf import settings

log = logging.getLogger(__name__)

CHANNEL: Final = "control-plane:revisions"
_RETRY_SECONDS: Final = 2.0


@functools.lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    # Short: an admin's change must not wait for a Redis that is gone.
    return redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=0.5)


def publish(topic: str) -> None:
    """Best effort, after the commit: pollers find the change without it."""
    url = settings.REDIS_URL
    if not url:
        return
    try:
        _client(url).publish(CHANNEL, topic)
    except redis.RedisError as error:
        log.warning("Redis did not take the wake-up for %s: %s", topic, error)


def listen(url: str, wake: Callable[[], None], stopped: Event) -> None:
    """Calls `wake` for each message until `stopped`; comes back after an outage."""
    is_down = False
    while not stopped.is_set():
        try:
            client: Any = _client(url)  # redis does not type pubsub()
            with client.pubsub(ignore_subscribe_messages=True) as channel:
                channel.subscribe(CHANNEL)
                if is_down:
                    log.info("Redis wake-ups are back.")
                    is_down = False
                wake()  # what was said while nobody listened
                while not stopped.is_set():
                    if channel.get_message(timeout=0.5) is not None:
                        wake()
        except redis.RedisError as error:
            if not is_down:
                log.warning("Redis wake-ups are away, polling goes on: %s", error)
                is_down = True
            stopped.wait(_RETRY_SECONDS)
