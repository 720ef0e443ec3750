"""A real browser on a real studio: Chromium, driven by Playwright, and `lenet selftest` in a process of its own.

Tests wait for what the page counts (`data-asked`, `data-seq`), never for time. No page may say anything on the console.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import Server, find_chromium, missing
from studio_page import StudioPage

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a browser where there is none; `test_a_browser_takes_part` says why, once for all."""
    if config.getoption("--require-browser") or missing() is None:
        return
    needing = [item for item in items if HERE in item.path.parents and "browser" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=needing)
    items[:] = [item for item in items if item not in needing]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return Chromium, started."""
    if reason := missing():
        pytest.fail(f"--require-browser: {reason}", pytrace=False)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., Server]]:
    """Return what starts a studio in a folder, with the arguments of ``lenet``; all end with the session."""
    started: list[Server] = []

    def start(folder: Path, *arguments: str) -> Server:
        server = Server(folder, *(arguments or ("selftest", "--no-browser", "--port", "0")))
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def shared(start_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Return a studio for tests that change nothing in it."""
    return start_server(tmp_path_factory.mktemp("studio"))


@pytest.fixture
def own(start_server: Callable[..., Server], tmp_path: Path) -> Iterator[Server]:
    """Return a studio for one test alone, in ``tmp_path``."""
    server = start_server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., StudioPage]]:
    """Return what opens a page at an address, 1280 pixels wide unless told otherwise, and looks at its console."""
    opened: list[StudioPage] = []

    def open_page(address: str, width: int = 1280, height: int = 900, **options: Any) -> StudioPage:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(60_000)
        page = StudioPage(context.new_page())
        opened.append(page)
        page.goto(address)
        return page

    yield open_page
    complaints = [text for page in opened for text in page.complaints]
    for page in opened:
        page.page.context.close()
    assert complaints == []


@pytest.fixture
def studio(open_page: Callable[..., StudioPage], shared: Server) -> StudioPage:
    """Return the page to draw on."""
    page = open_page(shared.address)
    page.settle()
    return page
