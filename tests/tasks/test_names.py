"""Names of images that annotation files give: none leads out of the folder the images lie in."""

from __future__ import annotations

import json
import os.path
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit import registry
from evalkit.data import image_in, open_data
from evalkit.errors import UserError
from evalkit.images import PathImage, check_images
from evalkit.types import Sample


def _renamed(document: Any, old: str, new: Any) -> None:
    """A JSON object's key, renamed at its place."""
    entries = [(new if key == old else key, value) for key, value in document.items()]
    document.clear()
    document.update(entries)


# Where each task's file says what its first image is called, the folder it lies in, and what follows the name there.
NAMED = {
    "docvqa": ("docvqa/val_v1.0_withQT.json", ("data", 0, "image"), "docvqa/documents", ""),
    "infovqa": ("infovqa/infographicsVQA_val_v1.0_withQT.json", ("data", 0, "image_local_name"), "infovqa/infographicsvqa_images", ""),
    "chartqa": ("chartqa/test/test_human.json", (0, "imgname"), "chartqa/test/png", ""),
    "vizwiz": ("vizwiz/Annotations/val.json", (0, "image"), "vizwiz/val", ""),
    "flickr30k": ("flickr30k/dataset_flickr30k.json", ("images", 0, "filename"), "flickr30k/flickr30k-images", ""),
    "nocaps": ("nocaps/nocaps_val_4500_captions.json", ("images", 0, "file_name"), "nocaps/val", ""),
    "textvqa": ("textvqa/TextVQA_0.5.1_val.json", ("data", 0, "image_id"), "textvqa/train_images", ".jpg"),
    "gqa": ("gqa/testdev_balanced_questions.json", ("201307250", "imageId"), "gqa/images", ".jpg"),
    "ocrvqa": ("ocrvqa/dataset.json", "761183271", "ocrvqa/images", ".jpg"),
    "omnidocbench": ("omnidocbench/OmniDocBench.json", (0, "page_info", "image_path"), "omnidocbench/images", ""),
    "scienceqa_img": ("scienceqa/problems.json", ("1", "image"), "scienceqa/images/test/1", ""),
}  # fmt: skip


@contextmanager
def _named(root: Path, task: str, name: object) -> Iterator[None]:
    """The task's file with ``name`` for its first image, for the time being."""
    file, place, *_ = NAMED[task]
    path = root / file
    content = path.read_bytes()
    document = json.loads(content)
    if isinstance(place, str):
        _renamed(document, place, name)
    else:
        holder = document
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = name
    path.write_text(json.dumps(document))
    try:
        yield
    finally:
        path.write_bytes(content)


def _load(root: Path, task: str) -> list[Sample]:
    found = registry.tasks.get(task)
    return list(found.load(open_data(str(root)), found.default_splits[0]))


@pytest.mark.parametrize("task", NAMED)
@pytest.mark.parametrize(
    "name", ["../../secret.png", "/etc/passwd", "a/../../secret", "x/../../../../../../etc/passwd"]
)
def test_name_that_leads_out_of_folder_is_refused(official_root: Path, task: str, name: str) -> None:
    *_, folder, ending = NAMED[task]
    with _named(official_root, task, name), pytest.raises(UserError) as refused:
        _load(official_root, task)
    assert str(refused.value) == (
        f"{task}: the annotations name the image '{name}{ending}', which is outside {official_root / folder}; "
        "the file is corrupt or hostile and was not used."
    )


NO_TEXTS = (1.5, ["x.png"], {"x": 1})
NO_NAMES = (None, "", "a\nb.png", "a\0b.png", "\x1b[2J", "x" * 300, *NO_TEXTS)
MEANT = {"ocrvqa": (None, *NO_TEXTS), "scienceqa_img": (None, "")}  # a key is always a text; there may be no image


