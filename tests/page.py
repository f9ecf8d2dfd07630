#!/usr/bin/env python3
"""Uses the page of a node in headless Chromium as two people would: page.py URL NAME OTHER PASSWORD FILE PICTURES

Logs in by keyboard, makes a folder, stores a file in it, replaces, restores, moves and removes it, shares it with the other user, who
reads it, as well as by capabilities; stores, downloads, shares and deletes single files; logs out. Once with the page's script and once
without any. Looks at each page at 360 and 1280 pixels, light and dark: contrast, overflow, names of controls; on pages with forms every
control is reached by the Tab key, and shows that it is. Pictures go to PICTURES. Exit 77: Chromium or Playwright cannot be had.
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
  for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a")) {
    const labels = field.labels && field.labels.length && field.labels[0].textContent;
    const name = field.getAttribute("aria-label") || labels || (["A", "BUTTON"].includes(field.tagName) && field.textContent.trim());
    if (!name) faults.push(`without a name: ${field.outerHTML}`);
  }
  if (!document.title || !document.documentElement.lang || document.querySelectorAll("h1").length !== 1) faults.push("title, language or heading");
  return faults;
}"""

# What the Tab key must reach.
CONTROLS = "a[href], summary, button:not([hidden]), input:not([type=hidden]), select, textarea"

