"""The page in Debian's Chromium, against a server of its own. Whatever the console calls an error fails the test."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from elbound.scorer import Scorer
from tests.browser.hands import parts
from tests.service.conftest import Server, key_file, start

__all__ = ["key_file", "start"]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-sync", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip
PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
REPORT = f"""<!doctype html><html><head><title>report</title><style>h1 {{ color: rgb(0, 158, 115) }}</style>
<script>parent.document.title = "owned"</script></head><body onload="parent.document.title = 'owned'">
<h1 style="display: none" onclick="alert(1)">Report of rows</h1><img src=x onerror="parent.document.title = 'owned'">
<iframe srcdoc="<script>top.document.title = 'owned'</script>"></iframe><form action="/score"><button>go</button></form>
<a href="javascript:parent.document.title = 'owned'">away</a><p>{"It held. " * 40}</p></body></html>"""


def pytest_runtest_setup(item: pytest.Item) -> None:
    pytest.importorskip("playwright", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium, or name one in CHROMIUM")


@pytest.fixture(scope="module")
def browser():  # type: ignore[no-untyped-def]
    """Of a module, not of the session: its event loop would be in the way of other tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


class Watch:
    """What a page did that it should not; `refusals` are answers of 400 and above, which some tests are about."""

    def __init__(self, page) -> None:  # type: ignore[no-untyped-def]
        self.wrong: list[str] = []
        self.refusals: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", self._request)

    def _console(self, message) -> None:  # type: ignore[no-untyped-def]
        if message.text.startswith("Failed to load resource"):
            self.refusals.append(f"{message.text} {message.location['url']}")
        elif message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def _request(self, request) -> None:  # type: ignore[no-untyped-def]
        address = urlsplit(request.url)
        self.asked.append(f"{request.method} {address.path}{'?' if address.query else ''}{address.query}")
        if address.scheme not in ("data", "blob") and address.hostname not in ("127.0.0.1", None):
            self.wrong.append(f"asked another host: {request.url}")

    @property
    def scored(self) -> int:
        """How often something was asked of the model."""
        return sum(one.startswith("POST /score") for one in self.asked)


@pytest.fixture
def watch(page) -> Watch:  # type: ignore[no-untyped-def]
    return page.watch


@pytest.fixture
def page(browser, request):  # type: ignore[no-untyped-def]
    """A fresh page; `refusals` must be expected by asking for the fixture of that name."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light", accept_downloads=True)
    shown = context.new_page()
    shown.set_default_timeout(10_000)
    shown.watch = Watch(shown)
    yield shown
    context.close()
    assert not shown.watch.wrong
    assert "refusals" in request.fixturenames or not shown.watch.refusals


@pytest.fixture
def refusals(page) -> list[str]:  # type: ignore[no-untyped-def]
    """The refusals that this test is about."""
    return page.watch.refusals


@pytest.fixture(scope="session")
def reported_bundle(table_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table's bundle with a report that tries what a report must not."""
    path = tmp_path_factory.mktemp("bundles") / "reported"
    table_scorer.save(path, report={"index.html": REPORT.encode()})
    return path


@pytest.fixture(scope="session")
def tables(start: Callable[..., Server], reported_bundle: Path) -> Server:
    return start(reported_bundle)


@pytest.fixture(scope="session")
def images(start: Callable[..., Server], image_bundle: Path, table_bundle: Path) -> Server:
    return start(image_bundle, table_bundle, max_body_bytes=1_000_000)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody drops: good images in two folders, a broken one, one of markup for a name, and other things."""
    root = tmp_path_factory.mktemp("dropped") / "line 3"
    (root / "night").mkdir(parents=True)
    for i, content in enumerate(parts(24)):
        (root / ("night" if i % 2 else ".") / f"part {i:02}.png").write_bytes(content)
    (root / "cut.png").write_bytes(parts(1)[0][:70])
    (root / "<b>bold<").write_bytes(b"nothing that is read")
    (root / "huge.png").write_bytes(bytes(1_200_000))
    return root


@pytest.fixture(scope="session")
def picture() -> Callable[..., None]:
    """Write what is on a page into `build/screenshots`, for a person to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)

    def take(page, name: str, *, whole: bool = True) -> None:  # type: ignore[no-untyped-def]
        page.mouse.move(0, 0)
        page.evaluate("scrollTo(0, 0)")
        taken = Image.open(io.BytesIO(page.screenshot(full_page=whole, animations="disabled")))
        taken.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)

    return take
