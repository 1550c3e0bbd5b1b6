"""A real browser on a real server: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "screenshots"
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK = {"width": 1360, "height": 900}
PHONE = {"width": 390, "height": 844}


def chromium() -> str | None:
    named = os.environ.get("CHROMIUM", "")
    candidates = [named, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    return next((path for name in candidates if name and (path := shutil.which(name))), None)


# Not for the session: Playwright's event loop and greenlets live in this thread while it runs,
# and other tests have loops of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        reason = "No Chromium on this machine: install it, or name it in the variable CHROMIUM."
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with pytest.MonkeyPatch.context() as patch:
        # Playwright's own event loop runs in this thread; Django would refuse its database calls
        # there, though nothing of them is asynchronous.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        with sync_playwright() as playwright:
            started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
            yield started
            started.close()


@dataclass
class Watched:
    """Everything the browser complained about, and every request that left this machine."""

    complaints: list[str] = field(default_factory=list)
    # Text of complaints that a test provokes on purpose.
    expected: tuple[str, ...] = ()

    def watch(self, page: Page, origin: str) -> None:
        def on_console(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                self.complaints.append(f"{message.type}: {message.text}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))

        def on_failed(request: Request) -> None:
            # Going on to the next page cancels what the last one was still fetching.
            if request.failure != "net::ERR_ABORTED":
                self.complaints.append(f"failed: {request.url} {request.failure}")

        page.on("requestfailed", on_failed)
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((origin, "data:", "blob:"))
                else self.complaints.append(f"left the machine: {request.url}")
            ),
        )
        # Violations are also reported when the console stays silent.
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', (event) => console.error("
            "'CSP ' + event.effectiveDirective + ' ' + event.blockedURI + ' ' + event.sample));"
        )

    @property
    def unexpected(self) -> list[str]:
        return [
            text
            for text in self.complaints
            if not any(expected in text for expected in self.expected)
        ]


@dataclass
class Visitor:
    """A person at a browser of their own."""

    page: Page
    context: BrowserContext
    origin: str
    watched: Watched

    def go(self, path: str) -> None:
        self.page.goto(self.origin + path)

    def sign_in(self, email: str, password: str) -> None:
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Password", exact=True).fill(password)
        self.page.get_by_role("button", name="Sign in", exact=True).click()

    def picture(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    @property
    def is_too_wide(self) -> bool:
        return bool(
            self.page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
        )


@pytest.fixture
def visitors(browser: Browser, live_server: object) -> Iterator[VisitorFactory]:
    factory = VisitorFactory(browser, str(live_server))
    yield factory
    factory.close()


@dataclass
class VisitorFactory:
    browser: Browser
    origin: str
    made: list[Visitor] = field(default_factory=list)

    def __call__(
        self, *, is_phone: bool = False, is_dark: bool = False, has_scripts: bool = True
    ) -> Visitor:
        context = self.browser.new_context(
            viewport=PHONE if is_phone else DESK,  # type: ignore[arg-type]  # a plain dict will do
            color_scheme="dark" if is_dark else "light",
            has_touch=is_phone,
            java_script_enabled=has_scripts,
        )
        context.set_default_timeout(15_000)
        page = context.new_page()
        watched = Watched()
        watched.watch(page, self.origin)
        visitor = Visitor(page, context, self.origin, watched)
        self.made.append(visitor)
        return visitor

    def close(self) -> None:
        """Ends every visit. Fails when a page complained of anything a test did not expect."""
        for visitor in self.made:
            visitor.context.close()
        complaints = [text for visitor in self.made for text in visitor.watched.unexpected]
        assert not complaints, "\n".join(complaints)