@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task in NAMED for name in NO_NAMES if name not in MEANT.get(task, ())]
)
def test_invalid_names_are_refused(official_root: Path, task: str, name: object) -> None:
    with _named(official_root, task, name), pytest.raises(UserError, match=f"^{task}: ") as refused:
        _load(official_root, task)
    assert len(str(refused.value)) < 600
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["..", "../../../etc", "/etc"])
def test_problem_id_that_leads_out_of_folder_is_refused(official_root: Path, name: str) -> None:
    files = [official_root / "scienceqa" / file for file in ("problems.json", "pid_splits.json")]
    contents = [file.read_bytes() for file in files]
    problems, splits = map(json.loads, contents)
    _renamed(problems, "1", name)
    splits["test"][0] = name
    try:
        for file, content in zip(files, (problems, splits), strict=True):
            file.write_text(json.dumps(content))
        with pytest.raises(UserError, match=f"image '{name}', which is outside .*/scienceqa/images/test; "):
            _load(official_root, "scienceqa_img")
    finally:
        for file, before in zip(files, contents, strict=True):
            file.write_bytes(before)


def test_listed_diagram_is_only_looked_for_among_files_of_questions(official_root: Path) -> None:
    path = official_root / "ai2d" / "ai2d_test_ids.csv"
    content = path.read_bytes()
    path.write_text("../annotations/7\n/etc/passwd\n")
    try:
        with pytest.raises(UserError, match="none of the 2 images"):
            _load(official_root, "ai2d")
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("task", NAMED)
def test_urls_are_not_followed(official_root: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with _named(official_root, task, "http://example.org/images/x.png"):
        samples = _load(official_root, task)
        first = next(s.images[0] for s in samples if "example.org" in s.cluster or "x.png" in s.images[0].name)
        with pytest.raises(UserError, match=rf"the image {official_root}/.*/x.png.* is missing"):
            check_images([first], task)


# ------------------------------------------------------------------------------------------------------- below, itself


def test_links_that_user_put_into_folder_work(tmp_path: Path) -> None:
    elsewhere = tmp_path / "big disk"
    elsewhere.mkdir()
    Image.new("RGB", (40, 30)).save(elsewhere / "a.png")
    folder = tmp_path / "root" / "images"
    folder.mkdir(parents=True)
    (folder / "a.png").symlink_to(elsewhere / "a.png")
    (folder / "more").symlink_to(elsewhere)
    for name in ("a.png", "more/a.png", "./more//a.png"):
        assert image_in(folder, name, task="t").size() == (40, 30)


def test_links_cannot_leave_folder(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "disk" / "secret.png")
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "disk" / "deep")
    assert (folder / "link/../secret.png").exists()  # as the system reads it: the folder above the link's target
    assert image_in(folder, "link/../secret.png", task="t") == PathImage(str(folder / "secret.png"))


@pytest.mark.parametrize(
    "name",
    [
        ".",
        "./",
        "a/..",
        "",
        "\n",
        "a\u2028",
        "\ud800",
        "é" * 200,
        b"x.png",
        7,
        None,
        pytest.param(10**5000, id="digits"),
    ],
)
def test_invalid_file_names_are_reported(tmp_path: Path, name: object) -> None:
    with pytest.raises(
        UserError, match=f"^t: the annotations name the image .* which no file in {tmp_path} can be"
    ) as refused:
        image_in(tmp_path, name, task="t")
    assert str(refused.value).isprintable()


PIECES = ["..", ".", "/", "//", "\\", "a", "é.png", "...", "~", "C:", " ", "%2e%2e", "\n", "\0"]


@settings(derandomize=True)
@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
@example("..\\..\\x")
@example("~/x")
@example("../documents-of-others/x")
def test_every_name_is_refused_or_inside_the_folder(name: str) -> None:
    folder = Path("/data/docvqa/documents")
    try:
        path = image_in(folder, name, task="docvqa").path
    except UserError as error:
        sentence = str(error)
    else:
        assert path.startswith(f"{folder}/")
        assert path == os.path.normpath(folder / name)
        return
    assert len(sentence) < 600
    assert sentence.isprintable()


def test_ordinary_names_are_unchanged() -> None:
    for name in ("x.png", "documents/x_1.png", "two words.jpg", "ünï.jpg", "..x", "a..b/c"):
        assert image_in(Path("/data"), name, task="t") == PathImage(f"/data/{name}")
