"""The page: in the browser that people have, with keyboard and eyes on what it says."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile
from server_samples import TOKEN, png

from napari_cellclf.server.served_model import ServedModel

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SECONDS = 20


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("chromium")
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        f"user-data-dir={profile}", "window-size=1100,900",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.implicitly_wait(0)
    yield driver
    driver.quit()


def _wait(browser: Any, condition: Any) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, SECONDS).until(condition)


def _text(browser: Any, selector: str) -> str:
    return browser.find_element("css selector", selector).text


def _send(browser: Any, paths: list[Path]) -> None:
    browser.find_element("id", "files").send_keys("\n".join(map(str, paths)))


def _write(folder: Path, channels: tuple[int, ...]) -> list[Path]:
    paths = [folder / f"B02_s1_w{channel}.png" for channel in channels]
    for path in paths:
        path.write_bytes(png(np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))))
    return paths


def _complaints(browser: Any) -> list[str]:
    # That a request was refused is logged, too; what matters are faults of the page itself.
    logged = [entry["message"] for entry in browser.get_log("browser")]
    return [text for text in logged if "Failed to load resource" not in text]


@pytest.fixture(scope="module")
def live(running: Any, served_site: ServedModel) -> Iterator[Any]:
    with running(served_site) as live:
        yield live


def test_it_loads_nothing_from_elsewhere_and_allows_nothing_else(live: Any) -> None:
    answer = httpx.get(live.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.findall(r"""(?:src|href)=["'](?!data:,)""", answer.text)
    assert "://" not in answer.text
    assert not re.findall(r"\bon\w+=", answer.text)


def test_a_site_is_shown_and_classified(live: Any, browser: Any, tmp_path: Path) -> None:
    browser.get(live.url)
    _wait(browser, lambda b: "w5 MitoTracker (optional)" in _text(b, "#about"))
    _send(browser, _write(tmp_path, (1, 2, 5)))
    _wait(browser, lambda b: _text(b, "#status") == "Classified 1 image.")
    rows = browser.find_elements("css selector", ".bars tr")
    assert len(rows) == 3
    shown = [float(row.text.split()[-2]) for row in rows]
    assert shown == sorted(shown, reverse=True)
    assert sum(shown) == pytest.approx(100, abs=0.3)
    assert rows[0].text.split()[0] in _text(browser, ".answer h2")
    bars = [bar.size["width"] for bar in browser.find_elements("css selector", ".bar")]
    assert bars[0] / max(bars[1], 1) == pytest.approx(shown[0] / shown[1], rel=0.2)
    # Blue, green and magenta, dimmed, on the right of the ramp; black on the left.
    right, left = browser.execute_script(
        "const c = document.querySelector('.answer canvas'); const x = c.getContext('2d');"
        "const row = [...x.getImageData(0, 9, 64, 1).data];"
        "return [row.slice(-4), row.slice(0, 4)];"
    )
    assert (right, left) == ([221, 221, 255, 255], [0, 0, 0, 255])
    assert [e.text for e in browser.find_elements("css selector", ".legend li")] == [
        "w1", "w2", "w5",
    ]  # fmt: skip
    assert _complaints(browser) == []


def test_what_is_wrong_is_told_in_the_servers_words(
    live: Any, browser: Any, tmp_path: Path
) -> None:
    browser.get(live.url)
    broken = tmp_path / "broken.png"
    broken.write_bytes(png(9)[:60])
    _send(browser, [broken])
    problem = _wait(browser, lambda b: _text(b, "#problem"))
    assert "broken.png: the file ends after 60 bytes" in problem
    assert _text(browser, "#status") == ""
    assert _complaints(browser) == []


