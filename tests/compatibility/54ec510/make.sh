#!/usr/bin/env bash
# Makes everything in this folder with evalkit as it was at commit 54ec510; README.md says what is what.
#
#   bash make.sh VENV CHECKOUT OUT
#
# VENV has the wheel of 54ec510 with its extra 'dev', CHECKOUT is a checkout of 54ec510 (for the server of its tests),
# OUT is a new folder.  It needs root and unshare: in a mount namespace of its own, the environment is at /mnt/evalkit
# and the work is done in /mnt/work, so that the files name no folder of the machine that made them.
set -euo pipefail
if [[ ${INSIDE:-} != yes ]]; then
    here=$(cd "$(dirname "$0")" && pwd)
    mkdir "$3"
    INSIDE=yes exec unshare --mount --uts bash "$here/make.sh" "$(realpath "$1")" "$(realpath "$2")" "$(realpath "$3")"
fi
hostname old
here=$(cd "$(dirname "$0")" && pwd)
mount -t tmpfs tmpfs /mnt
mkdir /mnt/evalkit /mnt/checkout /mnt/work
mount --bind "$1" /mnt/evalkit
mount --bind "$2" /mnt/checkout
printf '#!/bin/sh\nexec /mnt/evalkit/bin/python /mnt/evalkit/bin/evalkit "$@"\n' >/mnt/evalkit.sh
chmod +x /mnt/evalkit.sh
evalkit() { /mnt/evalkit.sh "$@"; }
cd /mnt/work
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 OMP_NUM_THREADS=1 COLUMNS=160 XDG_CACHE_HOME=/mnt/cache

# ------------------------------------------------------------------------------------------------- questions and data
# data/: a root of official downloads with a split without answers (DocVQA test) and one whose score is a mean of two
# means (ChartQA test).  mine.jsonl: a file of one's own.  Their pictures are those of the bundled DocVQA.
/mnt/evalkit/bin/python - <<'PYTHON'
import json, shutil
from pathlib import Path

import evalkit

bundled = Path(evalkit.__file__).parent / "tasks" / "tiny" / "docvqa"
content = json.loads((bundled / "val_v1.0_withQT.json").read_text())
rows = []
for row in content["data"]:  # one question of each of six pages
    if len(rows) < 6 and row["image"] not in [r["image"] for r in rows]:
        rows.append(row)
for folder in ("data/docvqa/documents", "data/chartqa/test/png", "pictures"):
    Path(folder).mkdir(parents=True)
test = [{k: v for k, v in row.items() if k != "answers"} | {"data_split": "test"} for row in rows[:4]]
Path("data/docvqa/test_v1.0.json").write_text(
    json.dumps({**{k: v for k, v in content.items() if k != "data"}, "dataset_split": "test", "data": test}, indent=1) + "\n"
)
for row in rows[:4]:
    shutil.copy(bundled / row["image"], "data/docvqa/documents")
for half, part in (("human", rows[:2]), ("augmented", rows[2:4])):
    charts = [{"imgname": Path(r["image"]).name, "query": r["question"], "label": r["answers"][0]} for r in part]
    Path(f"data/chartqa/test/test_{half}.json").write_text(json.dumps(charts, indent=1) + "\n")
    for row in part:
        shutil.copy(bundled / row["image"], "data/chartqa/test/png")
own = []
for n, row in enumerate(rows[:4]):
    shutil.copy(bundled / row["image"], f"pictures/{n}.png")
    own.append({"id": str(n), "image": f"pictures/{n}.png", "question": row["question"], "answers": row["answers"], "answer_type": "number"})
own[3]["answers"] = ["nothing of the kind"]
Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
said = [{"id": f"human-{n}", "text": r["answers"][0]} for n, r in enumerate(rows[:2])]
said += [{"id": "augmented-0", "text": rows[2]["answers"][0]}, {"id": "augmented-1", "text": "wrong"}]
Path("predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
PYTHON

# -------------------------------------------------------------------------------------------------------------- runs
several="refcoco/val,vqav2,docvqa,scienceqa_img,textvqa"
evalkit run --tasks $several --limit 12 --device cpu --name complete
evalkit run --tasks $several --limit 12 --device cpu --name early --model tiny-early
evalkit run --tasks coco_caption/val2014 --limit 4 --device cpu --name captions
evalkit run --tasks refcoco-all --limit 2 --device cpu --name grounding
evalkit run --tasks refcoco/val,vqav2 --limit 5 --device cpu --name shots --shots 2
evalkit run --tasks vqav2 --limit 4 --device cpu --name similar --shots 1 --shots-by similar
evalkit run --tasks scienceqa_img --limit 12 --device cpu --name likelihood --choice loglikelihood
evalkit run --tasks vqav2,textvqa --limit 6 --device cpu --name drawn --temperature 0.7 --seed 3 --max-new-tokens 8
evalkit run --tasks refcoco/val,scienceqa_img --limit 4 --device cpu --name lmms --protocol lmms-eval --max-pixels 20000
evalkit run --tasks docvqa/test,chartqa --data data --device cpu --name unanswered
evalkit run --tasks mine.jsonl --device cpu --name mine
# A picture's path is part of what identifies a run over a file of one's own; this path is the same in every folder.
evalkit run --tasks /proc/self/cwd/mine.jsonl --device cpu --name anywhere
evalkit score --tasks chartqa --data data --predictions predictions.jsonl --name scored

# Runs of answers that a server gave: that of the tests, which answers the same to the same.
/mnt/evalkit/bin/python - <<'PYTHON'
import subprocess, sys
from pathlib import Path

import evalkit

sys.path.insert(0, "/mnt/checkout/tests")
from conftest import HTTPServer

server = HTTPServer(8999)
server.models[0]["root"] = "somebody/one"
processor = Path(evalkit.__file__).parent / "model" / "tiny" / "weights" / "tiny"
for name, more in (("served", []), ("processor", ["--processor", processor])):
    command = f"run --tasks vqav2,refcoco/val --limit 4 --backend server --data tiny --family qwen2.5-vl --name {name}"
    subprocess.run(["/mnt/evalkit.sh", *command.split(), "--base-url", server.url, *more], check=True)
server.stop()
PYTHON

# Runs that were killed, by kill -9, after the first task's answers and some of the second's.
/mnt/evalkit/bin/python - "$several" <<'PYTHON'
import os, shutil, signal, subprocess, sys, time
from pathlib import Path

for name in ("killed", "torn"):
    run = Path("runs") / name
    while True:
        process = subprocess.Popen(
            ["/mnt/evalkit.sh", "run", "--tasks", sys.argv[1], "--limit", "12", "--device", "cpu", "--name", name, "--batch-size", "1"],
            start_new_session=True,
        )
        journal = run / "vqav2.val.jsonl"
        while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if 4 <= journal.read_bytes().count(b"\n") < 12:
            break
        shutil.rmtree(run)
journal = Path("runs/torn/vqav2.val.jsonl")
journal.write_bytes(journal.read_bytes()[:-97])  # half a line, as a killed machine leaves
PYTHON

evalkit baseline runs/complete --out baseline.json
# Hidden files: only those of the runs that were killed are of any interest.
find runs -name .lock -not -path '*/killed/*' -not -path '*/torn/*' -delete
cp -r runs "$3/folders"
cp -r data mine.jsonl pictures predictions.jsonl baseline.json "$3"
/mnt/evalkit/bin/python "$here/expected.py" /mnt/evalkit.sh "$3/expected.json"
