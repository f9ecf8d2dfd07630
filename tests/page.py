#!/usr/bin/env python3
"""Uses the page of a node in headless Chromium as a person would: page.py URL NAME PASSWORD FILE PICTURES

Logs in by keyboard, stores a file, waits until it is final, downloads it and compares the bytes, deletes it, logs out; once with the
page's script and once without any. Looks at each page at 360 and 1280 pixels, light and dark: contrast, overflow, names of controls.
Pictures go to PICTURES. Exit 77: Chromium or Playwright cannot be had.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "1.65.2"

# Contrast by WCAG 2.2: of each text with the nearest background behind it, in the colours that are in effect.
LOOK = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faults = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)}: ${node.textContent.trim()}`);
  }
  const wide = document.documentElement.scrollWidth;
  if (wide > window.innerWidth) faults.push(`${wide} pixels wide in ${window.innerWidth}`);
  for (const field of document.querySelectorAll("input, button, a")) {
    const name = field.getAttribute("aria-label") || field.textContent.trim() || (field.labels && field.labels.length && field.labels[0].textContent);
    if (!name) faults.push(`without a name: ${field.outerHTML}`);
  }
  if (!document.title || !document.documentElement.lang || document.querySelectorAll("h1").length !== 1) faults.push("title, language or heading");
  return faults;
}"""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def inside() -> None:
    """Goes on in a virtual environment that has Playwright; it is made the first time."""
    cache = os.environ.get("TRULLO_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "trullo")
    env = Path(cache) / f"playwright-{VERSION}"
    python = env / "bin" / "python"
    if Path(sys.prefix) == env:
        return
    if not (env / "done").exists():
        say(f"installing playwright {VERSION} into {env}")
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", env], check=True)
            subprocess.run([env / "bin" / "pip", "install", "--quiet", f"playwright=={VERSION}"], check=True, stdout=sys.stderr)
        except subprocess.CalledProcessError as error:
            say(f"skipped: playwright cannot be installed: {error}")
            sys.exit(77)
        (env / "done").touch()
    os.execv(python, [python, *sys.argv])


class Visit:
    """One browser window, and what must hold on every page in it."""

    def __init__(self, browser, url: str, pictures: Path, script: bool):
        self.url, self.pictures, self.script = url, pictures, script
        self.context = browser.new_context(java_script_enabled=script, accept_downloads=True, reduced_motion="reduce")
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("request", lambda request: request.url.startswith(url) or self.faults.append(f"asked {request.url}"))
        self.page.on("console", lambda message: message.type == "error" and "401" not in message.text and self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def look(self, name: str) -> None:
        """Looks at the page in each size and scheme."""
        for width, height in [(360, 740), (1280, 800)]:
            for scheme in ["light", "dark"]:
                self.page.set_viewport_size({"width": width, "height": height})
                self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                self.page.screenshot(path=self.pictures / f"{name}-{width}-{scheme}.png", full_page=True)
                if self.script:
                    self.faults += [f"{name} {width} {scheme}: {fault}" for fault in self.page.evaluate(LOOK)]

    def log_in(self, name: str, password: str) -> None:
        self.page.goto(self.url + "/")
        assert self.page.url == self.url + "/login", self.page.url
        keys = self.page.keyboard
        self.page.focus("#name")
        keys.type(name)
        keys.press("Tab")
        keys.type(password)
        keys.press("Enter")

    def use(self, name: str, password: str, file: Path, prefix: str) -> None:
        page = self.page
        self.log_in(name, "a wrong password")
        page.wait_for_selector("[role=alert]")
        self.look(f"{prefix}-login")
        self.log_in(name, password)
        page.wait_for_selector("#upload")
        self.look(f"{prefix}-empty")
        page.set_input_files("#file", file)
        page.focus("#upload button")
        page.keyboard.press("Enter")
        entry = f"[data-status=final]:has-text('{file.name}')" if self.script else "[data-status=final]"
        page.wait_for_selector(entry, timeout=60_000)
        self.look(f"{prefix}-stored")
        with page.expect_download() as download:
            page.click("a:has-text('Download')")
        assert download.value.suggested_filename == file.name, download.value.suggested_filename
        assert Path(download.value.path()).read_bytes() == file.read_bytes(), "other bytes came back"
        if self.script:
            self.drop(file)
            page.click(f"h2 a:has-text('{file.name}')")
            page.wait_for_selector("dl")
            self.look(f"{prefix}-file")
        page.goto(self.url + "/")
        entries = page.locator(".files > li")
        while (left := entries.count()) > 0:
            page.click(".files > li >> nth=0 >> a:has-text('Delete')")
            page.wait_for_selector("button:has-text('Delete it')")
            self.look(f"{prefix}-delete")
            page.click("button:has-text('Delete it')")
            page.wait_for_selector("#upload")
            assert entries.count() == left - 1, "it is still there"
        page.click("button:has-text('Log out')")
        page.wait_for_selector("#name")
        page.goto(self.url + "/")
        assert page.url == self.url + "/login", "the login has ended"
        assert self.context.cookies() == [], self.context.cookies()

    def drop(self, file: Path) -> None:
        """Drops a second file with a name that is no HTML."""
        name = "<b>dropped & é</b>.txt"
        data = self.page.evaluate_handle("(name) => { const data = new DataTransfer(); data.items.add(new File(['dropped'], name)); return data; }", name)
        self.page.dispatch_event("#upload", "drop", {"dataTransfer": data})
        self.page.locator(".files h2 a", has_text=name).wait_for(timeout=60_000)
        assert self.page.locator(".files > li").count() == 2


def main() -> None:
    inside()
    from playwright.sync_api import sync_playwright

    url, name, password, file, pictures = sys.argv[1:]
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        say("skipped: there is no chromium")
        sys.exit(77)
    Path(pictures).mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for script, prefix in [(True, "script"), (False, "plain")]:
            visit = Visit(browser, url.rstrip("/"), Path(pictures), script)
            visit.use(name, password, Path(file), prefix)
            assert visit.faults == [], "\n".join(visit.faults)
            visit.context.close()
        browser.close()


main()
