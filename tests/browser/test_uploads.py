"""Many items, and servers that go away."""

import time
from pathlib import Path

import httpx
import pytest

from tests.browser.hands import csv_rows, drop, parts, paste, ready, scored, until
from tests.forked import Forked

pytestmark = pytest.mark.slow

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
MANY = 1_000
WATCH_GAPS = """() => {
  window.gap = 0;
  let last = performance.now();
  const tick = () => {
    const now = performance.now();
    window.gap = Math.max(window.gap, now - last);
    last = now;
    setTimeout(tick, 0);
  };
  tick();
}"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many") / "thousand"
    root.mkdir()
    for i, content in enumerate(parts(MANY, odd=20)):
        (root / f"{i:04}.png").write_bytes(content)
    return root


def test_a_thousand_images_show_their_progress_while_the_page_answers(page, images, many: Path, picture) -> None:
    page.goto(images.url)
    ready(page)
    page.evaluate(WATCH_GAPS)
    start = time.perf_counter()
    drop(page, many)
    until(page, "document.querySelector('progress').value > 20")
    assert 0 < page.locator("progress").evaluate("bar => bar.value / bar.max") < 1
    page.click("#filter-anomaly")
    picture(page, "analyse-progress", whole=False)
    scored(page, 1_000)
    took, gap = time.perf_counter() - start, page.evaluate("window.gap")
    print(f"{MANY} images in {took:.1f} s, longest gap of the main thread {gap:.0f} ms")  # noqa: T201
    assert gap < 500
    assert page.locator("#items img").count() <= 60
    assert page.watch.scored >= MANY / 24


def test_a_server_that_restarts_is_waited_for(page, start, table_bundle: Path, refusals, tmp_path: Path) -> None:
    server = start(table_bundle)
    port = httpx.URL(server.url).port
    page.goto(server.url)
    ready(page)
    server.process.kill()
    server.process.wait(10)
    paste(page, csv_rows(600))
    expect(page.locator("#hindrance")).to_contain_text("the server does not answer; trying again in")
    again = Forked("serve", table_bundle, "--port", port, stdout=tmp_path / "log")
    try:
        scored(page, 602)
        expect(page.locator("#hindrance")).to_be_hidden()
    finally:
        again.kill()
        again.wait(10)
    page.click("#tab-live")
    expect(page.locator("#live-state")).to_contain_text("connecting again in")


def test_a_server_that_stays_away_leaves_items_to_send_again(page, tables, refusals) -> None:
    page.clock.install()
    page.goto(tables.url)
    ready(page)
    page.route("**/score?*", lambda route: route.abort())
    paste(page, csv_rows(2))
    page.clock.run_for(30_000)
    for _ in range(8):
        page.clock.run_for(6_000)
    expect(page.locator(".item-say").first).to_have_text("the server does not answer")
    expect(page.locator(".again")).to_have_count(4)
    page.unroute("**/score?*")
    page.locator(".again").first.click()
    page.clock.run_for(1_000)
    expect(page.locator(".again")).to_have_count(3)
    page.clock.run_for(1_000)
    page.click("#retry-all")
    page.clock.run_for(2_000)
    scored(page, 4)
    expect(page.locator(".again")).to_have_count(0)


def test_items_that_were_judged_by_another_version_are_judged_again(page, tables) -> None:
    """As if the server had taken up another version of the model behind the page."""
    page.goto(tables.url)
    ready(page)
    paste(page, csv_rows(2))
    assert len(scored(page, 4)) == 4

    def newer(route) -> None:  # type: ignore[no-untyped-def]
        answer = route.fetch()
        document = answer.json()
        document["model"]["version"] = "newer"
        route.fulfill(response=answer, json=document)

    page.route("**/score?*", newer)
    page.route("**/calibration", newer)
    before = page.watch.scored
    paste(page, csv_rows(1))
    scored(page, 7)
    until(page, "performance.getEntriesByName(location.origin + '/models/rows/calibration').length == 2")
    page.wait_for_timeout(400)
    assert len([one for one in page.watch.asked[before:] if one == "POST /score?model=rows"]) >= 2
    scored(page, 7)
    expect(page.locator("#items li.is-normal, #items li.is-anomaly")).to_have_count(7)


def test_a_batch_that_is_too_large_for_a_proxy_goes_in_parts(page, images, refusals, tmp_path: Path) -> None:
    page.goto(images.url)
    ready(page)
    small = lambda route: (  # noqa: E731
        route.fulfill(status=413, json={"error": {"code": "too_large", "message": "too large"}})
        if len(route.request.post_data_buffer) > 1_500 else route.continue_()
    )  # fmt: skip
    page.route("**/score?model=pictures", small)
    for i, content in enumerate(parts(7, odd=9)):
        (tmp_path / f"{i}.png").write_bytes(content)
    (tmp_path / "large.png").write_bytes(bytes(2_000))
    page.set_input_files("#files", sorted(tmp_path.iterdir()))
    said = scored(page, 8)
    assert said["large.png"] == "too large"
    assert sum("p " in words for words in said.values()) == 7


def test_another_model_judges_what_is_there_even_while_it_is_sent(page, images, many: Path, refusals) -> None:
    page.goto(images.url)
    page.set_input_files("#files", sorted(many.iterdir())[:150])
    until(page, "document.querySelector('progress').value > 20")
    page.select_option("#model-name", "rows")
    scored(page, 150)
    expect(page.locator("#filter-failed")).to_have_text("Not scored 150")
    page.select_option("#model-name", "pictures")
    until(page, "!document.querySelector('.is-failed')", 20)
    scored(page, 150)
    expect(page.locator("#filter-normal")).not_to_have_text("Normal 0")
    expect(page.locator("#filter-failed")).to_be_hidden()
