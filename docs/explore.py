"""Take explore.png for docs/explore.md, a screenshot of the page in Chromium: `python docs/explore.py`."""

import io
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import sync_playwright

from lightly_aug.photographs import photographs

SIZE = {"width": 1520, "height": 750}

with TemporaryDirectory() as place:
    folder = Path(place) / "photos"
    folder.mkdir()
    for name, image in zip(("astronaut", "coffee", "cat", "rocket"), photographs(4), strict=True):
        image.save(folder / f"{name}.jpg", quality=95)
    words = [sys.executable, "-m", "lightly_aug", "explore", "photos", "--no-open"]
    server = subprocess.Popen(words, cwd=place, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().split()[0]
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]  # a TypedDict
        page.goto(address)
        page.wait_for_selector(".view img")
        page.locator(".seed input").fill("132")  # draws that show much
        page.locator("h2").click()  # elsewhere than in the field
        page.mouse.move(0, 0)
        page.wait_for_timeout(3000)
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    server.send_signal(signal.SIGINT)
    server.wait()
coarse = shot.point([round(value / 255 * 51) * 5 for value in range(256)] * 3)  # 52 levels: half the bytes, no bands
coarse.save(Path(__file__).with_suffix(".png"), optimize=True)
