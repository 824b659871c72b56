"""Items are dropped or pasted, judged, explained and taken away."""

import csv
import json
import re
from pathlib import Path

import pytest

from tests.browser.hands import HOSTILE, csv_rows, drop, parts, paste, scored, until

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


def texts(page, selector: str) -> list[str]:  # type: ignore[no-untyped-def]
    return page.locator(selector).all_inner_texts()


def test_pasted_rows_are_judged_and_the_slider_judges_them_again_without_asking(page, tables, picture) -> None:
    page.goto(tables.url)
    paste(page, csv_rows())
    scored(page, 62)
    answer = tables.score(csv_rows().encode(), "text/csv").json()
    odd = [item for item in answer["items"] if item["is_anomaly"]]
    expect(page.locator("#filter-anomaly")).to_have_text(f"Anomalies {len(odd)}")
    assert texts(page, ".item-name")[0] == f"row {max(odd, key=lambda item: item['severity'])['index'] + 1}"
    expect(page.locator(".shares li").first).to_be_visible()
    until(page, "!document.querySelector('.working')")
    picture(page, "analyse-row")

    asked = len(page.watch.asked)
    slider = page.locator("#alpha")
    for key, alpha in (("End", 0.5), ("Home", tables.client.get("/models/rows/calibration").json()["smallest_alpha"])):
        slider.press(key)
        n = sum(item["p_value"] <= alpha * (1 + 1e-9) for item in answer["items"])
        expect(page.locator("#filter-anomaly")).to_have_text(f"Anomalies {n}")
    again = tables.score(csv_rows().encode(), "text/csv", alpha=0.5).json()
    slider.press("End")
    n = sum(item["is_anomaly"] for item in again["items"])
    expect(page.locator("#filter-anomaly")).to_have_text(f"Anomalies {n}")
    worst = max(again["items"], key=lambda item: item["severity"] or 0)
    said = page.locator(f".item:has(.item-name:text-is('row {worst['index'] + 1}')) .item-say")
    shown = float(re.search(r"severity ([\d,.]+)$", said.inner_text())[1].replace(",", ""))
    assert shown == pytest.approx(worst["severity"], rel=0.05)
    page.click("#alpha-reset")
    expect(page.locator("#filter-anomaly")).to_have_text(f"Anomalies {len(odd)}")
    assert len(page.watch.asked) == asked


def test_a_row_is_explained_column_by_column_with_what_would_have_been_normal(page, tables) -> None:
    page.goto(tables.url)
    paste(page, csv_rows())
    page.locator(".item", has_text="row 61").click()
    expect(page.locator("#nearest table")).to_be_visible()
    header, *rows = csv_rows().splitlines()
    query = {"explain": "true", "counterfactual": "true"}
    (item,) = tables.score(f"{header}\n{rows[60]}".encode(), "text/csv", **query).json()["items"]
    assert texts(page, "#why .shares")[0].count("saw") == len(item["explanation"]["features"])
    names = [one["name"] for one in item["explanation"]["features"]]
    assert texts(page, "#why .share-name")[: len(names)] == names
    seen = page.locator(".shares li", has_text="saw 60, expected").first
    expect(seen.locator(".chart svg .interval")).to_be_visible()
    assert texts(page, "#nearest tbody th") == [one["name"] for one in item["counterfactual"]["changes"]]


def test_a_folder_of_mixed_kinds_is_judged_and_what_is_no_item_says_why(page, images, folder: Path) -> None:
    page.goto(images.url)
    drop(page, folder)
    scored(page, 27)
    expect(page.locator("#progress-text")).to_contain_text("3 could not be scored")
    page.click("#filter-failed")
    said = dict(zip(texts(page, ".item-name"), texts(page, ".item-say"), strict=True))
    assert set(said) == {"line 3/cut.png", "line 3/<b>bold<", "line 3/huge.png"}
    assert "truncated" in said["line 3/cut.png"]
    assert "not a kind of file" in said["line 3/<b>bold<"]
    assert said["line 3/huge.png"] == "it has 1.2 MB; the server takes at most 1 MB in one request"
    assert page.locator("#items b").count() == 0
    page.click("#filter-all")
    page.select_option("#order", "name")
    assert texts(page, ".item-name")[3:5] == ["line 3/night/part 01.png", "line 3/night/part 03.png"]


