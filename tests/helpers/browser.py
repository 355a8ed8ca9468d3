"""A headless Chromium for tests of pages; a test that needs one is skipped where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@contextmanager
def open_page(width: int = 1200, height: int = 900) -> Iterator:
    """Yield an empty page (playwright's Page). At the end, check that no script on it failed.

    `page.context.new_page()` opens another tab. Every request that leaves this machine is refused, and counts
    as a failure.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if program is None:
        pytest.skip(f"needs a browser: {', '.join(PROGRAMS)}; on Debian: apt-get install chromium")
    errors: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": width, "height": height})
        context.on("weberror", lambda error: errors.append(str(error.error)))
        context.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)

        def refuse_others(route: object) -> None:
            """Let requests to this machine pass."""
            url = route.request.url
            if url.startswith(("file:", "data:", "blob:", "http://127.0.0.1", "http://localhost")):
                route.continue_()
            else:
                errors.append(f"the page asked for {url}")
                route.abort()

        context.route("**/*", refuse_others)
        yield context.new_page()
        browser.close()
    assert errors == []
