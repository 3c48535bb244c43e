"""Every task's official annotation files: the bundled ones, and a few entries of each format that is not bundled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from evalkit.data import bundled_root

TEN = [{"answer": "race", "answer_confidence": "yes", "answer_id": k} for k in range(1, 11)]
DRAWN = {
    "T0": {"id": "T0", "rectangle": [[10, 10], [40, 30]], "replacementText": "A", "value": "nose"},
    "T1": {"id": "T1", "rectangle": [[90, 70], [60.5, 50]], "replacementText": "B", "value": "ears"},
}


def _options(image: str, number: int, *, abc: bool) -> dict[str, Any]:
    return {
        "abcLabel": abc, "answerTexts": ["ears", "nose", "mouth", "face"], "correctAnswer": number,
        "questionId": f"{image}-{number}",
    }  # fmt: skip


def _page(number: int) -> dict[str, Any]:
    boxes = [
        {"category_type": "title", "order": 1, "text": f"Page {number}", "attribute": {"text_background": "white"}},
        {"category_type": "text_block", "order": 2, "text": "One two ", "attribute": {"text_background": "white"}},
        {"category_type": "text_block", "order": 3, "text": "three.", "attribute": {}},
        {"category_type": "equation_isolated", "order": 4, "latex": "\\begin{array}{l} a \\\\ b \\end{array}"},
        {"category_type": "table", "order": 5, "html": "<table><tr><td>1</td></tr></table>", "latex": "1"},
        {"category_type": "page_number", "order": None, "text": "7", "attribute": {}},
    ]
    attributes = {"data_source": "book", "language": "english", "layout": "single_column", "special_issue": ["None"]}
    return {
        "layout_dets": [{**box, "anno_id": k, "poly": [0.5] * 8} for k, box in enumerate(boxes)],
        "extra": {"relation": [{"source_anno_id": 1, "target_anno_id": 2, "relation_type": "truncated"}]},
        "page_info": {"page_attribute": attributes, "page_no": number, "image_path": f"page_{number}.jpg"},
    }


def _diagram(image: str) -> dict[str, Any]:
    questions = {f"What is {k}?": _options(image, k, abc=k < 2) for k in range(4)}
    return {"imageName": image, "questions": questions}


NOT_BUNDLED: dict[str, Any] = {
    "okvqa/OpenEnded_mscoco_val2014_questions.json": {
        "questions": [{"question_id": 10 * k + 5, "image_id": k, "question": f"What is {k}?"} for k in range(1, 5)]
    },
    "okvqa/mscoco_val2014_annotations.json": {
        "annotations": [
            {"question_id": 10 * k + 5, "image_id": k, "answers": TEN, "answer_type": "other", "question_type": "four"}
            for k in range(1, 5)
        ]
    },
    "vizwiz/Annotations/val.json": [
        {
            "image": f"VizWiz_val_0000000{k}.jpg", "question": "What is this?", "answers": TEN, "answer_type": "other",
            "answerable": 1,
        }
        for k in range(4)
    ],
    "gqa/testdev_balanced_questions.json": {
        f"20130725{k}": {
            "imageId": f"n16131{k // 2}", "question": "Is it overcast?", "isBalanced": k != 2, "answer": "no",
            "types": {"detailed": "weatherVerify", "semantic": "global", "structural": "verify"},
        }
        for k in range(5)
    },
    "flickr30k/dataset_flickr30k.json": {
        "images": [
            {
                "filename": f"100009279{k}.jpg", "imgid": k, "split": "val" if k == 2 else "test",
                "sentences": [{"raw": f"Two men {k}.", "imgid": k}, {"raw": "Men.", "imgid": k}],
            }
            for k in range(5)
        ],
        "dataset": "flickr30k",
    },
    "nocaps/nocaps_val_4500_captions.json": {
        "images": [{"id": k, "file_name": f"0013ea208702090{k}.jpg", "domain": "near-domain"} for k in range(4)],
        "annotations": [{"id": k, "image_id": k % 4, "caption": f"Caption {k}."} for k in range(8)],
    },
    "chartqa/test/test_human.json": [
        {"imgname": f"4{k}.png", "query": "How many?", "label": str(k)} for k in range(4)
    ],
    "chartqa/test/test_augmented.json": [
        {"imgname": f"multi_4{k}.png", "query": "Which?", "label": ["2019"]} for k in range(2)
    ],
    "ocrvqa/dataset.json": {
        f"76118327{k}": {
            "imageURL": f"http://example.org/images/I/5144fIx6cgL{k}.jpg", "title": "A Wall", "split": 3 if k else 1,
            "questions": ["Who wrote it?", "Is it a game?"], "answers": ["S. B.", "No"],
        }
        for k in range(4)
    },
    "infovqa/infographicsVQA_val_v1.0_withQT.json": {
        "dataset_name": "infographicVQA",
        "data": [
            {
                "questionId": 65718 + k, "question": "Which platform?", "image_local_name": f"2047{k}.jpeg",
                "image_url": "https://example.org/a.jpeg", "answers": ["pinterest"], "answer_type": ["single span"],
            }
            for k in range(4)
        ],
    },
    "ai2d/questions/7.png.json": _diagram("7.png"),
    "ai2d/annotations/7.png.json": {"text": DRAWN, "arrows": {}},
    "omnidocbench/OmniDocBench.json": [_page(k) for k in range(3)],
}  # fmt: skip

FOLDERS = (
    "vizwiz/val", "gqa/images", "flickr30k/flickr30k-images", "nocaps/val", "chartqa/test/png", "ocrvqa/images",
    "infovqa/infographicsvqa_images", "ai2d/images", "omnidocbench/images",
)  # fmt: skip


def write_official_root(root: Path) -> None:
    """Write a root with the annotation files of all tasks, and none of their images."""
    shutil.copytree(bundled_root(), root, ignore=shutil.ignore_patterns("*.jpg", "*.png"))
    for name, content in NOT_BUNDLED.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (root / "ai2d" / "ai2d_test_ids.csv").write_text("7\n")
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
