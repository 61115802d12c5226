"""The live wall in Debian's Chromium: what a person does and sees, by mouse and by keyboard, in both themes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import PATIENCE_S, ROOT, demo_clip
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from served import Served, serving
from test_fleet import configured

from deploy.server import TritonServer

CHROMIUM = "/usr/bin/chromium"
_PATIENCE_MS = 60_000
expect.set_options(timeout=_PATIENCE_MS)
ACCENTS = (143, 224, 199), (255, 210, 122), (156, 195, 255), (255, 171, 145), (213, 179, 255), (217, 224, 138)
# the canvas's pixels that are nearly one of the boxes' colours
BOXED = """(canvas, colours) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let i = 0; i < data.length; i += 4)
    found += colours.some(([r, g, b]) => Math.abs(data[i]-r) + Math.abs(data[i+1]-g) + Math.abs(data[i+2]-b) < 24);
  return found;
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, triton: TritonServer) -> Iterator[Served]:
    """Two busy cameras, which need so little that a slow machine has room for a third."""
    folder = tmp_path_factory.mktemp("wall")
    clips = ROOT / "demo" / "clips"
    cameras = [
        {"id": name, "source": str(clips / f"{name}.mp4"), "loop": True, "max_fps": 0.5} for name in ("cam01", "cam02")
    ]
    demo_clip()
    config = configured(
        folder,
        cameras=cameras,
        triton={"url": triton.grpc_url},
        system={"target_fps": 2},
        optimization={"governor": "off"},
        web={"enabled": True, "port": 0},
    )
    with serving(config, folder / "fleet.log") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless."""
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The wall in the dark theme; an error, a violated policy or a request elsewhere fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    context.set_default_timeout(_PATIENCE_MS)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if is_error(message) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if not is_own(request.url, served) else None)
    page.goto(served.url)
    yield page
    context.close()
    assert wrong == []


def is_error(message: ConsoleMessage) -> bool:
    """Whether it is more than a note that the API has refused something."""
    return message.type == "error" and "the server responded with a status of 4" not in message.text


def is_own(url: str, served: Served) -> bool:
    """Whether a request goes to the fleet."""
    return url.startswith((served.url, served.url.replace("http", "ws"), "blob:"))


def boxed(page: Page, canvas: str) -> int:
    """Pixels of a canvas that belong to boxes."""
    found: int = page.locator(canvas).evaluate(BOXED, ACCENTS)
    return found


def until_boxed(page: Page, canvas: str) -> None:
    """Wait for live boxes."""
    expect(page.locator(canvas)).to_be_visible()
    until(page, lambda: boxed(page, canvas) >= 200, f"{canvas} shows boxes")


def until(page: Page, happens: Callable[[], bool], what: str) -> None:
    """Look every tenth of a second."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not happens():
        assert time.monotonic() < deadline_s, f"it does not come to that: {what}"
        page.wait_for_timeout(100)


def test_a_person_adds_a_camera_draws_a_zone_and_removes_it(page: Page, served: Served) -> None:
    """Sees live boxes, adds a camera by the form, sees it appear, draws a zone, gets its event, removes the camera."""
    until_boxed(page, '[data-id="cam02"] canvas')
    expect(page.locator("#f-saved")).to_have_text(re.compile(r"\d+\.\d %"))
    page.get_by_role("button", name="Add camera").click()
    dialog = page.get_by_role("dialog", name="Add camera")
    dialog.get_by_label("Name").fill("cam02")
    dialog.get_by_label("Source").fill(str(demo_clip()))
    dialog.get_by_label("Start a file again when it ends").check()
    dialog.get_by_role("button", name="Add camera").click()
    expect(dialog.get_by_role("alert")).to_have_text("camera cam02: the id is in use; every camera needs its own")
    dialog.get_by_label("Name").fill("yard")
    dialog.get_by_role("button", name="Add camera").click()
    expect(dialog).to_be_hidden()
    until_boxed(page, '[data-id="yard"] canvas')
    page.locator('a[data-id="yard"]').click()
    expect(page.get_by_role("heading", name="yard")).to_be_visible()
    until_boxed(page, ".stage canvas")
    draw_everywhere(page)
    expect(page.get_by_label("Events, newest first").locator("li").first).to_contain_text("entered everywhere")
    expect(page.get_by_label("Zones and lines").locator("li")).to_contain_text("inside")
    zones = served.http.get("/v1/streams/yard/zones").json()
    assert [(zone["name"], len(zone["points"])) for zone in zones["zones"]] == [("everywhere", 4)]
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator(".tile")).to_have_count(2)
    assert [stream["id"] for stream in served.http.get("/v1/streams").json()] == ["cam01", "cam02"]


