"""The page in a real browser: what is drawn reaches the server, and what it finds is shown."""

from __future__ import annotations

import asyncio
import json
import shutil

import numpy as np
import pytest
from data_prep_trees import encoded, photo, save, sketch
from served import listening, make_index

from sbir_jax.data.strokes import rasterise, strokes_of

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
if not CHROMIUM:
    pytest.skip("no Chromium: apt-get install chromium", allow_module_level=True)


ZIGZAG = [(0.2, 0.2), (0.8, 0.3), (0.3, 0.6), (0.7, 0.8)]  # of the drawing area's side


@pytest.fixture(scope="module")
def served(finished, tmp_path_factory):
    """(index, encoders, address) of a server in a thread."""
    index, encoders = make_index(finished[1], tmp_path_factory.mktemp("browser"))
    with listening(index, encoders) as address:
        yield index, encoders, address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # Root, as in a container, has no sandbox of its own.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def page(browser, served):
    """A fresh page; it asks nobody but the server, and its console has no errors."""
    yield from opened(browser, served, viewport={"width": 1200, "height": 800})


@pytest.fixture
def phone(browser, served):
    """The same on a touch screen of 390 pixels."""
    screen = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    yield from opened(browser, served, device_scale_factor=2, **screen)


def opened(browser, served, **options):
    context = browser.new_context(**options)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(20_000)
    page.goto(served[2])
    page.get_by_text(f"among {len(served[0])} photos").wait_for()
    yield page
    elsewhere = [url for url in asked if not url.startswith((served[2], "data:", "blob:"))]
    context.close()
    assert not elsewhere
    assert not [words for words in said if "Failed to load resource" not in words]


def corners(page, points) -> list[tuple[float, float]]:
    box = page.locator("#canvas").bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]


def draw(page, points=ZIGZAG) -> None:
    (x, y), *rest = corners(page, points)
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def settled(page, act) -> tuple[dict, list[str]]:
    """What the last search sent, and the ids that are shown when it has been answered."""
    sent = []
    page.on("request", lambda request: sent.append(request) if "/api/" in request.url else None)
    act()  # the page is busy from the first event on
    page.wait_for_selector("body[data-state=done]")
    searches = [of for of in sent if "search" in of.url or "similar" in of.url]
    return searches[-1], shown(page)


def shown(page) -> list[str]:
    return page.locator("#results button").evaluate_all("all => all.map((one) => one.dataset.id)")


def ids(served, vectors) -> list[str]:
    """Those that search finds, as many as the page asks for."""
    return [match.item.id for match in served[0].search(vectors, 24)[0]]


def test_drawn_strokes_reach_the_server_and_their_photos_are_shown(page, served):
    """Drawn with the mouse: the points sent are those drawn, the results those of `search`."""
    assert page.locator("body").get_attribute("data-state") == "empty"
    search, results = settled(page, lambda: draw(page))
    body = json.loads(search.post_data)
    (stroke,) = strokes_of(body["strokes"])
    for corner in ZIGZAG:
        assert np.abs(stroke / 1000 - corner).max(axis=1).min() < 0.01
    assert body["line"] == 0.012
    pixels = rasterise(strokes_of(body["strokes"]), line=body["line"])
    assert results == ids(served, served[1].sketches([pixels]))
    assert page.get_by_role("status").inner_text() == "24 photos found"
    broken = "all => all.filter((one) => one.complete && !one.naturalWidth).length"
    assert page.locator("#results img").evaluate_all(broken) == 0
    search, _ = settled(page, lambda: draw(page, [(0.5, 0.1), (0.5, 0.9)]))
    assert len(json.loads(search.post_data)["strokes"]) == 2


def test_photos_appear_while_a_stroke_is_still_being_drawn(page):
    """With the button held, a pause in the stroke is enough."""
    (x, y), (x2, y2), *_ = corners(page, ZIGZAG)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x2, y2, steps=5)
    page.wait_for_selector("body[data-state=done]")
    assert len(shown(page)) == 24
    page.mouse.up()


def test_undo_redo_and_clear_change_what_is_searched(page):
    """By buttons and by keys; clearing can be undone, and an empty paper shows nothing."""
    _, one = settled(page, lambda: draw(page))
    _, two = settled(page, lambda: draw(page, [(0.1, 0.9), (0.9, 0.9), (0.9, 0.2)]))
    assert one != two
    assert settled(page, page.get_by_role("button", name="Undo").click)[1] == one
    assert settled(page, lambda: page.keyboard.press("Control+y"))[1] == two
    page.get_by_role("button", name="Clear").click()
    page.wait_for_selector("body[data-state=empty]")
    assert shown(page) == [] and page.get_by_role("button", name="Clear").is_disabled()
    assert settled(page, lambda: page.keyboard.press("Control+z"))[1] == two


def test_more_like_this_and_back(page, served):
    """A photo that is clicked comes first among those like it; the sketch's come back."""
    _, found = settled(page, lambda: draw(page))
    search, similar = settled(page, page.locator("#results button").nth(3).click)
    assert f"/{found[3]}/similar" in search.url
    row = next(row for row, item in enumerate(served[0].items) if item.id == found[3])
    assert similar == ids(served, np.asarray(served[0].vectors[[row]], np.float32))
    back = page.get_by_role("button", name="Back to my sketch")
    assert settled(page, back.click)[1] == found


