"""The page, driven by keyboard and mouse in a real browser against a real server."""

from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from retrieval.api.app import Snapshot, create_app
from retrieval.catalogue.ads import Ads
from retrieval.config import ServeConfig
from retrieval.search.retriever import Retriever

pytestmark = pytest.mark.slow
EVIL = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def url(world: SimpleNamespace) -> Iterator[str]:
    catalogue = world.small_catalogue()
    titles = [EVIL if row == 9 else f"Chair number {row}" for row in range(60)]
    object.__setattr__(catalogue, "attributes", catalogue.attributes.append_column("title", pa.array(titles)))
    rows = [*world.random_ads(60, 150, 4), {"ad_id": "evil", "item_id": "item00009", "campaign_id": "c", "version": 9}]
    rows += [{"ad_id": "asleep", "item_id": "item00008", "campaign_id": "c", "status": "paused"}]
    ads = Ads.from_table(world.ads_table(rows), catalogue.row_of, quiet=True)
    retriever = Retriever(catalogue, world.small_edges(catalogue), ads, None, as_of=world.AS_OF)
    snapshot = Snapshot("v1", world.AS_OF, retriever)
    app = create_app(lambda: snapshot, lambda: "v1", ServeConfig(), lambda as_of: as_of)
    with world.serving(app) as address:
        yield address


@pytest.fixture(scope="module")
def with_stages(world: SimpleNamespace) -> Iterator[str]:
    """A version with a re-ranker, in which every item is advertised."""
    catalogue = world.small_catalogue()
    parts = {"as_of": world.AS_OF, "reranker": world.small_reranker()}
    snapshot = Snapshot("v1", world.AS_OF, Retriever(catalogue, world.small_edges(catalogue), None, None, **parts))
    with world.serving(create_app(lambda: snapshot, lambda: "v1")) as address:
        yield address


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    context = browser.new_context(color_scheme=request.param, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.goto(url)
    yield page
    context.close()
    assert faults == []


def test_an_item_is_found_by_keyboard_alone_and_its_ads_are_cards_with_reasons(page: Any) -> None:
    page.locator("#item:focus").wait_for()
    # Suggestions change while the text is typed; those for the complete text stay.
    with page.expect_response(lambda answer: answer.url.endswith("q=chair%20number%201")):
        page.keyboard.type("chair number 1")
    page.wait_for_function("document.querySelectorAll('#options li').length == 10")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    selected = page.locator("#options li[aria-selected=true]")
    assert selected.count() == 1
    assert page.get_attribute("#item", "aria-activedescendant") == selected.get_attribute("id")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    cards = page.locator(".card")
    assert cards.count() == 12
    assert page.locator(".card .reason.strong_click").count() > 0
    scores = [
        float(text.removeprefix("score ")) for text in page.locator(".card .top span:last-child").all_inner_texts()
    ]
    assert scores == sorted(scores, reverse=True)
    assert page.locator("#neighbours li").count() >= 3
    assert "item=item000" in page.url, "the address links to the item that is shown"
    cards.first.locator("summary").click()
    assert "campaign" in cards.first.locator("dl").inner_text()


def test_a_title_with_markup_is_shown_as_text(page: Any, url: str) -> None:
    page.goto(f"{url}/?item=item00001&k=60")
    page.wait_for_selector(".card")
    assert EVIL in page.locator("#cards").inner_text()
    assert page.title() == "LightSAGE: why this ad?"
    assert page.locator("#cards img").count() == 0


def test_late_suggestions_do_not_cover_the_results(page: Any) -> None:
    from playwright.sync_api import Error

    delayed: list[Any] = []
    page.route(lambda address: "q=item00001" in address, lambda route: delayed.append(route))
    with page.expect_request(lambda request: "q=item00001" in request.url):
        page.keyboard.type("item00001")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    for route in delayed:
        with suppress(Error):  # the page may have cancelled the request
            route.continue_()
    page.wait_for_timeout(300)
    assert delayed
    assert page.locator("#options").is_hidden()


def test_the_page_explains_why_an_expected_ad_is_missing(page: Any, url: str) -> None:
    page.goto(f"{url}/?item=item00001&expected=asleep")
    page.wait_for_selector("#missing li")
    assert "its status is 'paused'" in page.locator("#missing").inner_text()
    page.fill("#expected", "evil")
    page.fill("#k", "60")
    page.click("button:has-text('Show ads')")
    page.wait_for_selector("#missing.shown")
    assert page.locator(".card.expected").count() == 1


def test_cards_neighbours_and_nodes_of_the_graph_open_their_item(page: Any, url: str) -> None:
    page.goto(f"{url}/?item=item00001")
    page.wait_for_selector(".card")
    title = page.locator(".card h3 a").first
    chosen_title = title.inner_text()
    title.click()
    page.locator("#viewed h2", has_text=chosen_title).wait_for()
    page.locator("#viewed:focus").wait_for()
    neighbour = page.locator("#neighbours a").nth(1)
    chosen_title = neighbour.inner_text()
    neighbour.focus()
    page.keyboard.press("Enter")
    page.locator("#viewed h2", has_text=chosen_title).wait_for()
    chosen_title = page.locator("#neighbours a").first.inner_text()
    page.locator("#ego .node").first.click()
    page.locator("#viewed h2", has_text=chosen_title).wait_for()


def test_the_page_says_that_an_item_or_a_category_is_unknown(page: Any, url: str) -> None:
    page.goto(f"{url}/?item=ghost")
    page.locator("#message", has_text="does not know").wait_for()
    assert page.locator(".reason.fallback").count() > 0
    assert page.locator("#graph").is_hidden()
    page.goto(f"{url}/?item=item00001&category=Nowhere")
    page.locator("#message", has_text="No item of this version is in the category Nowhere").wait_for()


def test_the_page_fits_a_phone_and_loads_nothing_from_other_hosts(browser: Any, url: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"{url}/?item=item00001")
    page.wait_for_selector(".card")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert all(address.startswith((url, "data:")) for address in requested)
    context.close()


def test_stages_are_shown_and_can_be_switched_off(page: Any, with_stages: str, url: str) -> None:
    page.goto(f"{url}/?item=item00001")
    page.wait_for_selector(".card")
    assert page.locator("#stages").is_hidden(), "a version without stages shows no switches"
    page.goto(f"{with_stages}/?item=item00001")
    page.wait_for_selector(".card")

    def card_titles() -> list[str]:
        titles: list[str] = page.locator(".card h3").all_inner_texts()
        return titles

    before = card_titles()
    assert page.locator("#session-field").is_hidden()
    page.locator(".card summary").first.click()
    details = page.locator(".card dl").first.inner_text()
    assert "pre-ranker" in details
    assert "item → category" in details
    page.locator("#prerank").focus()
    page.keyboard.press("Space")
    page.click("button:has-text('Show ads')")
    page.wait_for_function(
        "old => [...document.querySelectorAll('.card h3')].map(e => e.innerText).join() !== old", arg=",".join(before)
    )
    assert "off=prerank" in page.url
    without_reranking = card_titles()
    page.reload()
    page.wait_for_selector(".card")
    assert card_titles() == without_reranking, "the address keeps the switches"
    page.goto(f"{with_stages}/?item=item00001&off=nothing%20prerank")
    page.wait_for_selector(".card")
    assert card_titles() == without_reranking, "unknown stages in the address are ignored"
    page.check("#prerank")
    page.fill("#query", "red shoes")
    page.fill("#before", "item00004, ghost")
    page.click("button:has-text('Show ads')")
    page.locator("#message", has_text="does not know ghost").wait_for()
    assert page.locator("#neighbours li").count() > 3
