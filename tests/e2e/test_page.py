"""The web page: what the gateway serves of it, and what a browser makes of it."""

import base64
import math
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import pytest
from PIL import Image

from serving import api_keys
from tests.gateways import Gateway

BROWSER_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
MEDIA_TYPES = {
    ".css": ("text/css",),
    ".js": ("text/javascript", "application/javascript"),
    ".svg": ("image/svg+xml",),
}
KEPT = ("Accept", "Content-Type", "X-Api-Key")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")

# Version 2 of `tiny` answers: with one of 48 blocks in full red, its logits are 20/48 and 0.
P_RED = 1 / (1 + math.exp(-20 / 48))

# A paste before the models are known: the picture waits for them.
PASTE = """
const transfer = new DataTransfer();
const bytes = Uint8Array.from(atob("{data}"), (letter) => letter.charCodeAt(0));
transfer.items.add(new File([bytes], "corner.png", {{ type: "image/png" }}));
document.body.dispatchEvent(new ClipboardEvent("paste", {{ clipboardData: transfer, bubbles: true }}));
"""


class Elements(HTMLParser):
    """The elements of a page: names and attributes, and the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.raw_text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.raw_text += data.strip()

    def values(self, *names: str) -> list[str]:
        return [value for _, attributes in self.found for name, value in attributes.items() if name in names]


@pytest.fixture(scope="module")
def gateway(tiny_server, tmp_path_factory) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    with Gateway(log, models="tiny,absent", model_server_target=tiny_server.grpc_target) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def index(gateway) -> str:
    return gateway.http.get("/", headers={"Accept": BROWSER_ACCEPT}).text


@pytest.fixture(scope="module")
def references(index) -> list[str]:
    return Elements(index).values("src", "href", "srcset", "action", "data", "poster")


def test_browsers_get_the_page(gateway):
    answer = gateway.http.get("/", headers={"Accept": BROWSER_ACCEPT})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.lower().startswith("<!doctype html>")


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_others_get_that_the_process_is_alive(gateway, accept):
    answer = gateway.http.get("/", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"status": "alive"}


def test_every_file_of_the_page_is_served_as_what_it_is(gateway, references):
    files = {name for name in references if name.startswith("page/")}
    assert {Path(name).suffix for name in files} == set(MEDIA_TYPES)
    for name in files:
        answer = gateway.http.get(f"/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["Content-Type"].split(";")[0] in MEDIA_TYPES[Path(name).suffix], name


def test_every_other_link_leads_somewhere(gateway, references):
    links = {name for name in references if not name.startswith("page/")}
    assert links
    # `absent` is never ready.
    statuses = {name: gateway.http.get(f"/{name}").status_code for name in links}
    assert statuses == {name: 503 if name == "v2/health/ready" else 200 for name in links}


def test_nothing_leaves_the_host(gateway, references):
    assert not [name for name in references if re.match(r"[a-z]+:|/", name, re.IGNORECASE)]
    for name in {name for name in references if Path(name).suffix in (".css", ".js")}:
        assert not re.search(r"https?:|url\(|@import|\bimport\b", gateway.http.get(f"/{name}").text), name


def test_nothing_needs_an_exception_from_a_strict_policy(gateway, index):
    page_policy = gateway.http.get("/", headers={"Accept": BROWSER_ACCEPT}).headers["Content-Security-Policy"]
    elements = Elements(index)
    assert elements.raw_text == ""
    assert "style" not in [tag for tag, _ in elements.found]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert not elements.values("style")
    policies = [attributes["content"] for tag, attributes in elements.found if "http-equiv" in attributes]
    assert policies == [page_policy.removesuffix("; frame-ancestors 'none'")]
    assert page_policy.startswith("default-src 'none'; ")
    assert "unsafe" not in page_policy
    assert "http" not in page_policy


def dump(url: str, profile: Path, *more: str) -> str:
    """Return the page's elements after its script has run, in a browser without a screen."""
    assert CHROMIUM is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
    quiet = ("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr")
    run = subprocess.run(
        [
            CHROMIUM,
            *flags,
            *quiet,
            *more,
            f"--user-data-dir={profile}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    # What a page writes to its console, and what its policy forbids.
    assert not re.search(r"Content Security Policy|Uncaught", run.stderr), run.stderr
    return run.stdout


def cards_of(dom: str) -> dict[str, str]:
    """Return the cards' markup by the names of their models."""
    cards = re.findall(r'<article class="card.*?</article>', dom.split('<template id="card">')[0], re.DOTALL)
    return {re.search(r"<h2[^>]*>([^<]*)", card)[1]: card for card in cards}


@contextmanager
def with_script(gateway: Gateway, script: str) -> Iterator[str]:
    """Pass requests on to the gateway, and let its page run more script at its end; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sent = {
                name: self.headers[name] for name in ("Accept", "Content-Type", "X-Api-Key") if name in self.headers
            }
            answer = httpx.request(self.command, gateway.url + self.path, content=body, headers=sent, timeout=30)
            content = answer.content + (script.encode() if self.path == "/page/page.js" else b"")
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 (named by the base class)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@needs_chromium
def test_a_browser_shows_a_card_for_each_model(gateway, tmp_path):
    cards = cards_of(dump(f"{gateway.url}/", tmp_path))
    assert list(cards) == ["tiny", "absent"]
    assert ">version 2 · canary<" in cards["tiny"]
    assert "<dt>Recipe</dt><dd>tiny</dd>" in cards["tiny"]
    assert "<dt>Classes</dt><dd>rot, blau</dd>" in cards["tiny"]
    assert "<dt>Accuracy</dt><dd>not measured</dd>" in cards["tiny"]
    assert "This model is not ready: no version of it is loaded." in cards["absent"]
    assert "Recipe" not in cards["absent"]


@needs_chromium
def test_a_pasted_picture_is_classified_and_explained(gateway, tmp_path, encode: Callable[..., bytes], red_corner):
    script = PASTE.format(data=base64.b64encode(encode(red_corner)).decode())
    with with_script(gateway, script) as url:
        dom = dump(url, tmp_path)
    card = cards_of(dom)["tiny"]
    assert f'<span>rot</span> <span class="share">{100 * P_RED:.1f}&nbsp;%</span>' in card
    assert "What speaks for “rot” at block/conv lies at the upper left of the picture: the box covers 2&nbsp;%" in card
    assert '<rect class="line" x="8" y="4" width="4" height="4">' in card
    assert re.search(r'<img class="overlay" alt="Heat map for rot at block/conv" src="blob:[^"]*">', card)
    assert 'aria-busy="true"' not in dom


def _settled(action: str) -> str:
    """Return script that does something once the first heat map is drawn, as a person would."""
    return f"""
new MutationObserver((_, observer) => {{
  const card = document.querySelector("#cards .card");
  if (!card?.querySelector(".look figcaption").textContent) return;
  observer.disconnect();
  const choose = (selector, value, event = "change") => {{
    const chooser = card.querySelector(selector);
    chooser.value = value;
    chooser.dispatchEvent(new Event(event));
  }};
  {action}
}}).observe(document.body, {{ childList: true, subtree: true, characterData: true }});
"""


@needs_chromium
def test_methods_classes_channels_and_filters_can_be_looked_through(gateway, tmp_path, encode, red_corner):
    picture = PASTE.format(data=base64.b64encode(encode(red_corner)).decode())
    action = """
  choose(".method", "layer_cam");
  choose(".layer", "identity");
  for (const name of [".activations", ".filters"]) card.querySelector(name).open = true;
  choose(".activation-layer", "block/conv");
  choose(".channel", "1", "input");
  choose(".channel", "1");
"""
    with with_script(gateway, _settled(action) + picture) as url:
        card = cards_of(dump(url, tmp_path))["tiny"]
    assert "What speaks for “rot” at identity lies at the upper left" in card
    assert 'alt="channel 0 of block/conv"' in card
    assert '<output class="channel-name">0</output>' in card
    # One of the 48 blocks is red, in one of the two channels.
    assert "Channel 0, 6 × 8. Of the layer 99&nbsp;% is zero; 1 channel is silent." in card
    assert 'alt="what filters 0-1 of block/conv respond to"' in card
    assert "0 to 1" in card


@needs_chromium
def test_integrated_gradients_have_no_layer(gateway, tmp_path, encode, red_corner):
    picture = PASTE.format(data=base64.b64encode(encode(red_corner)).decode())
    with with_script(gateway, _settled('choose(".method", "integrated_gradients");') + picture) as url:
        card = cards_of(dump(url, tmp_path))["tiny"]
    assert "What speaks for “rot” by integrated gradients lies at the upper left of the picture" in card
    assert 'alt="Heat map for rot at the input"' in card
    assert re.search(r'<select class="layer" disabled="">', card)


@needs_chromium
@pytest.mark.parametrize(("name", "width"), [("desktop", 1280), ("phone", 390)])
def test_the_page_fits_its_window(gateway, tmp_path, encode, red_corner, name, width):
    """The picture is kept in test-results/ to be looked at."""
    large = encode(np.kron(red_corner, np.ones((8, 8, 1), np.uint8)))
    action = """
  for (const name of [".activations", ".filters"]) card.querySelector(name).open = true;
  setTimeout(() => {
    const reach = [...document.querySelectorAll("body *")].map((one) => one.getBoundingClientRect().right);
    document.body.dataset.overflow = String(Math.max(...reach) > document.documentElement.clientWidth + 1);
  }, 3000);
"""
    script = _settled(action) + PASTE.format(data=base64.b64encode(large).decode())
    results = Path("test-results")
    results.mkdir(exist_ok=True)
    screenshot = results / f"page-{name}.png"
    screenshot.unlink(missing_ok=True)
    with with_script(gateway, script) as url:
        dom = dump(url, tmp_path, f"--window-size={width},2400", f"--screenshot={screenshot.resolve()}")
    assert 'data-overflow="false"' in dom
    with Image.open(screenshot) as kept:
        assert kept.width == width
        # More than one colour: something was drawn.
        assert len(kept.convert("RGB").getcolors(2**24)) > 50


@needs_chromium
def test_what_is_no_picture_is_answered_by_the_gateways_sentence(gateway, tmp_path):
    script = PASTE.format(data=base64.b64encode(b"no picture").decode())
    with with_script(gateway, script) as url:
        card = cards_of(dump(url, tmp_path))["tiny"]
    assert card.count("The data is not a JPEG, PNG, WebP, GIF, BMP or TIFF picture.") == 1
    (request_id,) = re.findall(r"Request ([0-9a-f]+)", card)
    assert request_id in {line["request_id"] for line in gateway.lines("request") if line["code"] == "NOT_AN_IMAGE"}


@needs_chromium
def test_the_page_asks_for_a_key_and_works_with_it(tiny_server, tmp_path):
    key, entry = api_keys.make("browser")
    script = """
    const typed = new URLSearchParams(location.search).get("key");
    const wait = setInterval(() => {
      if (byId("access").hidden || !typed) return;
      clearInterval(wait);
      byId("key").value = typed;
      byId("access").requestSubmit();
    }, 50);
    """
    settings = {"models": "tiny", "model_server_target": tiny_server.grpc_target, "api_keys": entry}
    with Gateway(tmp_path / "log", **settings) as gateway, with_script(gateway, script) as url:
        closed = dump(url, tmp_path / "closed")
        opened = dump(f"{url}?key={key}", tmp_path / "opened")
    assert "This gateway needs an API key" in closed
    assert '<form class="access" id="access">' in closed
    assert list(cards_of(closed)) == []
    assert '<form class="access" id="access" hidden="">' in opened
    assert list(cards_of(opened)) == ["tiny"]
