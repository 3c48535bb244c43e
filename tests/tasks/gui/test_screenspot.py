"""ScreenSpot, v2 and Pro from their files and the hub; published answers; SeeClick's script on its own cases."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import load_job
from evalkit.points import SCREENSPOT_PRO, read_point
from evalkit.types import Sample

Call = Callable[..., subprocess.CompletedProcess[str]]

SHARED = Path(__file__).resolve().parents[4] / "shared" / "predictions" / "screenspot_pro" / "qwen25vl.json"
GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "screenspot.json").read_text())
ENTRY = {
    "img_filename": "a.png",
    "bbox": [10, 20, 30, 40],
    "instruction": "close",
    "data_type": "icon",
    "data_source": "ios",
}
PRO = {
    "img_filename": "vscode_macos/a.png", "bbox": [10, 20, 40, 60], "instruction": "close", "ui_type": "text", "group": "Dev",
    "platform": "macos", "application": "vscode", "img_size": [100, 80], "id": "vscode_macos_0",
}  # fmt: skip


def png(size: tuple[int, int] = (100, 80)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


def v1(root: Path, name: str = "screenspot", suffix: str = "", **change: Any) -> Path:
    folder = root / name
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(png())
    for platform in ("mobile", "desktop", "web"):
        (folder / f"screenspot_{platform}{suffix}.json").write_text(json.dumps([ENTRY, {**ENTRY, **change}]))
    return root


def samples(name: str, data: str) -> list[Sample]:
    return list(load_job(registry.tasks.get(name), "test", open_data(data), limit=None, seed=0).samples)


@pytest.mark.parametrize(("name", "suffix"), [("screenspot", ""), ("screenspot_v2", "_v2")])
def test_from_files(tmp_path: Path, name: str, suffix: str) -> None:
    found = samples(name, str(v1(tmp_path, name, suffix)))
    assert [sample.id for sample in found] == ["mobile-0", "mobile-1", "desktop-0", "desktop-1", "web-0", "web-1"]
    assert found[0].references == ((10.0, 20.0, 40.0, 60.0),)
    assert dict(found[2].meta) == {"platform": "desktop", "type": "icon", "cell": "desktop icon", "source": "ios"}
    assert {sample.cluster for sample in found} == {"a.png"}


def test_from_the_hub_in_fractions(tmp_path: Path) -> None:
    folder = tmp_path / "rootsautomation" / "ScreenSpot" / "data"
    folder.mkdir(parents=True)
    row = {**ENTRY, "bbox": [0.1, 0.25, 0.4, 0.75], "image": {"bytes": png(), "path": None}, "file_name": "a.png"}
    pq.write_table(pa.Table.from_pylist([row, {**row, "data_source": "shop"}]), folder / "test-00000-of-00001.parquet")
    first, second = samples("screenspot", f"hub:{tmp_path}")
    assert first.references[0] == pytest.approx((10, 20, 40, 60))
    assert (first.meta["platform"], second.meta["platform"], first.cluster) == ("mobile", "web", "a.png")


def test_from_vlmevalkits_files(tmp_path: Path) -> None:
    picture = base64.b64encode(png()).decode()
    for platform in ("Mobile", "Desktop", "Web"):
        header = "index\timage\tquestion\tbbox\tdata_type\tdata_source"
        row = f"7\t{picture}\tclose\t[10, 20, 30, 40]\ticon\tios"
        (tmp_path / f"ScreenSpot_v2_{platform}.tsv").write_text(f"{header}\n{row}\n")
    found = samples("screenspot_v2", str(tmp_path))
    assert [sample.id for sample in found] == ["mobile-7", "desktop-7", "web-7"]
    assert (found[0].text, found[0].references) == ("close", ((10.0, 20.0, 40.0, 60.0),))
    assert found[0].images[0].size() == (100, 80)
    (tmp_path / "ScreenSpot_v2_Web.tsv").write_text(
        "index\timage\tquestion\tbbox\tdata_type\tdata_source\n7\t" + picture + "\tclose\tx\ticon\tios\n"
    )
    with pytest.raises(UserError, match=r"screenspot_v2: .*ScreenSpot_v2_Web.tsv, line 2"):
        samples("screenspot_v2", str(tmp_path))


def pro(root: Path, **change: Any) -> Path:
    (root / "screenspot_pro" / "annotations").mkdir(parents=True)
    (root / "screenspot_pro" / "images" / "vscode_macos").mkdir(parents=True)
    (root / "screenspot_pro" / "images" / "vscode_macos" / "a.png").write_bytes(png())
    (root / "screenspot_pro" / "annotations" / "vscode_macos.json").write_text(json.dumps([{**PRO, **change}]))
    return root


def test_pro_from_files_and_the_hub(tmp_path: Path) -> None:
    (own,) = samples("screenspot_pro", str(pro(tmp_path)))
    assert (own.id, own.references) == ("vscode_macos_0", ((10.0, 20.0, 40.0, 60.0),))
    assert dict(own.meta) == {
        "platform": "macos", "type": "text", "cell": "Dev text", "group": "Dev", "application": "vscode",
    }  # fmt: skip
    folder = tmp_path / "TIGER-Lab" / "ScreenSpot-Pro" / "data"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([{**PRO, "image": {"bytes": png(), "path": None}}]), folder / "test.parquet")
    (hub,) = samples("screenspot_pro", f"hub:{tmp_path}")
    assert (hub.id, hub.references, dict(hub.meta)) == (own.id, own.references, dict(own.meta))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bbox": [1, 2, 3]}, r"the box is \[1, 2, 3\], not four numbers"),
        ({"bbox": [10, 20, -5, 40]}, "which encloses nothing"),
        ({"bbox": None}, "the box is None"),
        ({"instruction": 3}, "instruction is 3, not a text"),
        ({"data_type": "picture"}, "data_type is 'picture', neither text nor icon"),
        ({"img_filename": "/etc/passwd"}, "outside"),
    ],
)
def test_refusals(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        samples("screenspot", str(v1(tmp_path, **change)))


@pytest.mark.parametrize("change", [{"bbox": "x"}, {"ui_type": "?"}, {"group": None}, {"img_filename": "../x"}])
def test_pro_refusals(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^screenspot_pro: "):
        samples("screenspot_pro", str(pro(tmp_path, **change)))


def score(evalkit: Call, root: Path, task: str, answers: dict[str, Any], *options: str) -> dict[str, Any]:
    file = root / "answers.jsonl"
    file.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in answers.items()))
    done = evalkit(
        "score", "-t", task, "-p", str(file), "--data", str(root), "--out", str(root / "runs"), "--name", "mine", *options,
        cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((root / "runs" / "mine" / "scores.json").read_text())["results"][0]
    return found


def test_seeclicks_script_on_its_own_cases(evalkit: Call, tmp_path: Path) -> None:
    """Its six accuracies, per platform and type, and their mean, by the command line."""
    answers: dict[str, Any] = {}
    (tmp_path / "screenspot" / "images").mkdir(parents=True)
    for platform in ("mobile", "desktop", "web"):
        entries = []
        for case in (case["inputs"] for case in GOLDEN["cases"] if case["inputs"]["task"] == platform):
            x, y, w, h = case["bbox_xywh"]
            if w < 0 or h < 0:  # the script takes such a box, which nothing is in; the task refuses it
                x, y, w, h = -9, -9, 0, 0
            name = "{}x{}.png".format(*case["image_size"])
            (tmp_path / "screenspot" / "images" / name).write_bytes(png(tuple(case["image_size"])))
            answers[f"{platform}-{len(entries)}"] = case["response"]
            entries.append({**ENTRY, "img_filename": name, "bbox": [x, y, w, h], "data_type": case["data_type"]})
        (tmp_path / "screenspot" / f"screenspot_{platform}.json").write_text(json.dumps(entries))
    found = score(evalkit, tmp_path, "screenspot", answers, "--rule", "seeclick-macro")
    cells = dict(zip(("mobile", "desktop", "web"), GOLDEN["aggregate"]["tasks_result"], strict=True))
    for platform, (text, icon) in cells.items():
        assert found["values"][f"accuracy[{platform} text]"] == pytest.approx(100 * text)
        assert found["values"][f"accuracy[{platform} icon]"] == pytest.approx(100 * icon)
    assert found["value"] == pytest.approx(100 * fmean(value for pair in cells.values() for value in pair))
    right = sum(case["expected"]["correct"] for case in GOLDEN["cases"])
    assert found["values"]["accuracy"] == pytest.approx(100 * right / len(GOLDEN["cases"]))


@pytest.mark.skipif(not SHARED.is_file(), reason="the published answers are not here")
def test_published_answers_of_qwen25_vl(evalkit: Call, tmp_path: Path) -> None:
    stored = json.loads(SHARED.read_text())
    rows = stored["details"]
    annotations = tmp_path / "screenspot_pro" / "annotations"
    annotations.mkdir(parents=True)
    entries = [
        {
            "id": str(number), "img_filename": row["img_path"].removeprefix("./data/ScreenSpot-Pro/images/"),
            "instruction": row["prompt_to_evaluate"],
            **{key: row[key] for key in ("bbox", "ui_type", "group", "platform", "application")},
        }
        for number, row in enumerate(rows)
    ]  # fmt: skip
    (annotations / "all.json").write_text(json.dumps(entries))
    answers = {str(number): row["pred"] or "none" for number, row in enumerate(rows)}
    found = score(evalkit, tmp_path, "screenspot_pro", answers, "--boxes", "pixels")
    assert found["n"] == 1581
    assert f"{found['value']:.3f}" == "20.430"
    assert found["unparsed"] == sum(row["correctness"] == "wrong_format" for row in rows) == 5
    for name, group in stored["metrics"]["leaderboard_simple_style"].items():
        name = name.removeprefix("group:")
        assert found["values"][f"accuracy[{name}]"] == pytest.approx(100 * group["action_acc"])
        assert found["values"][f"accuracy[{name} text]"] == pytest.approx(100 * group["text_acc"])
        assert found["values"][f"accuracy[{name} icon]"] == pytest.approx(100 * group["icon_acc"])
    lines = (tmp_path / "runs" / "mine" / "screenspot_pro.test.scores.jsonl").read_text().splitlines()
    ours = {row["id"]: row["accuracy"] for row in map(json.loads, lines) if "id" in row}
    assert [ours[str(number)] for number in range(1581)] == [100.0 * (row["correctness"] == "correct") for row in rows]
    # The reader finds a point exactly where the official one did.
    assert [(read_point(row["raw_response"], SCREENSPOT_PRO) is None) for row in rows] == [
        row["pred"] is None for row in rows
    ]