def test_files_without_telling_names_can_be_named(live: Any, browser: Any, tmp_path: Path) -> None:
    browser.get(live.url)
    _wait(browser, lambda b: _text(b, "#model"))
    files = [tmp_path / "left.png", tmp_path / "right.png"]
    for path in files:
        path.write_bytes(png(90))
    _send(browser, files)
    _wait(browser, lambda b: b.find_element("id", "channels-form").is_displayed())
    chosen = browser.find_elements("css selector", "#channels select")
    assert [select.get_attribute("value") for select in chosen] == ["w1 Hoechst", "w2 ConA"]
    browser.find_element("css selector", "#channels-form button").click()
    _wait(browser, lambda b: _text(b, "#status") == "Classified 1 image.")
    assert not browser.find_element("id", "problem").is_displayed()
    assert "left.png" in _text(browser, ".answer .name")
    assert "no channel for w5 MitoTracker" in _text(browser, ".answer .note")


def test_what_has_no_answer_is_not_counted_as_classified(
    live: Any, browser: Any, tmp_path: Path
) -> None:
    browser.get(live.url)
    whole = _write(tmp_path, (1, 2, 5))
    lacking = tmp_path / "C03_s1_w1.png"
    lacking.write_bytes(whole[0].read_bytes())
    _send(browser, [*whole, lacking])
    _wait(browser, lambda b: _text(b, "#status") == "Classified 1 of 2 images.")
    last = browser.find_elements("css selector", ".answer")[-1].text
    assert "send all files of a site together" in last
    assert "--channels" not in last


def test_a_tiff_is_classified_though_it_cannot_be_shown(
    live: Any, browser: Any, tmp_path: Path
) -> None:
    browser.get(live.url)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((2, 3, 16, 16), "u1"), imagej=True, metadata={"axes": "TCYX"})
    _send(browser, [path])
    _wait(browser, lambda b: _text(b, "#status") == "Classified 2 images.")
    assert _text(browser, ".picture") == "A browser cannot show TIFF images."
    names = [e.text for e in browser.find_elements("css selector", ".answer .name")]
    assert names == ["stack.tif[t=0]", "stack.tif[t=1]"]
    assert _complaints(browser) == []


def test_a_token_is_asked_for_and_used(
    running: Any, served_site: ServedModel, browser: Any, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    with running(served_site, token=TOKEN) as live:
        browser.get(live.url)
        _wait(browser, lambda b: b.find_element("id", "token-form").is_displayed())
        # The field has the focus: a keyboard is enough.
        browser.switch_to.active_element.send_keys("not-it" + Keys.ENTER)
        _wait(browser, lambda b: b.find_element("id", "token-form").is_displayed())
        assert "token" in _text(browser, "#problem")
        field = browser.find_element("id", "token")
        field.clear()
        field.send_keys(TOKEN + Keys.ENTER)
        _wait(browser, lambda b: _text(b, "#model"))
        _send(browser, _write(tmp_path, (1, 2)))
        _wait(browser, lambda b: _text(b, "#status") == "Classified 1 image.")


def test_images_can_be_dropped(live: Any, browser: Any) -> None:
    browser.get(live.url)
    _wait(browser, lambda b: _text(b, "#model"))
    content = [list(png(level)) for level in (50, 90)]
    browser.execute_script(
        "const data = new DataTransfer();"
        "arguments[0].forEach((bytes, i) => data.items.add("
        "new File([new Uint8Array(bytes)], `B02_s1_w${i + 1}.png`, {type: 'image/png'})));"
        "document.getElementById('drop').dispatchEvent("
        "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));",
        content,
    )
    _wait(browser, lambda b: _text(b, "#status") == "Classified 1 image.")


def test_everything_can_be_reached_by_keyboard(live: Any, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get(live.url)
    _wait(browser, lambda b: _text(b, "#model"))
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "files"
    ring = browser.find_element("id", "drop").value_of_css_property("outline-style")
    assert ring == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(live: Any, browser: Any, scheme: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.get(live.url)
    body = browser.find_element("tag name", "body")
    inks = [body.value_of_css_property(name) for name in ("color", "background-color")]
    ink, ground = (_luminance(text) for text in inks)
    # WCAG 2.2, success criterion 1.4.6.
    assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) > 7
    assert (ground > ink) == (scheme == "light")


def _luminance(text: str) -> float:
    channels = [int(number) / 255 for number in re.findall(r"\d+", text)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
