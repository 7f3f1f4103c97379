"""In every state of the page axe finds nothing, nothing overflows, and the page shows the truth."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrieval.api.app import Snapshot, Tokens, create_app
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.edges import Edges
from retrieval.config import ScoreWeights, ServeConfig
from retrieval.search.retriever import Retriever
from tests.browser import OVERFLOWING, axe_faults

pytestmark = pytest.mark.slow

LONG = "x" * 500
PUNCTUATION = [
    "!",
    "#1",
    "%2e%2e",
    "&a=b",
    "+",
    ".",
    "..",
    "/",
    "//",
    "100%",
    "a,b",
    "a/../b",
    "a/b/graph",
    "what?",
    'say "hi"',
]
WRITTEN = ["🧥🧣👩🏽‍🚒", "مفتاح", "\u202eevil", "日本", "café"]
HOSTILE = [*PUNCTUATION, *WRITTEN, LONG]
TITLES = [
    "<img src=x onerror=document.title='owned'>",
    "a title that never ends " * 200,
    "W" * 600,
    "معطف أحمر طويل",
    "👩🏽‍🚒🧥🧣 " * 9,
    "\u200b",
    "   ",
    None,
]
IMAGES = [
    "https://img.example/a.png",
    "https://tracker.example/b.png",
    "http://img.example/c.png",
    "javascript:alert(1)",
    "https://img.example:8443/d.png",
    "https://user@img.example/e.png",
    '"><script>alert(1)</script>',
    None,
]
CATEGORIES = ["Shoes", " > ".join(["A category"] * 40), "C" * 300, "أحذية > جري", None]
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
EXPLAIN, ITEMS, GRAPH = "**/v1/explain", "**/v1/items?*", "**/v1/graph?*"


@pytest.fixture(scope="module")
def shops(world: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """Servers: one with awkward ids and texts, one with stages, one without ads, and one that needs a token to read."""
    plain = world.small_catalogue()
    ids = sorted([*plain.item_ids.tolist()[: plain.n_rows - len(HOSTILE)], *HOSTILE])
    attributes = pa.table(
        {
            "item_id": ids,
            "title": [TITLES[row % len(TITLES)] for row in range(len(ids))],
            "category": [CATEGORIES[row % len(CATEGORIES)] for row in range(len(ids))],
            "brand": ["B" * 200 if row % 9 == 0 else "Brand" for row in range(len(ids))],
            "image_url": [IMAGES[row % len(IMAGES)] for row in range(len(ids))],
        }
    )
    catalogue = replace(plain, item_ids=np.array(ids, dtype=object), attributes=attributes)
    table = world.edge_table(world.edge_rows(len(ids)))
    for column in ("src", "dst"):
        renamed = pa.array([ids[int(name.removeprefix("item"))] for name in table[column].to_pylist()])
        table = table.set_column(table.column_names.index(column), column, renamed)
    edges = Edges.from_table(table, catalogue.item_ids, ScoreWeights(direct=0.2))
    ads = [
        {"ad_id": f"{name}ad", "item_id": name, "campaign_id": LONG, "advertiser_id": "🧥", "version": 1}
        for name in ids
    ]
    ads.append({"ad_id": "asleep", "item_id": ids[1], "campaign_id": "c", "status": "paused", "version": 1})

    def app(
        catalogue: Any, edges: Any, ads: Any, tokens: Any = None, images: tuple[str, ...] = (), **parts: Any
    ) -> Any:
        retriever = Retriever(catalogue, edges, ads, None, as_of=world.AS_OF, **parts)
        snapshot, config = Snapshot("v1", world.AS_OF, retriever), ServeConfig(image_hosts=images)
        return create_app(lambda: snapshot, lambda: "v1", config, lambda as_of: as_of, tokens=tokens)

    def of(rows: list[Any]) -> Any:
        return Ads.from_table(world.ads_table(rows), catalogue.row_of, quiet=True)

    with (
        world.serving(app(catalogue, edges, of(ads))) as hostile,
        world.serving(app(plain, world.small_edges(plain), None, reranker=world.small_reranker())) as staged,
        world.serving(app(catalogue, edges, of([]))) as empty,
        world.serving(app(catalogue, edges, of(ads), Tokens(read="secret"))) as locked,
        world.serving(app(catalogue, edges, of(ads), images=("img.example",))) as pictured,
    ):
        yield SimpleNamespace(hostile=hostile, staged=staged, empty=empty, locked=locked, pictured=pictured)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    yield page
    context.close()
    assert faults == []


def opened(page: Any, url: str, **fields: str) -> None:
    """Open the page for some values of its fields, and wait for the ads."""
    page.goto(url)
    page.evaluate("fields => { location.search = new URLSearchParams(fields) }", {"item": "item00001", **fields})
    page.wait_for_selector(".card")


def said(page: Any, words: str) -> None:
    """Wait until the message has these words."""
    page.locator("#message", has_text=words).wait_for()


def answered(page: Any, path: str, status: int, body: str, **headers: str) -> None:
    """Answer requests to a path in the server's place."""
    page.route(path, lambda route: route.fulfill(status=status, body=body, headers=headers))


