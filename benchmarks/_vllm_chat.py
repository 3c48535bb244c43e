"""Answer samples with vLLM's ``LLM.chat`` in one process; ``_vllm.py`` starts this script in an environment with vLLM.

    PYTHON _vllm_chat.py SETTINGS.json

Each line of standard input is a JSON list of samples (``messages``, ``limit``), each line written to the file
descriptor in the settings a list of their texts.  The first line has the version.  vLLM's own output goes elsewhere.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    out = os.fdopen(settings["output"], "w")
    import vllm

    model = vllm.LLM(**settings["arguments"])
    print(json.dumps(vllm.__version__), file=out, flush=True)
    for line in sys.stdin:
        samples = json.loads(line)
        answers = model.chat(
            [one["messages"] for one in samples],
            [vllm.SamplingParams(temperature=0, max_tokens=one["limit"]) for one in samples],
            use_tqdm=False,
        )
        print(json.dumps([answer.outputs[0].text for answer in answers]), file=out, flush=True)


if __name__ == "__main__":
    main()
