"""Reports in a real browser: Debian's chromium, driven through its chromedriver by selenium.

Skipped where one of them is missing (``apt-get install chromium chromium-driver``).  axe-core, which looks for faults of
accessibility, comes from npm once and is kept in the user's cache; without npm that test is skipped.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_task

pytestmark = pytest.mark.slow
selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

Evalkit = Callable[..., subprocess.CompletedProcess[str]]
Chrome = Any

AXE = "4.14.1"
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    "\"><img src=x onerror='window.hacked = 3'><svg onload=window.hacked=4>",
    "line\u2028separator ' \" ` ${window.hacked = 5} javascript:window.hacked=6",
    "שלום \u202e txet dlrow — مرحبا",
    "plain",
)


# ---------------------------------------------------------------------------------------------------------- the browser


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no chromium with its chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def look(chrome: Chrome, page: Path, place: str = "", *, width: int = 1280, dark: bool = False) -> None:
    """Open a page afresh, wait until it is ready, and forget what the console said before."""
    chrome.get("about:blank")
    for kind in ("browser", "performance"):
        chrome.get_log(kind)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    chrome.get(page.as_uri() + place)
    until(chrome, "return document.documentElement.dataset.ready === 'yes'")


def until(chrome: Chrome, script: str) -> None:
    WebDriverWait(chrome, 20).until(lambda browser: browser.execute_script(script), script)


def complaints(chrome: Chrome) -> list[str]:
    return [entry["message"] for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def requested(chrome: Chrome) -> list[str]:
    """Every address that the page asked for."""
    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def ids(chrome: Chrome) -> list[str]:
    return list(chrome.execute_script("return [...document.querySelectorAll('.cards a')].map((a) => a.dataset.id)"))


def chip(chrome: Chrome, name: str) -> Any:
    return chrome.find_element(By.CSS_SELECTOR, f"[data-show='{name}']")


def choose(chrome: Chrome, label: str, option: str) -> None:
    """Choose an option of the list with this label."""
    chrome.execute_script(
        "const [label, option] = arguments;"
        "const list = [...document.querySelectorAll('label')].find((one) => one.firstChild.textContent === label).querySelector('select');"
        "list.value = option; list.dispatchEvent(new Event('change'));",
        label, option,
    )  # fmt: skip


def heading(chrome: Chrome) -> str:
    """The sample in the dialog; empty where that is closed."""
    return str(
        chrome.execute_script("return document.querySelector('dialog[open] #sample-heading')?.textContent ?? ''")
    )


def press(chrome: Chrome, *keys: str) -> None:
    webdriver.ActionChains(chrome).send_keys(*keys).perform()


# ------------------------------------------------------------------------------------------------------------ the pages


def answered(cwd: Path, evalkit: Evalkit, name: str, seed: int) -> None:
    """A scored run over four splits, a third of its answers wrong."""
    draw, files = random.Random(seed), []
    tasks = ("vqav2/val", "refcoco/testA", "refcoco/testB", "docvqa/val")
    for task in tasks:
        file = f"{name}-{task.replace('/', '.')}.jsonl"
        rows = []
        for sample in load_task(task, data="tiny"):
            right = str(sample.references[0])
            if task.startswith("refcoco"):
                right = json.dumps([{"bbox_2d": [int(v * 0.8) for v in sample.references[0]], "label": sample.text}])
            rows.append({"id": sample.id, "text": right if draw.random() > 0.33 else "none of it"})
        (cwd / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
        files.append(file)
    done = evalkit(
        "score", "-t", ",".join(tasks), "-p", ",".join(files), "--family", "qwen2.5-vl", "--name", name,
        "--data", "tiny", cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def pair(evalkit: Evalkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a report on two runs."""
    tmp_path = tmp_path_factory.mktemp("pair")
    answered(tmp_path, evalkit, "A", 1)
    answered(tmp_path, evalkit, "B", 2)
    done = evalkit("report", "runs/A", "runs/B", "--out", "pair", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path / "pair" / "index.html"


@pytest.fixture
def hostile(evalkit: Evalkit, tmp_path: Path) -> Path:
    """A run whose ids, questions, references, meta and answers are hostile."""
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(tmp_path / "a'\"><b>.png")
    rows = [
        {"id": text, "image": "a'\"><b>.png", "question": text, "answers": [text, "yes"],
         text.replace("\u2028", " "): text, "kind": HOSTILE[i % 2]}
        for i, text in enumerate(HOSTILE)
    ]  # fmt: skip
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps({"id": t, "text": t}) + "\n" for t in HOSTILE))
    done = evalkit(
        "score",
        "-t",
        "mine.jsonl",
        "-p",
        "answers.jsonl",
        "--kind",
        "document",
        "--name",
        "h",
        "--data",
        "tiny",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "runs" / "h"


def records(page: Path, split: int) -> list[dict[str, Any]]:
    body = (page.parent / "data" / f"{split}-0.js").read_text()
    return list(json.loads(body[body.index("[") : body.rindex("]") + 1]))


# ---------------------------------------------------------------------------------------------------------------- tests


def test_gallery_filters_sorts_and_searches(chrome: Chrome, pair: Path) -> None:
    look(chrome, pair, "#vqav2/val")
    shown = records(pair, 0)
    official = [s["id"] for s in shown]
    assert ids(chrome) == official[:48], "a page of the official order"
    a, b = ({s["id"]: s["runs"][run] for s in shown} for run in (0, 1))

    for name, expected in (
        ("wrong", [i for i in official if a[i]["status"] in ("wrong", "unparsed")]),
        ("right", [i for i in official if a[i]["status"] == "right"]),
        ("flipped", [i for i in official if (a[i]["status"] == "right") != (b[i]["status"] == "right")]),
        ("better", [i for i in official if b[i]["scores"]["accuracy"] > a[i]["scores"]["accuracy"]]),
        ("error", []),
        ("all", official),
    ):
        chip(chrome, name).click()
        assert ids(chrome) == expected[:48], name
        assert chip(chrome, name).get_attribute("aria-pressed") == "true"
        assert chip(chrome, name).find_element(By.TAG_NAME, "small").text == str(len(expected))
    choose(chrome, "by run", "1")
    chip(chrome, "wrong").click()
    assert ids(chrome) == [i for i in official if b[i]["status"] == "wrong"][:48]
    choose(chrome, "by run", "0")
    chip(chrome, "all").click()

    choose(chrome, "sort", "worst")
    scores = [a[i]["scores"]["accuracy"] for i in ids(chrome)]
    assert scores == sorted(scores)
    assert scores[0] == 0
    choose(chrome, "sort", "losses")
    assert b[ids(chrome)[0]]["scores"]["accuracy"] - a[ids(chrome)[0]]["scores"]["accuracy"] == -100
    choose(chrome, "sort", "official")

    word = shown[5]["question"].split()[-1].lower()
    chrome.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys(word)
    hits = [s["id"] for s in shown if word in json.dumps(s, ensure_ascii=False).lower()]
    assert set(ids(chrome)) <= set(hits)
    assert shown[5]["id"] in ids(chrome)
    address = chrome.current_url
    look(chrome, pair, "#" + address.split("#")[1])
    assert set(ids(chrome)) <= set(hits), "the address holds the search"
    assert complaints(chrome) == []


def test_bars_and_rows_are_filters(chrome: Chrome, pair: Path) -> None:
    look(chrome, pair, "#vqav2/val")
    shown = {s["id"]: s for s in records(pair, 0)}
    bars = chrome.find_elements(By.CSS_SELECTOR, ".histogram button")
    bars[0].click()
    assert {shown[i]["runs"][0]["scores"]["accuracy"] for i in ids(chrome)} == {0}
    bars[0].click()
    row = chrome.find_element(By.CSS_SELECTOR, "[data-group='0-1']")
    row.click()
    assert {shown[i]["meta"]["answer_type"] for i in ids(chrome)} == {row.text}
    chrome.find_element(By.CSS_SELECTOR, "[aria-label^='show all again']").click()
    assert len(ids(chrome)) == 48


def test_pagination(chrome: Chrome, pair: Path) -> None:
    look(chrome, pair, "#vqav2/val")
    official = [s["id"] for s in records(pair, 0)]
    chrome.find_element(By.CSS_SELECTOR, ".pager button:last-child").click()
    assert ids(chrome) == official[48:96]
    assert "page=2" in chrome.current_url
    assert "49–96" in chrome.find_element(By.CSS_SELECTOR, ".summary-line [role=status]").text


def test_deep_links_lead_to_sample_of_its_split(chrome: Chrome, pair: Path) -> None:
    vqa, _, boxes = (records(pair, split) for split in (0, 1, 2))
    look(chrome, pair, f"#vqav2/{vqa[100]['id']}")
    assert heading(chrome) == f"vqav2/val {vqa[100]['id']}", "its page is not the first"
    look(chrome, pair, f"#refcoco/testB/{boxes[3]['id']}")
    assert heading(chrome) == f"refcoco/testB {boxes[3]['id']}"
    only = next(s["id"] for s in boxes if s["id"] not in {one["id"] for one in records(pair, 1)})
    look(chrome, pair, f"#refcoco/{only}")
    assert heading(chrome) == f"refcoco/testB {only}", "the split that has it is found"
    look(chrome, pair, f"#vqav2/val/{vqa[2]['id']}?show=wrong")
    assert heading(chrome) == f"vqav2/val {vqa[2]['id']}", "even if the filter would leave it out"
    look(chrome, pair, "#vqav2/no-such")
    assert heading(chrome) == ""
    assert (
        "This report has no sample no-such" in chrome.find_element(By.CSS_SELECTOR, ".summary-line [role=status]").text
    )
    assert complaints(chrome) == []


def test_keyboard_navigation(chrome: Chrome, pair: Path) -> None:
    look(chrome, pair, "#vqav2/val")
    official = [s["id"] for s in records(pair, 0)]
    chrome.execute_script("document.querySelector('.cards a').focus()")
    press(chrome, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ENTER)
    until(chrome, "return document.querySelector('dialog').open")
    assert heading(chrome) == f"vqav2/val {official[1]}"
    press(chrome, Keys.ARROW_RIGHT)
    assert heading(chrome) == f"vqav2/val {official[2]}"
    assert chrome.current_url.endswith(f"#vqav2/val/{official[2]}")
    press(chrome, Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert heading(chrome) == f"vqav2/val {official[0]}", "before the first is nothing"
    press(chrome, Keys.ARROW_RIGHT, Keys.ESCAPE)
    until(chrome, "return !document.querySelector('dialog').open")
    assert chrome.execute_script("return document.activeElement.dataset.id") == official[1], "back where one was"
    chrome.back()
    until(chrome, "return !document.querySelector('dialog').open")
    assert complaints(chrome) == []


def test_boxes_are_drawn_in_place(chrome: Chrome, pair: Path) -> None:
    found = next(s for s in records(pair, 1) if all(isinstance(answer["prediction"], list) for answer in s["runs"]))
    look(chrome, pair, f"#refcoco/testA/{found['id']}")
    assert "IoU" in chrome.find_element(By.CSS_SELECTOR, "dialog .sides").text
    drawn = chrome.execute_script(
        "const image = document.querySelector('dialog img').getBoundingClientRect();"
        "const size = document.querySelector('dialog img');"
        "return [...document.querySelectorAll('dialog .frame rect:not(.under)')].map((box) => {"
        "  const r = box.getBoundingClientRect(); const style = getComputedStyle(box);"
        "  const [x, y] = [size.getAttribute('width') / image.width, size.getAttribute('height') / image.height];"
        "  return [[(r.left - image.left) * x, (r.top - image.top) * y, (r.right - image.left) * x,"
        "    (r.bottom - image.top) * y], style.stroke, style.strokeDasharray]; });"
    )
    expected = [found["references"][0][0], *(answer["prediction"] for answer in found["runs"])]
    for (box, _, _), wanted in zip(drawn, expected, strict=True):
        assert box == pytest.approx(wanted, abs=2.5)
    assert len({colour for _, colour, _ in drawn}) == len({dashes for _, _, dashes in drawn}) == 3


def test_edit_marks_stand_between_answer_and_nearest_reference(chrome: Chrome, pair: Path) -> None:
    found = next(s for s in records(pair, 3) if s["runs"][0]["prediction"] == "none of it")
    look(chrome, pair, f"#docvqa/{found['id']}")
    pieces = chrome.execute_script(
        "return [...document.querySelector('.edits').children].map((one) => [one.tagName, one.lastChild.textContent])"
    )
    answer = "".join(text for name, text in pieces if name != "DEL")
    reference = "".join(text for name, text in pieces if name != "INS")
    assert answer == "none of it"
    assert reference.lower() in {str(value).lower() for value, _ in found["references"]}
    assert any(name != "SPAN" for name, _ in pieces)


def test_only_local_images_of_the_first_page_are_loaded(chrome: Chrome, pair: Path) -> None:
    look(chrome, pair, "#vqav2/val")
    until(chrome, "return [...document.images].slice(0, 3).every((one) => one.complete && one.naturalWidth)")
    assert {url.split(":")[0] for url in requested(chrome)} <= {"file", "about"}
    every = len(list((pair.parent / "images").iterdir()))
    assert chrome.execute_script("return document.images.length") == 48
    assert chrome.execute_script("return document.images[0].naturalWidth > 0")
    assert every > 48


@pytest.mark.parametrize("single", [False, True])
def test_hostile_answer_does_nothing(chrome: Chrome, evalkit: Evalkit, hostile: Path, single: bool) -> None:
    done = evalkit("report", str(hostile), *(["--single-file"] if single else []), cwd=hostile.parent)
    assert done.returncode == 0, done.stderr
    page = hostile / ("report.html" if single else "report/index.html")
    look(chrome, page)
    assert ids(chrome) == list(HOSTILE)
    for text in HOSTILE:
        chrome.execute_script("location.hash = `#mine/own/${encodeURIComponent(arguments[0])}`", text)
        until(chrome, "return document.querySelector('dialog').open")
        WebDriverWait(chrome, 20).until(lambda browser, text=text: heading(browser) == f"mine/own {text}")
        assert text in chrome.execute_script("return document.querySelector('dialog .parts').textContent")
        until(chrome, "return document.querySelector('dialog img').complete")
        assert chrome.execute_script("return document.querySelector('dialog img').naturalWidth") == 40
        press(chrome, Keys.ESCAPE)
        until(chrome, "return !document.querySelector('dialog').open")
    for text in HOSTILE:
        search = chrome.find_element(By.CSS_SELECTOR, "input[type=search]")
        chrome.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", search, text
        )
        assert text in ids(chrome)
    assert chrome.execute_script("return window.hacked") is None
    assert (
        chrome.execute_script("return document.querySelectorAll('main script, dialog script, main svg[onload]').length")
        == 0
    )
    directions = chrome.execute_script(
        "return [...document.querySelectorAll('.answer span')].map((one) => getComputedStyle(one).direction)"
    )
    assert "ltr" in directions
    assert complaints(chrome) == []


def test_injected_script_would_not_run(chrome: Chrome, pair: Path) -> None:
    """Were a text ever written as markup by mistake, the page's policy still stands before it."""
    look(chrome, pair)
    chrome.execute_script("document.body.insertAdjacentHTML('beforeend', '<img src=x: onerror=\"window.hacked = 1\">')")
    until(chrome, "return document.images[document.images.length - 1].complete")
    assert chrome.execute_script("return window.hacked") is None
    assert any("Content Security Policy" in said for said in complaints(chrome))


@pytest.mark.parametrize("width", [1280, 360])
def test_no_horizontal_overflow(chrome: Chrome, pair: Path, width: int) -> None:
    first = records(pair, 1)[0]["id"]
    for place in ("#vqav2/val", "#docvqa/val", f"#refcoco/testA/{first}"):
        look(chrome, pair, place, width=width)
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= width, place
        if width == 1280:  # on a narrow screen, tables scroll by themselves
            clipped = "return [...document.querySelectorAll('.scroll')].map((b) => b.scrollWidth - b.clientWidth)"
            assert max(chrome.execute_script(clipped)) <= 0, place
        assert (
            chrome.execute_script("const b = document.querySelector('dialog'); return b.scrollWidth - b.clientWidth")
            <= 0
        )
        ends = chrome.execute_script(
            "return [...document.querySelectorAll('dialog[open] button')].map((b) => b.getBoundingClientRect().right)"
        )
        assert all(end <= chrome.execute_script("return document.documentElement.clientWidth") for end in ends), (
            "no button of the dialog lies below the page's scroll bar"
        )


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's source."""
    kept = Path.home() / ".cache" / "evalkit-tests" / f"axe-core-{AXE}.tgz"
    if not kept.is_file():
        if shutil.which("npm") is None:
            pytest.skip("axe-core is not in the cache, and there is no npm to get it")
        kept.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "pack", f"axe-core@{AXE}", "--silent"],
            cwd=kept.parent,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode or not kept.is_file():
            pytest.skip("axe-core could not be had from npm")
    with tarfile.open(kept) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_accessibility_check(chrome: Chrome, pair: Path, axe: str, dark: bool, width: int) -> None:
    boxes, words = records(pair, 1)[0]["id"], records(pair, 3)[0]["id"]
    for place in ("#vqav2/val?show=wrong", f"#refcoco/testA/{boxes}", f"#docvqa/{words}"):
        look(chrome, pair, place, width=width, dark=dark)
        chrome.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})  # the page's policy lets no script in
        found = chrome.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, { preload: false }).then((r) => done([r.violations.map((v) => [v.id, v.impact,"
            "  v.nodes.map((n) => n.target.join(' '))]), r.passes.length]));"
        )
        assert found[0] == [], place
        assert found[1] > 15, "that many rules applied"