def draw_everywhere(page: Page) -> None:
    """A zone around nearly the whole picture: four corners, closed at the first; a name."""
    page.get_by_role("button", name="Zone", exact=True).click()
    box = page.locator("svg.zones").bounding_box()
    assert box is not None
    for x, y in ((0.02, 0.03), (0.98, 0.03), (0.98, 0.97), (0.02, 0.97), (0.02, 0.03)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.get_by_label("Name").fill("everywhere")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".tag")).to_have_text("everywhere")


def test_everything_can_be_done_by_keyboard(page: Page, served: Served) -> None:
    """From tile to tile, into one, a line placed and moved by keys, paused, on to the next, back, another theme."""
    expect(page.locator(".tile")).to_have_count(2)
    page.locator(".tile").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tile").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="cam02")).to_be_visible()
    page.get_by_role("button", name="Line", exact=True).press("Enter")
    page.get_by_role("button", name="place one in the middle").press("Enter")
    page.get_by_label("Point 1 of 2").press("ArrowUp")
    page.get_by_label("Name").press("Enter")
    expect(page.get_by_label("Zones and lines").locator("li")).to_contain_text("line 1")
    assert served.http.get("/v1/streams/cam02/zones").json()["lines"][0]["points"][0] == [0.25, 0.59]
    page.get_by_role("button", name="Remove line 1").press("Enter")
    expect(page.get_by_label("Zones and lines").locator("li")).to_have_count(0)
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="cam01")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator('a[data-id="cam01"]')).to_be_focused()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_what_a_camera_is_called_is_text(page: Page, served: Served) -> None:
    """HTML in the words that the API brings, a problem's line and a zone's name, is shown as it is and runs nothing."""
    evil = "<img src=x onerror=alert(1)>"
    zone = {"name": evil[:40], "points": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]}
    response = served.http.put("/v1/streams/cam01/zones", json={"zones": [zone]})
    assert response.status_code == 200, response.text
    assert served.add("broken", f"/nowhere/{evil}.mp4").status_code == 201
    try:
        expect(page.locator('[data-id="broken"] .veil')).to_contain_text(evil)
        page.get_by_role("button", name=re.compile("alert")).click()
        expect(page.locator("#alerts")).to_contain_text(evil)
        page.goto(f"{served.url}/#/camera/cam01")
        expect(page.locator(".tag")).to_have_text(evil[:40])
        assert page.locator("main img").count() == 0
    finally:
        served.http.delete("/v1/streams/broken")
        served.http.put("/v1/streams/cam01/zones", json={})


def test_nothing_is_made_while_nobody_looks(page: Page, served: Served) -> None:
    """Leaving the wall ends the previews: no place is taken, no picture is made of what is inferred from then on."""
    until_boxed(page, '[data-id="cam02"] canvas')
    page.goto("about:blank")

    def stats() -> dict[str, Any]:
        told: dict[str, Any] = served.http.get("/v1/stats").json()
        return told

    until(page, lambda: not stats()["wall"]["viewers"], "nobody looks")
    before = stats()
    until(page, lambda: stats()["inferences"] >= before["inferences"] + 5, "five more inferences")
    assert stats()["wall"] == before["wall"] == {"viewers": 0, "previews_made": before["wall"]["previews_made"]}


@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 390), ("light", 1280)])
def test_it_fits_every_screen(browser: Browser, served: Served, scheme: str, width: int) -> None:
    """On a phone and a desk, in the system's theme: nothing sticks out sideways, text stands out, names are spoken."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    for path in ("", "#/camera/cam02", "docs"):
        page.goto(f"{served.url}/{path}")
        expect(page.locator("main")).not_to_be_empty()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto(f"{served.url}/#/")
    expect(page.get_by_role("link", name=re.compile(r"cam02, live, \d+\.\d of \d+ frames a second"))).to_be_visible()
    assert page.evaluate(CONTRAST) >= 4.5
    for button in page.get_by_role("button").all():
        assert button.evaluate("one => (one.ariaLabel || one.innerText).trim()"), "a button without a name"
    context.close()


CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
      .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const ground = (element) => {
    while (element && getComputedStyle(element).backgroundColor === "rgba(0, 0, 0, 0)") element = element.parentElement;
    return getComputedStyle(element ?? document.body).backgroundColor;
  };
  const texts = [...document.querySelectorAll("main .caption span, main .wall-bar p, .figures dt, .budget-line span")];
  return Math.min(...texts.filter((one) => one.innerText && ground(one).startsWith("rgb("))
    .map((one) => ratio(getComputedStyle(one).color, ground(one))));
}"""
