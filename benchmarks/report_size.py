"""Size and time of a report: ``python benchmarks/report_size.py [--samples 5000] [--images 1000] [--folder DIR]``.

Writes a data root in VQAv2's official format with JPEGs of 640 × 480 pixels (about the file size of COCO's), scores
answers of which two thirds are correct with ``evalkit score``, and times ``evalkit report`` as a folder and as one
file. If chromium and selenium are installed, also measures how long each takes to open: until the document is loaded,
until the first page of the gallery is drawn, and until all samples are loaded.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIZE = (640, 480)
WORDS = ("red", "blue", "yes", "no", "two", "a dog", "a tennis racket", "on the table", "surfing", "pizza")


def draw(path: Path, seed: int) -> None:
    """An image of blurred shapes under noise, which a JPEG of quality 90 packs about as COCO's photographs."""
    draws = random.Random(seed)
    image = Image.linear_gradient("L").resize(SIZE).rotate(draws.choice((0, 90, 180))).convert("RGB")
    pen = ImageDraw.Draw(image)
    for _ in range(60):
        x, y, w, h = (draws.randrange(n) for n in (*SIZE, 160, 160))
        colour = tuple(draws.randrange(256) for _ in range(3))
        draws.choice((pen.ellipse, pen.rectangle))((x, y, x + w, y + h), fill=colour)  # type: ignore[operator]
    noise = Image.effect_noise(SIZE, 60).filter(ImageFilter.GaussianBlur(0.6)).convert("RGB")
    Image.blend(image, noise, 0.6).save(path, quality=90)


def make_root(root: Path, samples: int, images: int) -> None:
    """``samples`` questions about ``images`` images, as VQAv2's files have them."""
    folder = root / "coco" / "val2014"
    folder.mkdir(parents=True)
    names = [folder / f"COCO_val2014_{number:012d}.jpg" for number in range(1, images + 1)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, names, range(images)))
    draws = random.Random(0)
    questions, annotations = [], []
    for number in range(samples):
        key = {"image_id": number % images + 1, "question_id": (number % images + 1) * 1000 + number // images}
        answer = draws.choice(WORDS)
        answers = [{"answer": answer, "answer_id": i + 1, "answer_confidence": "yes"} for i in range(10)]
        kind = "yes/no" if answer in ("yes", "no") else "number" if answer == "two" else "other"
        questions.append({**key, "question": f"What is at the {draws.choice(WORDS)} in this image?"})
        annotations.append(
            {**key, "answers": answers, "answer_type": kind, "question_type": f"what is {draws.randrange(60)}",
             "multiple_choice_answer": answer}
        )  # fmt: skip
    target = root / "vqav2"
    target.mkdir()
    (target / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps({"questions": questions}))
    (target / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": annotations}))
    with (root / "answers.jsonl").open("w") as file:
        for one in annotations:
            text = one["multiple_choice_answer"] if draws.random() < 0.67 else draws.choice(WORDS)
            file.write(json.dumps({"id": str(one["question_id"]), "text": text}) + "\n")


def command(*arguments: str, cwd: Path) -> float:
    """Run evalkit; returns the seconds."""
    program = Path(sys.executable).parent / "evalkit"
    began = time.perf_counter()
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode:
        raise SystemExit(f"evalkit {' '.join(arguments)}: {done.stderr}")
    return time.perf_counter() - began


def opened(page: Path) -> str:
    """Seconds until the page is open in chromium: the median of three, each in a new browser."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.support.ui import WebDriverWait
    except ImportError:
        return "not measured: selenium is not installed"
    if chromium is None or driver is None:
        return "not measured: there is no chromium with its chromedriver"
    answer = []
    for _ in range(3):
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            browser.get(page.as_uri())
            WebDriverWait(browser, 60).until(
                lambda b: b.execute_script("return document.documentElement.dataset.ready")
            )
            answer.append(browser.execute_script(
                "const mark = (name) => performance.getEntriesByName(name)[0].startTime;"
                "const [page] = performance.getEntriesByType('navigation');"
                "return [page.domContentLoadedEventEnd, mark('evalkit-first'), mark('evalkit-ready')];"
            ))  # fmt: skip
        finally:
            browser.quit()
    content, first, ready = (sorted(column)[1] / 1000 for column in zip(*answer, strict=True))
    return f"document {content:.2f} s, first page drawn {first:.2f} s, all samples in {ready:.2f} s"


def size_of(path: Path) -> int:
    return sum(f.stat().st_size for f in [path, *path.rglob("*")] if f.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        root = folder / "root"
        make_root(root, args.samples, args.images)
        kilobytes = size_of(root / "coco") / args.images / 1e3
        print(f"{args.samples:,} samples on {args.images:,} images of {SIZE}, {kilobytes:.0f} kB each")
        command(
            "score", "-t", "vqav2/val", "-p", str(root / "answers.jsonl"), "--data", str(root), "--name", "run",
            cwd=folder,
        )  # fmt: skip
        for what, options, page in (
            ("folder", (), Path("report/index.html")),
            ("one file", ("--single-file",), Path("report.html")),
        ):
            seconds = command("report", "runs/run", *options, cwd=folder)
            path = folder / "runs" / "run" / page
            size = size_of(path if options else path.parent)
            print(f"{what}: built in {seconds:.1f} s, {size / 1e6:.1f} MB; opens: {opened(path)}")


if __name__ == "__main__":
    main()
