"""The playground in a real Chromium, against the real service on the demo archive."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.paths import ROOT
from tests.started import started

pytestmark = pytest.mark.browser

CHINA = ROOT / "service/static/examples/china.jpg"
PICTURES = os.environ.get("UPSNET_PICTURES")  # folder for screenshots


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with started() as address:
        yield f"http://{address}/"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: `uv run --with playwright pytest`")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium: `apt-get install chromium`")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page, what it asked of whom, and what it complained of."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.note(message.text))
        self.page.on("pageerror", lambda error: self.note(str(error)))
        self.page.goto(address)

    def note(self, text: str) -> None:
        self.complaints.append(text)

    def upload(self, path: Path = CHINA) -> None:
        self.page.set_input_files("#file", path)
        self.page.wait_for_selector("#segments li", timeout=120_000)

    def picture(self, name: str) -> None:
        if PICTURES:
            self.page.screenshot(path=str(Path(PICTURES) / f"{name}.png"))


@pytest.fixture
def visit(chromium: Any, address: str) -> Iterator[Visit]:
    visit = Visit(chromium, address, viewport={"width": 1200, "height": 800})
    yield visit
    assert [url for url in visit.requests if not url.startswith((address, "blob:", "data:"))] == []
    visit.page.close()


def test_a_photo_is_segmented_and_explored(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    visit.picture("start")
    visit.upload()
    names = page.locator("#segments .name").all_inner_texts()
    assert any(name.startswith("sky") for name in names)
    areas = [float(re.search(r"([\d.]+) %", name)[1]) for name in names]  # type: ignore[index]
    assert areas == sorted(areas, reverse=True)
    box = page.locator("#overlay").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 15)
    assert page.inner_text("#tip").startswith("sky")
    assert page.locator("#segments li.lit").count() == 1
    visit.picture("hover")
    assert re.search(r"decode .* ms.*infer .* m?s", page.inner_text("#timing"), re.S)
    with page.expect_download() as download:
        page.click("#save-json")
    download.value.save_as(tmp_path / "a.json")
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["image"] == {"width": 640, "height": 427}
    with page.expect_download() as download:
        page.click("#save-png")
    download.value.save_as(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert visit.complaints == []


def alpha_at(page: Any, x: float, y: float) -> int:
    """Opacity of the overlay at a share of its width and height."""
    script = "([x, y]) => { const c = document.getElementById('overlay'); return c.getContext('2d')"
    script += ".getImageData(Math.floor(x * c.width), Math.floor(y * c.height), 1, 1).data[3]; }"
    return page.evaluate(script, [x, y])  # type: ignore[no-any-return]


def test_segments_hide_show_and_fade(visit: Visit) -> None:
    visit.upload()
    page = visit.page
    assert alpha_at(page, 0.5, 0.04) == round(255 * 0.6)
    page.locator("#segments li", has_text="sky").first.locator("input").uncheck()
    assert alpha_at(page, 0.5, 0.04) == 0
    page.click("#toggle-all")
    assert alpha_at(page, 0.5, 0.04) == round(255 * 0.6)
    page.locator("#opacity").fill("0")
    assert alpha_at(page, 0.5, 0.04) == 0
    page.click("#toggle-all")
    assert page.locator("#segments li.off").count() == page.locator("#segments li").count()


def test_the_keyboard_is_enough(visit: Visit) -> None:
    visit.upload()
    page = visit.page
    page.focus("#overlay")
    page.keyboard.press("ArrowRight")
    first = page.inner_text("#announce")
    page.keyboard.press("ArrowRight")
    assert re.match(r"\w+, score 0\.\d\d, [\d,]+ pixels", first)
    assert page.inner_text("#announce") != first
    page.keyboard.press("Escape")
    assert page.locator("#segments li.lit").count() == 0
    page.locator("#segments .name").first.focus()
    assert page.locator("#segments li.lit").count() == 1
    page.keyboard.press("Enter")
    assert page.inner_text("#announce").startswith(page.locator("#segments .name").first.inner_text().split("\n")[0])
    visit.picture("focus")


def test_a_file_too_large_is_not_sent(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(20_000_001))
    visit.page.wait_for_function("document.getElementById('licence').textContent")  # the limits are here
    visit.page.set_input_files("#file", tmp_path / "large.jpg")
    assert visit.page.inner_text("#message") == "The file has 20.1 MB; the limit is 20 MB. Choose a smaller one."
    assert not [url for url in visit.requests if url.endswith("/panoptic")]


def test_a_refusal_is_told_in_words(visit: Visit, tmp_path: Path) -> None:
    text = tmp_path / "letter.txt"
    text.write_text("Dear service,")
    visit.page.set_input_files("#file", text)
    visit.page.wait_for_selector("#message:not([hidden])", timeout=30_000)
    assert "JPEG" in visit.page.inner_text("#message")
    visit.picture("refused")
    assert visit.page.locator("#invite").is_visible()
    visit.page.set_input_files("#file", CHINA)
    visit.page.wait_for_selector("#segments li", timeout=120_000)
    assert visit.page.locator("#message").is_hidden()


def test_an_example_is_one_click_away(visit: Visit) -> None:
    visit.page.click("[data-example*=coffee]")
    visit.page.wait_for_selector("#controls:not([hidden])", timeout=120_000)
    assert visit.page.locator("#overlay").bounding_box()["width"] > 300


def test_a_dropped_photo_is_taken(visit: Visit) -> None:
    script = """async () => { const blob = await (await fetch('static/examples/china.jpg')).blob();
      const transfer = new DataTransfer(); transfer.items.add(new File([blob], 'china.jpg'));
      document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true })); }"""
    visit.page.evaluate(script)
    visit.page.wait_for_selector("#segments li", timeout=120_000)


def test_a_tiny_photo_is_enlarged(visit: Visit, tmp_path: Path) -> None:
    Image.new("RGB", (4, 3), (90, 90, 200)).save(tmp_path / "tiny.png")
    visit.page.set_input_files("#file", tmp_path / "tiny.png")
    visit.page.wait_for_selector("#controls:not([hidden])", timeout=120_000)
    for shown in ("#photo", "#overlay"):
        box = visit.page.locator(shown).bounding_box()
        assert (box["width"], box["height"]) == (240, 180)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(chromium: Any, address: str, scheme: str) -> None:
    size = {"width": 390, "height": 844}
    visit = Visit(chromium, address, viewport=size, color_scheme=scheme, has_touch=True, is_mobile=True)
    visit.picture(f"phone_start_{scheme}")
    visit.upload()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    visit.page.locator("#overlay").tap(position={"x": 180, "y": 8})
    assert visit.page.locator("#tip").is_visible()
    visit.picture(f"phone_{scheme}")
    assert visit.complaints == []
    visit.page.close()


def test_the_interface_page_needs_nothing_from_elsewhere(visit: Visit, address: str) -> None:
    visit.page.goto(f"{address}docs")
    visit.page.wait_for_selector("text=Segment one image", timeout=60_000)
    visit.picture("docs")
    assert visit.complaints == []