def test_an_image_is_explained_under_its_heat_map(page, images, picture, tmp_path: Path) -> None:
    page.goto(images.url)
    (tmp_path / "odd.png").write_bytes(parts(8)[7])
    for i, content in enumerate(parts(7, odd=9)):
        (tmp_path / f"part {i}.png").write_bytes(content)
    page.set_input_files("#files", sorted(tmp_path.iterdir()))
    page.locator(".item", has_text="odd.png").click()
    expect(page.locator(".boxes rect").first).to_be_visible()
    heat = page.locator(".layer.heat")
    assert heat.evaluate("one => one.complete && one.naturalWidth") == 12
    assert heat.evaluate("one => one.style.opacity") == "0.7"
    page.locator("#heat").press("End")
    assert heat.evaluate("one => one.style.opacity") == "1"
    page.uncheck("#boxed")
    expect(page.locator(".boxes")).to_be_hidden()
    page.check("#boxed")
    page.locator("#heat").fill("70")
    expect(page.locator("#beside img").first).to_be_visible()
    expect(page.locator("#nearest figcaption")).to_contain_text("of its pixels differ")
    picture(page, "analyse-image")
    page.click("#theme")
    picture(page, "analyse-image-dark")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_results_are_exported_as_they_are_shown(page, tables, form: str) -> None:
    page.goto(tables.url)
    paste(page, csv_rows(20) + "1,2,3,perhaps,north\n")
    expect(page.locator("#progress-text")).to_contain_text("1 could not be scored")
    page.locator("#alpha").press("End")
    with page.expect_download() as waited:
        page.click(f"#export-{form}")
    content = Path(waited.value.path()).read_text()
    rows = list(csv.DictReader(content.splitlines())) if form == "csv" else json.loads(content)["items"]
    assert [row["name"] for row in rows] == [f"row {i}" for i in range(1, 24)]
    shown = page.locator("#filter-anomaly").inner_text()
    assert shown == f"Anomalies {sum(row['verdict'] == 'anomaly' for row in rows)}"
    assert "perhaps" in rows[22]["error"]
    assert float(rows[20]["p_value"]) == pytest.approx(1 / 121)


def test_rows_of_a_file_of_any_form_are_items(page, tables, refusals) -> None:
    page.goto(tables.url)
    csv_text = csv_rows(3)
    rows = [{"a": 0.1, "b": 0.2, "c": 1.5, "ok": True, "site": "north"}] * 2
    page.set_input_files("#files", [
        {"name": "a.csv", "mimeType": "text/plain", "buffer": csv_text.encode()},
        {"name": "b.json", "mimeType": "", "buffer": json.dumps({"rows": rows}).encode()},
        {"name": "c.ndjson", "mimeType": "", "buffer": "\n".join(map(json.dumps, rows)).encode()},
        {"name": "d.json", "mimeType": "", "buffer": b"{oh"},
        {"name": "e.csv", "mimeType": "", "buffer": b"x,y\n1,2\n3,4\n"},
        {"name": "f.png", "mimeType": "image/png", "buffer": parts(1)[0]},
    ])  # fmt: skip
    said = scored(page, 13)
    judged = {"a.csv": 5, "b.json": 2, "c.ndjson": 2}
    names = {f"{name}, row {i + 1}" for name, n in judged.items() for i in range(n)}
    assert {name for name, words in said.items() if "p " in words} == names
    assert said["d.json"].startswith("it is no JSON")
    assert "columns are not those of the model" in said["e.csv, row 2"]
    assert "rows" in said["f.png"]


def test_values_and_names_are_text(page, tables) -> None:
    page.goto(tables.url)
    paste(page, csv_rows(2))
    page.locator(".item", has_text="row 4").click()
    expect(page.locator(".shares li").first).to_be_visible()
    expect(page.locator(".item-row", has_text=HOSTILE)).to_be_visible()
    assert page.locator("#items img, #detail img").count() == 0
