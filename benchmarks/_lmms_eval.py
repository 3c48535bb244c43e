"""Run lmms-eval's ``qwen2_5_vl`` on samples, in an environment with lmms-eval; ``throughput.py`` starts this script.

    PYTHON _lmms_eval.py WORK.json DONE.json

The model class is that of ``--model qwen2_5_vl``, called as lmms-eval's evaluator does: ``generate_until`` on
instances.  It loads checkpoints in bfloat16; on a CPU, where that is slow, its weights are cast to the dtype of the
others.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main() -> None:
    work, done = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    import torch
    from lmms_eval.api.instance import Instance
    from lmms_eval.models import get_model
    from PIL import Image

    torch.set_num_threads(work["threads"])
    samples = work["samples"]

    def messages(doc: dict[str, str]) -> list[dict[str, Any]]:
        image = Image.open(doc["image"]).convert("RGB")
        content = [{"type": "image", "url": image}, {"type": "text", "text": doc["text"]}]
        return [{"role": "user", "content": content}]

    seconds: dict[str, float] = {}
    texts: dict[str, str] = {}
    lm = get_model("qwen2_5_vl")(
        pretrained=work["model"], device=work["device"], device_map=work["device"], max_pixels=16384 * 28 * 28
    )
    lm._model = lm._model.to(getattr(torch, work["dtype"]))
    for batch_size in work["batch_sizes"]:
        lm.batch_size_per_gpu = batch_size

        def ask(chosen: list[dict[str, str]]) -> list[Any]:
            lm.task_dict["mix"] = {"val": dict(enumerate(chosen))}
            settings = {"max_new_tokens": work["limit"], "temperature": 0.0, "until": []}
            instances = [
                Instance(
                    request_type="generate_until",
                    arguments=(doc["text"], messages, settings, place, "mix", "val"),
                    idx=0,
                    metadata={"task": "mix", "doc_id": place, "repeats": 1},
                )
                for place, doc in enumerate(chosen)
            ]
            return list(lm.generate_until(instances))

        ask(samples[:2])
        began = time.perf_counter()
        found = ask(samples)
        seconds[str(batch_size)] = time.perf_counter() - began
        texts = {doc["id"]: getattr(one, "text", one) for doc, one in zip(samples, found, strict=True)}
    done.write_text(json.dumps({"version": version("lmms-eval"), "seconds": seconds, "texts": texts}))


if __name__ == "__main__":
    main()
