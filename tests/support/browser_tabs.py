"""Tabs of one browser window, of which only one is visible, as a person has them.

Pages of Playwright all count as visible. So these tabs are opened through the DevTools protocol, beside Playwright.
"""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, CDPSession

SECONDS = 180.0  # of patience, on cores that others use


@dataclass
class Tabs:
    """The tabs of one window."""

    devtools: CDPSession
    answers: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def open(self, url: str, *, in_background: bool = False) -> "Tab":
        """Open a page in a new tab, and wait until it is loaded."""
        options = {"newWindow": not self.targets, "background": in_background}
        target = self.devtools.send("Target.createTarget", {"url": url, **options})["targetId"]
        self.targets.append(target)
        session = self.devtools.send("Target.attachToTarget", {"targetId": target})["sessionId"]
        tab = Tab(self, target, session)
        tab.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
        return tab

    def remember(self, event: dict[str, Any]) -> None:
        """Keep the answer of a tab."""
        answer = json.loads(event["message"])
        self.answers[event["sessionId"], answer.get("id", -1)] = answer


@dataclass
class Tab:
    """One tab."""

    tabs: Tabs
    target: str
    session: str

    def show(self) -> None:
        """Make it the visible one, as a click on it does."""
        self.tabs.devtools.send("Target.activateTarget", {"targetId": self.target})
        self.wait_for("document.visibilityState === 'visible'")

    def ask(self, expression: str) -> Any:
        """Return the value of an expression in its page."""
        number = next(self.tabs.numbers)
        parameters = {"expression": expression, "returnByValue": True}
        message = json.dumps({"id": number, "method": "Runtime.evaluate", "params": parameters})
        self.tabs.devtools.send("Target.sendMessageToTarget", {"sessionId": self.session, "message": message})
        until = time.monotonic() + SECONDS
        while (self.session, number) not in self.tabs.answers:
            assert time.monotonic() < until, f"no answer: {expression}"
            self.tabs.devtools.send("Browser.getVersion")  # answers of tabs arrive meanwhile
            time.sleep(0.02)
        answer = self.tabs.answers.pop((self.session, number))
        return answer.get("result", {}).get("result", {}).get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression in its page is true."""
        until = time.monotonic() + SECONDS
        while not self.ask(expression):
            assert time.monotonic() < until, f"it did not happen: {expression}"
            time.sleep(0.05)


@contextmanager
def open_tabs(browser: Browser) -> Iterator[Tabs]:
    """Yield the tabs of a window. They are closed at the end."""
    devtools = browser.new_browser_cdp_session()
    tabs = Tabs(devtools)
    devtools.on("Target.receivedMessageFromTarget", tabs.remember)
    try:
        yield tabs
    finally:
        for target in tabs.targets:
            devtools.send("Target.closeTarget", {"targetId": target})
        devtools.detach()
