"""Helpers for tests of pages in a browser: Chromium, the rules of axe, and a search for elements that overflow."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# Runs every rule of axe that concerns WCAG 2.2 or is good practice, also the rules that axe leaves out by default.
AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
# Finds elements that reach beyond the window, and elements whose content overflows.
OVERFLOWING = """() => [...document.body.querySelectorAll('*:not(svg *)')].filter(node => {
  const box = node.getBoundingClientRect(), style = getComputedStyle(node);
  const outside = box.right > innerWidth + 1 || box.left < -1;
  const inline = style.display === 'inline' || node.matches('input, .field');
  const scrolls = ['hidden', 'auto'].includes(style.overflowX);
  return box.width > 1 && (outside || (!inline && !scrolls && node.scrollWidth > node.clientWidth + 1));
}).map(node => node.outerHTML.slice(0, 200))"""


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield the system's Chromium, driven by Playwright; without Chromium, the test is skipped."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


def axe_faults(page: Any) -> list[Any]:
    """Return the rules of axe that the page breaks, each as (rule, elements that break it)."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page, options=AXE).response["violations"]
    return [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in violations]