def problem(detail: str) -> str:
    return json.dumps({"detail": detail})


def submit(page: Any) -> None:
    page.get_by_role("button", name="Show ads").click()


# States


def empty(page: Any, shops: Any) -> None:
    page.goto(shops.hostile)
    page.locator("#start", has_text="Enter an item to see its ads").wait_for()
    page.wait_for_selector("#examples a")


def suggestions(page: Any, shops: Any) -> None:
    page.goto(shops.hostile)
    page.keyboard.type("item0")
    page.wait_for_selector("#options li + li")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")


def long_suggestions(page: Any, shops: Any) -> None:
    page.goto(shops.hostile)
    page.keyboard.type("xxx")
    page.wait_for_selector("#options li")
    page.fill("#item", "never")
    page.wait_for_selector("#options li + li")


def no_suggestion(page: Any, shops: Any) -> None:
    page.goto(shops.hostile)
    page.keyboard.type("nothing like this")
    page.locator("#options", has_text="No id begins with this").wait_for()


def failed_suggestions(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    answered(page, ITEMS, 500, problem("the disk is gone"))
    page.fill("#item", "it")
    page.locator("#options", has_text="No suggestions: the disk is gone").wait_for()
    assert page.locator(".card").count() == 12, "the ads still belong to the last request"


def ads(page: Any, shops: Any) -> None:
    opened(page, shops.hostile, k="24", expected="asleep", before="item00002")
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true })")
    page.locator("#missing", has_text="its status is 'paused'").wait_for()


