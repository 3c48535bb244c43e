"""Write the example's data, in its own format, from the questions about numbers in evalkit's bundled images.

python make_data.py FOLDER
"""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

from evalkit import load_task

root = Path(sys.argv[1]) / "counting"
(root / "images").mkdir(parents=True, exist_ok=True)
for split, source in {"test": "vqav2/val", "train": "vqav2/train"}.items():
    rows = []
    for sample in load_task(source, data="tiny"):
        if sample.text.startswith("How many"):
            image = Path(sample.images[0].name)
            shutil.copy(image, root / "images" / image.name)
            count = Counter(sample.references).most_common(1)[0][0]
            rows.append({"id": sample.id, "image": image.name, "question": sample.text, "count": int(count)})
    (root / f"{split}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"{root / split}.json: {len(rows)} questions")