# Which of them has the focus, and whether one sees it.
FOCUSED = """(controls) => {
  const at = document.activeElement, style = getComputedStyle(at);
  return [[...document.querySelectorAll(controls)].indexOf(at), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
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
        self.prefix = "script" if script else "plain"
        self.context = browser.new_context(java_script_enabled=script, accept_downloads=True, reduced_motion="reduce")
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("request", lambda request: request.url.startswith(url) or self.faults.append(f"asked {request.url}"))
        # Refusals that are asked for: a wrong password, a capability that reads nothing, a name that is taken.
        asked = ("status of 401", "status of 403", "status of 409")
        self.page.on("console", lambda message: message.type == "error" and not any(text in message.text for text in asked) and self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def look(self, name: str, walk: bool = False) -> None:
        """Looks at the page in each size and scheme, also by the Tab key: with all that can be opened on it open."""
        if walk and self.script:
            self.page.evaluate("() => { for (const details of document.querySelectorAll('details')) details.open = true; }")
        narrow, wide = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
        sights = [(narrow, "light"), (narrow, "dark"), (wide, "light"), (wide, "dark")]
        # Without the script nothing can be measured, and little looks otherwise.
        for size, scheme in sights if self.script else [sights[0], sights[3]]:
            self.page.set_viewport_size(size)
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            sight = f"{name}-{size['width']}-{scheme}"
            self.page.screenshot(path=self.pictures / f"{self.prefix}-{sight}.png", full_page=True)
            if self.script:
                self.faults += [f"{sight}: {fault}" for fault in self.page.evaluate(LOOK)]
        if walk and self.script:
            self.walk(name)

    def walk(self, name: str) -> None:
        """Goes through the page by the Tab key."""
        self.page.evaluate("() => { document.activeElement.blur(); document.body.tabIndex = -1; document.body.focus(); }")
        count = self.page.locator(CONTROLS).count()
        reached = set()
        for _ in range(count):
            self.page.keyboard.press("Tab")
            at, seen = self.page.evaluate(FOCUSED, CONTROLS)
            reached.add(at)
            if not seen:
                self.faults.append(f"{name}: the focus is not seen on control {at}")
        missed = set(range(count)) - reached
        if missed:
            self.faults.append(f"{name}: Tab does not reach controls {sorted(missed)} of {count}")

    def log_in(self, name: str, password: str) -> None:
        self.page.goto(self.url + "/")
        assert self.page.url == self.url + "/login", self.page.url
        keys = self.page.keyboard
        self.page.focus("#name")
        keys.type(name)
        keys.press("Tab")
        keys.type(password)
        keys.press("Enter")

    def enters(self, name: str, password: str) -> None:
        self.log_in(name, password)
        self.page.wait_for_selector("#upload")

    def gets(self, selector: str, name: str | None = None) -> bytes:
        """The bytes of a download."""
        with self.page.expect_download() as download:
            self.page.click(selector)
        found = download.value.suggested_filename
        assert name in (None, found), found
        return Path(download.value.path()).read_bytes()

    def stores(self, files: list[Path], button: str = "Store") -> None:
        self.page.set_input_files("#file", files)
        self.page.focus(f"#upload button:text-is('{button}')")
        self.page.keyboard.press("Enter")

    def opens(self, summary: str, control: str) -> None:
        """Opens the part of the page that a control is in."""
        if not self.page.is_visible(control):
            self.page.click(f"summary:has-text('{summary}')")

    def fills(self, summary: str, field: str, text: str) -> None:
        """Fills a field in a part of the page, and sends its form."""
        self.opens(summary, field)
        self.page.fill(field, text)
        self.page.keyboard.press("Enter")

    def told(self, text: str) -> None:
        """Waits for a refusal, where it is told."""
        place = "#uploads li" if self.script else "[role=alert]"
        self.page.locator(place, has_text=text).wait_for(timeout=60_000)
        if not self.script:
            self.page.go_back()

    def folders(self, other: "Visit", file: Path, newer: Path) -> None:
        page, folder = self.page, "Holiday & é"
        old, new = file.read_bytes(), newer.read_bytes()
        self.fills("New folder", "#name", folder)
        page.locator("h1", has_text=folder).wait_for()
        self.stores([file])
        page.locator(".rows li", has_text=file.name).locator("text=final").wait_for(timeout=60_000)
        assert self.gets("a:has-text('Download')", file.name) == old, "other bytes came back"
        self.stores([newer])
        self.told("exists")
        assert page.locator("text=older versions").count() == 0, "nothing is replaced unasked"
        self.stores([newer], "Store and replace")
        page.wait_for_selector("text=older versions: 1", timeout=60_000)
        self.fills("New folder", "#name", "Inner")
        page.locator("h1", has_text="Inner").wait_for()
        page.click(f".crumbs a:has-text('{folder}')")
        names = page.locator(".rows h2").all_inner_texts()
        assert names == ["Inner/", file.name], names
        self.look("folder", walk=True)
        page.click(f"h2 a:has-text('{file.name}')")
        page.wait_for_selector(".versions")
        self.look("versions", walk=True)
        assert self.gets("a[aria-label^='Download holiday']", file.name) == new, "the newer bytes"
        assert self.gets("a[aria-label='Download version 1']", file.name) == old, "the older bytes"
        self.shares(other, new, looks=True)
        page.click("button:has-text('Restore')")
        page.wait_for_selector("a[aria-label='Download version 2']")
        assert self.gets("a[aria-label^='Download holiday']", file.name) == old, "the older bytes are back"
        page.fill("#to", f"/{folder}/moved/new name.bin")
        page.keyboard.press("Enter")
        page.locator("h1", has_text="new name.bin").wait_for()
        assert self.gets("a[aria-label^='Download new name']", "new name.bin") == old
        page.click(f".crumbs a:has-text('{folder}')")
        names = page.locator(".rows h2").all_inner_texts()
        assert names == ["Inner/", "moved/"], names
        self.fills("Move, rename", "#to", "/Journey")
        page.locator("h1", has_text="Journey").wait_for()
        assert page.locator(".rows h2").count() == 2, "all that is in it has moved"
        self.opens("Move, rename", "a:has-text('Remove this folder')")
        page.click("a:has-text('Remove this folder')")
        page.wait_for_selector("button:has-text('Remove it')")
        self.look("remove")
        page.click("button:has-text('Remove it')")
        page.wait_for_selector("text=This folder is empty")

    def shares(self, other: "Visit", content: bytes, looks: bool = False) -> None:
        """Shares the file whose page is open with the other one, and by capabilities."""
        page, place = self.page, self.page.url
        other.page.goto(self.url + "/shared")
        page.fill("#account", "not an account")
        page.click("button:text-is('Share')")
        assert page.url == place, "the form says what an account is"
        page.fill("#account", other.page.input_value("#account"))
        page.select_option("#lasts", label="about a week")
        page.click("button:text-is('Share')")
        page.locator(".shares li", has_text="for about").wait_for()
        if looks:
            self.look("shared", walk=True)
        other.page.goto(self.url + "/shared")
        if looks:
            other.look("received", walk=True)
        assert other.gets(".rows li a:has-text('Download')") == content, "the other one reads it"
        for kind, reads in [("read", True), ("verify", False)]:
            page.click(f"button:has-text('Show the {kind} capability')")
            text = page.input_value("#capability")
            assert text.startswith(f"trullo-{kind}-"), kind
            if looks:
                self.look(f"capability-{kind}")
            if self.script:
                page.click("button[data-copies]")
                page.wait_for_selector("button:has-text('Copied')")
                assert page.evaluate("() => navigator.clipboard.readText()") == text
            page.click("text=Back to the file")
            assert page.url == place, page.url
            other.uses(text, content if reads else None, looks)
        page.click("button:has-text('Stop sharing')")
        page.wait_for_selector("text=It is shared with nobody")
        other.page.goto(self.url + "/shared")
        assert other.page.locator("text=Nobody shares a file with you").count() == 1

    def uses(self, capability: str, content: bytes | None, looks: bool) -> None:
        """Uses a capability, and gets the content or a refusal."""
        self.page.goto(self.url + "/shared")
        self.page.fill("#capability", capability)
        if content is None:
            self.page.click("button:text-is('Download')")
            self.page.wait_for_selector("[role=alert]:has-text('reads nothing')")
            self.page.go_back()
            self.page.fill("#capability", capability)
        else:
            assert self.gets("button:text-is('Download')") == content, "the capability reads it"
        self.page.click("button:text-is('Check')")
        self.page.locator("h1", has_text="The file is whole").wait_for()
        if looks:
            self.look("checked")

    def single(self, other: "Visit", file: Path) -> None:
        page = self.page
        page.click("nav a:has-text('Single files')")
        page.wait_for_selector("text=No single file is stored")
        self.stores([file])
        entry = f"[data-status=final]:has-text('{file.name}')" if self.script else "[data-status=final]"
        page.wait_for_selector(entry, timeout=60_000)
        self.look("stored")
        assert self.gets("a:has-text('Download')", file.name) == file.read_bytes(), "other bytes came back"
        if self.script:
            self.drop(file)
            page.click(f"h2 a:has-text('{file.name}')")
            page.wait_for_selector("dl")
        self.look("file", walk=True)
        self.shares(other, file.read_bytes())
        page.goto(self.url + "/files")
        entries = page.locator(".files > li")
        while (left := entries.count()) > 0:
            page.click(".files > li >> nth=0 >> a:has-text('Delete')")
            page.wait_for_selector("button:has-text('Delete it')")
            if left == 1:
                self.look("delete")
            page.click("button:has-text('Delete it')")
            page.wait_for_selector("#upload")
            assert entries.count() == left - 1, "it is still there"

    def use(self, other: "Visit", name: str, password: str, file: Path, newer: Path) -> None:
        page = self.page
        self.log_in(name, "a wrong password")
        page.wait_for_selector("[role=alert]")
        self.look("login", walk=True)
        self.enters(name, password)
        self.look("empty")
        self.folders(other, file, newer)
        self.single(other, file)
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

    url, name, second, password, file, pictures = sys.argv[1:]
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        say("skipped: there is no chromium")
        sys.exit(77)
    Path(pictures).mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        newer = Path(pictures) / "newer" / Path(file).name
        newer.parent.mkdir(exist_ok=True)
        newer.write_bytes(b"newer " + Path(file).read_bytes())
        for script in [True, False]:
            visit, other = [Visit(browser, url.rstrip("/"), Path(pictures), script) for _ in range(2)]
            other.enters(second, password)
            visit.use(other, name, password, Path(file), newer)
            faults = visit.faults + other.faults
            assert faults == [], "\n".join(faults)
            visit.context.close()
            other.context.close()
        browser.close()


main()