def expected_is_shown(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    page.fill("#expected", page.locator(".card dd").first.text_content())
    submit(page)
    page.wait_for_selector(".card.expected")
    page.wait_for_selector("#missing.shown")


def long_everything(page: Any, shops: Any) -> None:
    opened(page, shops.hostile, item=LONG, k="24", expected="y" * 500, before=f"item00002, {LONG}")
    page.wait_for_selector("#missing li")


def pointed_at(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    page.locator("#neighbours li").first.hover()
    page.wait_for_selector("#neighbours li.on")
    assert page.locator("#ego .node.on").count() == 1
    assert page.locator("#ego line.on").count() >= 1


def unknown(page: Any, shops: Any) -> None:
    page.goto(f"{shops.hostile}/?item={'g' * 500}")
    said(page, "the most popular ads are shown")
    assert page.locator("#viewed").is_hidden()
    page.fill("#before", "z" * 500)
    page.fill("#item", "item00001")
    submit(page)
    said(page, "This version does not know zzz")


def unknown_category(page: Any, shops: Any) -> None:
    page.goto(f"{shops.hostile}/?item=item00001&category={'n' * 500}")
    said(page, "No item of this version is in the category nnn")


def no_ads(page: Any, shops: Any) -> None:
    page.goto(f"{shops.empty}/?item=item00001&expected=item00002")
    said(page, "No ad is eligible under these conditions")
    page.locator("#missing", has_text="no ad is for this item").wait_for()


def stages(page: Any, shops: Any) -> None:
    opened(page, shops.staged, off="prerank")
    page.wait_for_selector("#stages")


def loading(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    page.route(EXPLAIN, lambda route: None)
    submit(page)
    said(page, "Looking for ads")
    page.locator("#results").wait_for(state="hidden")


def failure(page: Any, shops: Any) -> None:
    opened(page, shops.hostile, expected="asleep")
    answered(page, EXPLAIN, 500, problem("a bug " + LONG))
    submit(page)
    said(page, "a bug")


def proxy_failure(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    answered(page, EXPLAIN, 502, "<html>Bad gateway</html>")
    submit(page)
    said(page, "The server answers 502 Bad Gateway")


def unreadable(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    answered(page, EXPLAIN, 200, "<html>Log in to the café's network</html>")
    submit(page)
    said(page, "The server's answer cannot be read.")


def refused(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    page.evaluate("document.getElementById('ask').noValidate = true")
    page.fill("#country", "D1")
    submit(page)
    said(page, "country")


def busy_for_long(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    answered(page, EXPLAIN, 503, problem("too much"), **{"Retry-After": "120"})
    submit(page)
    said(page, "too much (Retry after 120 s.)")


def unreachable(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    page.route(EXPLAIN, lambda route: route.abort())
    submit(page)
    said(page, "The server cannot be reached.")


def offline(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    page.context.set_offline(True)
    submit(page)
    said(page, "This device is offline.")


def locked(page: Any, shops: Any) -> None:
    page.goto(f"{shops.locked}/?item=item00001")
    page.locator("#unlock", has_text="Reading from this server needs a token").wait_for()
    page.locator("#token:focus").wait_for()


def wrong_token(page: Any, shops: Any) -> None:
    locked(page, shops)
    page.keyboard.type("guess")
    page.keyboard.press("Enter")
    page.locator("#unlock", has_text="The server refuses this token").wait_for()


def without_a_graph(page: Any, shops: Any) -> None:
    answered(page, GRAPH, 503, problem("the graph is away"))
    opened(page, shops.hostile)
    said(page, "The item graph cannot be shown: the graph is away")
    assert page.locator(".card").count() == 12
    assert page.locator("#viewed").inner_text() == "item00001"


def from_an_example(page: Any, shops: Any) -> None:
    empty(page, shops)
    page.locator("#examples a").first.click()
    page.wait_for_selector(".card")
    assert page.locator("#start").is_hidden()
    page.go_back()
    page.wait_for_selector("#examples a")
    page.go_forward()
    page.wait_for_selector(".card")


def did_you_mean(page: Any, shops: Any) -> None:
    page.goto(f"{shops.hostile}/?item=never%20ends")
    said(page, "Items with these words: a title that never ends")


def with_pictures(page: Any, shops: Any) -> None:
    page.route("https://img.example/**", lambda route: route.fulfill(body=PICTURE, content_type="image/png"))
    opened(page, shops.pictured)
    page.wait_for_function("() => [...document.querySelectorAll('.card img')].some(one => one.naturalWidth > 0)")


def past(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    page.locator("#past", has_text="answers as of 2024-05-01 12:00 UTC, not of now").wait_for()


WITH_ADS = [
    ads,
    from_an_example,
    did_you_mean,
    with_pictures,
    past,
    expected_is_shown,
    long_everything,
    pointed_at,
    stages,
    without_a_graph,
    failed_suggestions,
    unknown,
]
WITHOUT_ADS = [
    *(empty, suggestions, long_suggestions, no_suggestion, unknown_category, no_ads, loading, failure, proxy_failure),
    *(unreadable, refused, busy_for_long, unreachable, offline, locked, wrong_token),
]


@pytest.mark.parametrize("state", [*WITH_ADS, *WITHOUT_ADS], ids=lambda state: state.__name__)
def test_axe_finds_nothing_and_nothing_overflows(page: Any, shops: Any, state: Callable[[Any, Any], None]) -> None:
    state(page, shops)
    assert (page.locator(".card:visible").count() > 0) == (state in WITH_ADS), "no ads of an earlier request stay"
    assert page.title() == "LightSAGE: why this ad?"
    for width, scheme in ((1280, "dark"), (390, "dark"), (320, "light")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert axe_faults(page) == [], (width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERFLOWING) == []


@pytest.mark.parametrize("state", [ads, long_everything, failure, locked], ids=lambda state: state.__name__)
def test_text_of_twice_the_size_and_a_page_at_twice_the_zoom_do_not_overflow(page: Any, shops: Any, state: Any) -> None:
    page.set_viewport_size({"width": 640, "height": 450})  # as a page of 1280 x 900 at a zoom of 200%
    state(page, shops)
    for size in ("100%", "200%"):
        page.evaluate("size => { document.documentElement.style.fontSize = size }", size)
        assert page.evaluate("document.documentElement.scrollWidth") <= 640
        assert page.evaluate(OVERFLOWING) == []


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_labels_of_the_graph_are_large_enough_to_be_read(page: Any, shops: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    opened(page, shops.hostile)
    assert page.locator("#neighbours li").count() > 0
    if width < 640:
        assert page.locator("#ego").is_hidden(), "a phone shows the list alone"
    else:
        sizes = page.locator("#ego text").evaluate_all(
            "all => all.map(one => parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a)"
        )
        assert len(sizes) == page.locator("#neighbours li").count()
        assert min(sizes) >= 11
    sizes = page.locator("body *:visible").evaluate_all(
        "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(sizes) >= 11


# Ids and texts


@pytest.mark.parametrize("item", HOSTILE, ids=lambda item: ascii(item)[:20])
def test_every_id_can_be_viewed_linked_to_and_expected(page: Any, shops: Any, item: str) -> None:
    opened(page, shops.hostile, item=item, expected=item)
    assert page.locator("#message.fault").count() == 0
    viewed = page.locator("#viewed").text_content()
    assert item in viewed
    page.locator("#missing", has_text=f"{item.strip()} is").wait_for()
    assert page.locator("#neighbours li").count() > 0, "its graph is drawn"
    address = page.locator("#neighbours a").first.get_attribute("href")
    page.locator("#neighbours a").first.click()
    page.wait_for_function("old => document.getElementById('viewed').textContent !== old", arg=viewed)
    assert page.evaluate("location.search") == address
    page.go_back()
    page.wait_for_function("old => document.getElementById('viewed').textContent === old", arg=viewed)
    assert page.evaluate("new URLSearchParams(location.search).get('item')") == item
    page.reload()
    page.wait_for_function("old => document.getElementById('viewed').textContent === old", arg=viewed)
    # An item that was viewed before is named in quotes if its id has a comma or quotes.
    page.fill("#before", '"{}", item00003'.format(item.replace('"', '""')))
    with page.expect_request(EXPLAIN) as sent:
        submit(page)
    assert sent.value.post_data_json["items"] == [item, "item00003", item]


def test_texts_of_either_direction_are_isolated_and_a_title_that_nobody_sees_is_replaced_by_the_id(
    page: Any, shops: Any
) -> None:
    opened(page, shops.hostile, k="60")
    names = page.locator(".card h3 a").all_inner_texts()
    assert all(name.strip(" \n\u200b") for name in names)
    arabic = page.locator(".card h3 a", has_text="معطف").first
    assert arabic.evaluate("node => getComputedStyle(node).direction") == "rtl"
    assert page.locator(".card .facts bdi").count() > 60
    heights = page.locator(".card h3").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert max(heights) < 100, "a title without end takes four lines"
    endless = page.locator(".card h3 a", has_text="never ends").first
    assert endless.get_attribute("title") == TITLES[1], "its tooltip has the whole title"


# Cards, pictures, and the expected ad


def test_opening_the_details_of_a_card_moves_nothing_and_closes_those_of_another(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    boxes = "all => all.map(one => JSON.stringify(one.getBoundingClientRect()))"
    places = page.locator(".card, #graph").evaluate_all(boxes)
    page.locator(".card summary").nth(1).click()
    assert page.locator(".card dl").nth(1).is_visible()
    assert page.locator(".card, #graph").evaluate_all(boxes) == places
    page.locator(".card summary").nth(2).focus()
    page.keyboard.press("Enter")
    assert page.locator(".card details[open]").count() == 1
    assert page.locator(".card, #graph").evaluate_all(boxes) == places
    page.keyboard.press("Escape")
    assert page.locator(".card details[open]").count() == 0
    assert page.locator(".card summary").nth(2).evaluate("node => node === document.activeElement")


def test_a_card_names_its_ad_and_the_legend_says_what_the_colours_mean(page: Any, shops: Any) -> None:
    opened(page, shops.hostile, item="item00002")
    assert page.locator(".card .ad").first.inner_text().startswith("ad ")
    assert " · of 🧥" in page.locator(".card .ad").first.inner_text()
    colours = page.locator(".card .bar i").evaluate_all(
        "all => [...new Set(all.map(one => getComputedStyle(one).color))]"
    )
    legend = page.locator("#parts span").evaluate_all("all => all.map(one => getComputedStyle(one).color)")
    assert sorted(colours) == sorted(legend)
    assert "What the score is made of" in page.locator("#parts").inner_text()


def test_pictures_come_only_from_the_hosts_that_the_server_names_and_tell_nobody_of_the_page(
    page: Any, shops: Any
) -> None:
    asked: list[Any] = []
    page.on("request", lambda request: None if request.url.startswith("data:") else asked.append(request))
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.route(re.compile("^https:"), lambda route: route.fulfill(body=PICTURE, content_type="image/png"))
    opened(page, shops.pictured, k="60")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_load_state("networkidle")
    assert errors == [], "nothing is tried that the policy would block"
    elsewhere = [request for request in asked if not request.url.startswith(shops.pictured)]
    assert {request.url for request in elsewhere} == {"https://img.example/a.png"}
    assert all("referer" not in request.headers for request in elsewhere)
    assert page.locator("img[alt='']").count() > 0
    asked.clear()
    opened(page, shops.hostile, k="60")
    page.wait_for_load_state("networkidle")
    assert page.locator("img").count() == 0, "by default there are none"
    assert all(request.url.startswith(shops.hostile) for request in asked)


def test_a_picture_that_cannot_be_loaded_leaves_no_hole(page: Any, shops: Any) -> None:
    page.route("https://img.example/**", lambda route: route.abort())
    opened(page, shops.pictured)
    page.wait_for_function("() => document.querySelectorAll('.card img').length === 0")


def test_the_expected_ad_is_one_step_away(page: Any, shops: Any) -> None:
    opened(page, shops.hostile, item="item00002", k="3")
    page.fill("#k", "40")
    submit(page)
    page.wait_for_function("() => document.querySelectorAll('.card').length === 40")
    wanted = page.locator(".card").nth(29).locator(".ad bdi").first.inner_text()
    page.fill("#k", "3")
    page.fill("#expected", wanted)
    submit(page)
    page.get_by_role("button", name="Show 30 ads, and go to it").click()
    page.locator(".card.expected:focus").wait_for()
    page.get_by_role("button", name="Go to it").click()
    assert page.locator(".card.expected").evaluate("node => node === document.activeElement")
    assert page.locator(".card").count() == 30


def test_the_field_shows_the_title_and_asks_for_the_id(page: Any, shops: Any) -> None:
    page.goto(shops.hostile)
    page.locator("#item").press_sequentially("never ends", delay=20)
    page.wait_for_selector("#options li + li")
    width = page.locator("#options").bounding_box()["width"]
    assert width >= 640, "suggestions are wide enough for titles"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    assert page.input_value("#item").startswith("a title that never ends")
    item = page.evaluate("new URLSearchParams(location.search).get('item')")
    assert page.locator("#viewed .facts bdi").first.inner_text() == item
    with page.expect_request(EXPLAIN) as sent:
        submit(page)
    assert sent.value.post_data_json["items"] == [item]


def test_a_server_of_the_present_has_no_banner(page: Any, shops: Any) -> None:
    opened(page, shops.staged)
    assert page.locator("#past").is_visible()
    page.route("**/v1/version", lambda route: route.fulfill(json=present(route.fetch().json())))
    opened(page, shops.staged)
    page.wait_for_function("() => document.getElementById('version').textContent")
    assert page.locator("#past").is_hidden()


def present(version: dict[str, Any]) -> dict[str, Any]:
    return version | {"at": version["now"]}


def test_without_javascript_the_page_says_what_to_do(browser: Any, shops: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(shops.hostile)
    assert "This page needs JavaScript" in page.locator("body").inner_text()
    assert page.locator("form:visible").count() == 0
    context.close()


def test_a_phone_folds_the_conditions_away_unless_the_address_sets_one(page: Any, shops: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    opened(page, shops.hostile)
    assert page.locator("#expected").is_hidden()
    opened(page, shops.hostile, expected="asleep")
    assert page.locator("#expected").is_visible()


# Tokens


def test_a_token_is_asked_for_in_the_page_once_however_much_is_typed(page: Any, shops: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(shops.locked)
    page.locator("#token:focus").wait_for()
    page.fill("#item", "")
    page.locator("#item").press_sequentially("item00001", delay=150)
    page.wait_for_timeout(300)
    assert page.locator("#item:focus").count() == 1, "typing is not interrupted"
    assert not [url for url in asked if "/v1/items" in url]
    page.fill("#token", "schlüssel")
    page.keyboard.press("Enter")
    said(page, "A token has only ASCII letters, digits and signs, and no blanks.")
    page.fill("#token", "guess")
    page.keyboard.press("Enter")
    page.locator("#unlock", has_text="The server refuses this token").wait_for()
    page.locator("#token:focus").wait_for()
    page.keyboard.type(" secret ")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    page.locator("#viewed:focus").wait_for()
    assert page.locator("#unlock").is_hidden()
    assert "items" in page.locator("#version").inner_text()
    page.reload()
    page.wait_for_selector(".card")
    page.locator("#item").press_sequentially("0")
    page.wait_for_selector("#options li")
    assert page.locator("#unlock").is_hidden(), "the token is kept as long as the tab"


# Failures, and what follows them


def test_a_busy_server_is_asked_again_after_the_pause_that_it_names(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    asked: list[Any] = []

    def busy(route: Any, times: int) -> None:
        asked.append(route)
        if len(asked) > times:
            route.continue_()
        else:
            route.fulfill(status=503, body=problem("too much"), headers={"Retry-After": "1"})

    page.route(EXPLAIN, lambda route: busy(route, 2))
    submit(page)
    said(page, "The server is busy. Asking again in 1 s")
    assert page.locator("#message.fault").count() == 0
    page.locator("#message.aloud", has_text="12 ads.").wait_for(state="attached")
    assert len(asked) == 3
    page.unroute(EXPLAIN)
    asked.clear()
    page.route(EXPLAIN, lambda route: busy(route, 99))
    submit(page)
    said(page, "too much (Retry after 1 s.)")
    assert len(asked) == 4, "then it gives up"
    assert page.locator(".card:visible").count() == 0


@pytest.mark.parametrize("state", [failure, unreachable, offline, wrong_token], ids=lambda state: state.__name__)
def test_after_a_failure_the_next_request_shows_ads_and_no_trace_of_the_failure(
    page: Any, shops: Any, state: Any
) -> None:
    state(page, shops)
    page.unroute_all()
    page.context.set_offline(False)
    if state is wrong_token:
        page.fill("#token", "secret")
        page.keyboard.press("Enter")
    else:
        submit(page)
    page.locator(".card").first.wait_for()
    assert page.locator("#message.fault").count() == 0


def test_a_later_request_replaces_one_that_waits(page: Any, shops: Any) -> None:
    loading(page, shops)
    page.unroute_all()
    page.fill("#item", "item00002")
    submit(page)
    page.locator("#viewed", has_text="item00002").wait_for()
    assert page.locator(".card").count() == 12


def test_the_ads_stay_while_a_quick_answer_is_awaited(page: Any, shops: Any) -> None:
    opened(page, shops.hostile)
    waiting: list[Any] = []
    page.route(EXPLAIN, lambda route: waiting.append(route))
    submit(page)
    said(page, "Looking for ads")
    assert page.locator(".card:visible").count() == 12
    waiting[0].continue_()
    page.locator("#message.aloud", has_text="12 ads.").wait_for(state="attached")


# Keyboard and screen readers


STOP = """() => {
  const node = document.activeElement, text = node.innerText || (node.labels || [node])[0].innerText;
  const place = [...document.querySelectorAll('*')].indexOf(node);
  return node === document.body ? null : { place, outline: getComputedStyle(node).outlineStyle, name: text || '' };
}"""


def test_the_keyboard_reaches_everything_in_the_order_in_which_it_stands(page: Any, shops: Any) -> None:
    opened(page, shops.staged)
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(200):
        page.keyboard.press("Tab")
        stop = page.evaluate(STOP)
        if stop is None:
            break
        reached.append(stop)
    places = [stop["place"] for stop in reached]
    assert places == sorted(set(places))
    assert all(stop["outline"] == "solid" and stop["name"].strip() for stop in reached)
    visible = page.locator("a[href]:visible, button:visible, input:visible, summary:visible").evaluate_all(
        "nodes => nodes.map(node => [...document.querySelectorAll('*')].indexOf(node))"
    )
    assert places == visible


def test_controls_and_regions_have_names_for_screen_readers(page: Any, shops: Any) -> None:
    opened(page, shops.staged)
    for name in (
        "Item being viewed",
        "How many",
        "Country",
        "Category",
        "Expected ad or item",
        "Viewed before",
        "Searched for",
    ):
        role = {"Item being viewed": "combobox", "How many": "spinbutton"}.get(name, "textbox")
        assert page.get_by_role(role, name=name, exact=True).count() == 1, name
    assert page.get_by_role("checkbox", name="pre-ranker").count() == 1
    assert page.get_by_role("region", name="12 ads").count() == 1
    assert page.get_by_role("region", name="Item graph").get_by_role("list", name="Neighbours").count() == 1
    assert page.get_by_role("region", name="Item being viewed").count() == 1
    assert page.get_by_role("status").inner_text() == "12 ads."
    page.fill("#item", "item0001")
    page.get_by_role("listbox", name="Suggested items").wait_for()
    assert page.get_by_role("option", name="item00010").count() == 1


def test_a_slash_focuses_the_search_and_keys_of_input_methods_choose_nothing(page: Any, shops: Any) -> None:
    opened(page, shops.staged)
    page.locator(".card a").first.focus()
    page.keyboard.press("Control+/")
    assert page.locator("#item:focus").count() == 0
    page.keyboard.press("/")
    page.locator("#item:focus").wait_for()
    page.keyboard.type("item0000")
    page.wait_for_selector("#options li + li")
    page.keyboard.press("ArrowDown")
    page.evaluate(
        """document.getElementById('item').dispatchEvent(
        new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true }))"""
    )
    assert page.input_value("#item") == "item0000"
    page.keyboard.press("Escape")
    assert page.locator("#options").is_hidden()
    assert page.get_attribute("#item", "aria-expanded") == "false"


@pytest.mark.parametrize(("motion", "expected"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_the_page_scrolls_softly_only_for_those_who_like_it(page: Any, shops: Any, motion: str, expected: str) -> None:
    page.emulate_media(reduced_motion=motion)
    opened(page, shops.staged)
    page.evaluate("() => { window.scrollTo = (options) => { window.scrolled = options.behavior } }")
    page.locator("#neighbours a").first.click()
    page.locator("#viewed:focus").wait_for()
    assert page.evaluate("scrolled") == expected


@pytest.mark.parametrize("field", ["k=0", "k=5000", "k=2.5", "country=DEU", "off=prerank bogus"])
def test_values_in_the_address_that_the_server_refuses_are_named_or_passed_over(
    page: Any, shops: Any, field: str
) -> None:
    page.goto(f"{shops.staged}/?item=item00001&{field}")
    if field.startswith("off"):
        page.wait_for_selector(".card")
    else:
        page.locator("#message.fault", has_text=f"{field.partition('=')[0]}:").wait_for()


def test_a_browser_that_keeps_nothing_shows_ads_too(page: Any, shops: Any) -> None:
    forbidden = "get() { throw new DOMException('not allowed', 'SecurityError') }"
    page.add_init_script(f"Object.defineProperty(window, 'sessionStorage', {{ {forbidden} }})")
    locked(page, shops)
    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")


def test_without_scripts_the_page_says_that_it_needs_them(browser: Any, shops: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(shops.hostile)
    assert "This page needs JavaScript" in page.locator("main").inner_text()
    context.close()