def test_the_last_request_wins(page):
    """The first search is answered late, after the second: what is shown is of the second."""
    held = []
    page.route("**/api/search*", lambda route: route.continue_() if held else held.append(route))
    draw(page)
    while not held:
        page.wait_for_timeout(20)
    assert page.locator("#results").get_attribute("aria-busy") == "true"
    _, second = settled(page, lambda: draw(page, [(0.1, 0.1), (0.9, 0.1)]))
    held[0].fulfill(json={"results": [], "milliseconds": 1})
    page.wait_for_timeout(200)
    assert shown(page) == second


def test_errors_are_said_and_the_next_search_recovers(page):
    """Refused by the server, or no answer at all: an alert, and photos stay until the next."""
    _, found = settled(page, lambda: draw(page))
    page.route("**/api/search*", lambda route: route.fulfill(status=429, json={"error": "slowly"}))
    draw(page, [(0.1, 0.1), (0.2, 0.9)])
    page.wait_for_selector("body[data-state=error]")
    assert page.get_by_role("alert").inner_text() == "Not searched: slowly"
    assert shown(page) == found
    page.unroute("**/api/search*")
    page.route("**/api/search*", lambda route: route.abort())
    draw(page, [(0.1, 0.1), (0.9, 0.2)])
    page.get_by_text("The server does not answer").wait_for()
    page.unroute("**/api/search*")
    settled(page, lambda: draw(page, [(0.4, 0.4), (0.9, 0.2)]))
    assert page.get_by_role("alert").count() == 0


def test_an_image_is_uploaded_or_pasted(page, served, tmp_path):
    """As a sketch and as a photo; what is found is what `search` finds for the file."""
    save(sketch(4), tmp_path / "sketch.png")
    _, results = settled(page, lambda: page.set_input_files("#file", tmp_path / "sketch.png"))
    assert results == ids(served, served[1].sketches([tmp_path / "sketch.png"]))
    paste = """(bytes) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "x.png", {type: "image/png"}));
      document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
    }"""
    data = encoded(photo(7, size=(36, 36)), "PNG")
    settled(page, lambda: page.evaluate(paste, list(data)))
    side = page.get_by_role("combobox", name="search with it as")
    _, results = settled(page, lambda: side.select_option("photo"))
    assert results == ids(served, served[1].photos([data]))
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"nothing"})
    page.get_by_text("not an image that the browser can open").wait_for()


def test_a_keyboard_is_enough(page, served):
    """Tab to the paper, pen down, arrows, pen up: a stroke; tab on to a photo, and Enter."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "canvas"

    def drawn():
        for key in [" ", *["ArrowRight"] * 6, *["ArrowDown"] * 4, " "]:
            page.keyboard.press(key)

    search, results = settled(page, drawn)
    x, y = json.loads(search.post_data)["strokes"][0]
    assert (x[0], y[0], x[-1], y[-1]) == (500, 500, 620, 580)
    assert results == ids(
        served, served[1].sketches([rasterise([np.array([x, y], float).T], line=0.012)])
    )
    page.locator("#results button").first.focus()
    search, _ = settled(page, lambda: page.keyboard.press("Enter"))
    assert "similar" in search.url


def test_every_control_has_a_name(page):
    """What a screen reader says of each control, and that results are announced."""
    settled(page, lambda: draw(page))
    for role in ("button", "slider", "combobox"):
        for control in page.get_by_role(role).all():
            assert control.evaluate("(e) => e.ariaLabel || e.labels?.[0]?.innerText || e.innerText")
    assert page.get_by_role("application", name="Drawing area").count() == 1
    first = page.get_by_role("list").get_by_role("button").first
    assert "similarity" in first.get_attribute("aria-label")
    assert page.get_by_label("Pen").input_value() == "0.012"


def test_a_finger_draws_on_a_phone(phone, served):
    """Touch at 390 pixels: strokes are drawn, the page neither scrolls nor is wider than it."""
    session = phone.context.new_cdp_session(phone)
    points = corners(phone, ZIGZAG)

    def touch():
        for kind, (x, y) in zip(("touchStart", *["touchMove"] * 3), points, strict=True):
            session.send(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            )
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    search, results = settled(phone, touch)
    body = json.loads(search.post_data)
    (stroke,) = strokes_of(body["strokes"])
    np.testing.assert_allclose(stroke[0] / 1000, ZIGZAG[0], atol=0.01)
    np.testing.assert_allclose(stroke[-1] / 1000, ZIGZAG[-1], atol=0.01)
    assert results == ids(served, served[1].sketches([rasterise([stroke], line=body["line"])]))
    assert phone.evaluate("[scrollY, document.documentElement.scrollWidth]") == [0, 390]
    sizes = phone.locator("button, .button, select").evaluate_all(
        "all => all.filter((e) => e.offsetParent).map((e) => e.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 44  # what a thumb hits
