"""Snapshots are reloaded when their topics move, at once with Redis, soon without."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.db import transaction

from tenants.revisions import wake
from tenants.revisions.services import TOPICS, bump
from tenants.revisions.watcher import INTERVAL_SECONDS, Watcher


class Recorder:
    def __init__(self) -> None:
        self.reloads = 0
        self.confirmed: list[float] = []
        self.error: Exception | None = None

    def reload(self) -> None:
        self.reloads += 1
        if self.error is not None:
            raise self.error

    def confirm(self, as_of: float) -> None:
        self.confirmed.append(as_of)


class Revisions:
    def __init__(self) -> None:
        self.values = dict.fromkeys(TOPICS, 0)
        self.error: Exception | None = None
        self.asked = 0

    def __call__(self) -> dict[str, int]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return dict(self.values)


def test_only_what_moved_is_reloaded_and_everything_is_confirmed() -> None:
    revisions, keys, routes = Revisions(), Recorder(), Recorder()
    watcher = Watcher(read=revisions, redis_url="")
    watcher.add({"keys", "tenants"}, keys)
    watcher.add({"routes"}, routes)
    before = time.monotonic()
    assert watcher.poll()
    assert (keys.reloads, routes.reloads) == (1, 1)
    revisions.values["tenants"] += 1
    assert watcher.poll()
    assert watcher.poll()
    assert (keys.reloads, routes.reloads) == (2, 1)
    assert len(keys.confirmed) == len(routes.confirmed) == 3
    assert before <= keys.confirmed[0] <= keys.confirmed[2] <= time.monotonic()


def test_a_failed_reload_is_tried_again_unconfirmed_and_stops_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    revisions, broken, sound = Revisions(), Recorder(), Recorder()
    watcher = Watcher(read=revisions, redis_url="")
    watcher.add({"keys"}, broken)
    watcher.add({"keys"}, sound)
    broken.error = ValueError("half a row")
    with caplog.at_level(logging.ERROR):
        assert not watcher.poll()
        assert not watcher.poll()
    assert (broken.reloads, broken.confirmed) == (2, [])
    assert (sound.reloads, len(sound.confirmed)) == (1, 2)
    assert "half a row" in caplog.text
    broken.error = None
    assert watcher.poll()
    assert (broken.reloads, len(broken.confirmed)) == (3, 1)


def test_a_topic_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="kyes"):
        Watcher(redis_url="").add({"kyes"}, Recorder())


def test_the_thread_outlives_an_outage_and_says_so_once(
    caplog: pytest.LogCaptureFixture, wait_until: Callable[..., Any]
) -> None:
    revisions, keys = Revisions(), Recorder()
    watcher = Watcher(read=revisions, redis_url="", interval_seconds=0.01)
    watcher.add({"keys"}, keys)
    revisions.error = OSError("connection refused")
    with caplog.at_level(logging.INFO, "tenants.revisions"):
        watcher.start()
        try:
            wait_until(lambda: revisions.asked >= 5)
            assert keys.reloads == 0
            revisions.error = None
            wait_until(lambda: keys.confirmed)
        finally:
            watcher.stop()
    assert caplog.text.count("connection refused") == 1
    assert "answers again" in caplog.text
    asked = revisions.asked
    assert not any(thread.name.startswith("revisions") for thread in threading.enumerate())
    assert revisions.asked == asked


def test_a_wake_up_does_not_wait_for_the_turn(wait_until: Callable[..., Any]) -> None:
    revisions, keys = Revisions(), Recorder()
    watcher = Watcher(read=revisions, redis_url="", interval_seconds=3600)
    watcher.add({"keys"}, keys)
    watcher.start()
    try:
        wait_until(lambda: keys.reloads == 1)
        with pytest.raises(RuntimeError):
            watcher.start()
        revisions.values["keys"] += 1
        watcher.wake()
        wait_until(lambda: keys.reloads == 2)
    finally:
        watcher.stop()


def test_the_turn_leaves_time_for_a_reload_within_the_second() -> None:
    assert INTERVAL_SECONDS <= 0.5


# --- With Redis ----------------------------------------------------------------------------------


def _redis_url() -> str:
    return os.environ.get("REDIS_URL", "")


@pytest.mark.storage
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("not _redis_url()", reason="set REDIS_URL: this one needs a real server")
def test_a_commit_wakes_the_watcher_of_another_process(
    settings: Any, wait_until: Callable[..., Any]
) -> None:
    settings.REDIS_URL = _redis_url()
    keys = Recorder()
    watcher = Watcher(interval_seconds=3600)
    watcher.add({"keys"}, keys)
    listening = redis.Redis.from_url(settings.REDIS_URL)
    watcher.start()
    try:
        wait_until(lambda: keys.reloads == 1)
        wait_until(lambda: listening.pubsub_numsub(wake.CHANNEL)[0][1] >= 1)
        with transaction.atomic():
            bump("keys")
        wait_until(lambda: keys.reloads == 2, what="a reload by wake-up")
    finally:
        watcher.stop()
        listening.close()


@pytest.mark.django_db(transaction=True)
def test_a_redis_that_is_away_neither_fails_a_change_nor_stops_the_watcher(
    settings: Any, wait_until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    keys = Recorder()
    watcher = Watcher(interval_seconds=0.02)
    watcher.add({"keys"}, keys)
    with caplog.at_level(logging.WARNING, "tenants.revisions"):
        watcher.start()
        try:
            wait_until(lambda: keys.reloads == 1)
            with transaction.atomic():
                bump("keys")
            wait_until(lambda: keys.reloads == 2)
        finally:
            watcher.stop()
    assert "did not take the wake-up for keys" in caplog.text
