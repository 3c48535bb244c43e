"""Parts of the scorer of OmniDocBench: from a page's Markdown and its annotations to pairs of elements.

Source: opendatalab/OmniDocBench, v1.5 at commit 0f22218 and v1.0 at 337cc26 (branch ``v1_0``): ``utils/extract.py``,
``utils/match_quick.py``, ``utils/match.py``, ``utils/data_preprocess.py``, ``utils/table_utils.py`` and
``dataset/end2end_dataset.py``.  What they compute is reproduced, quirks included, by code of our own.
"""

HOLDS_PLUGINS = False
