"""OmniDocBench: pages as Markdown, by edit distances of texts, formulas, tables and reading order, and TEDS of tables.

Paper: Ouyang et al., "OmniDocBench: Benchmarking Diverse PDF Document Parsing with Comprehensive Annotations", CVPR
2025 (arXiv 2412.07626).  Official scorer: opendatalab/OmniDocBench, end-to-end evaluation with ``quick_match``.

- ``omnidocbench`` is v1.5 (commit 0f22218): texts and formulas are matched together, text that belongs to nothing does
  not count, and tables in LaTeX count as missing.
- ``omnidocbench_v1`` is v1.0 (commit 337cc26, before the branch ``v1_0``): texts and formulas apart.
- ``omnidocbench_v1_vlmevalkit`` is VLMEvalKit's copy of v1.0 (commit e8e78f05), in which tables in LaTeX are missing,
  and a page whose line breaks are CRLF is split at every line.

A page's edit distance is the sum of the edits in its pairs of elements, divided by the sum of the lengths of the longer
ones, between 0 and 1, lower is better; a value is the mean over the pages that have such elements.  TEDS and TEDS_S, of
the structure alone, are means over pages of the means over their tables, in percent.  Values by attributes of pages
(``text_edit[data_source: book]``) are such means; those by attributes of texts and tables (``TEDS[line: full_line]``)
are means over elements.  v1.5 also has ``text_edit[sample_avg]``, the mean over all elements, and ``text_edit[whole]``,
the edits of all elements divided by their lengths, and so for the other edit distances.

Left out: **CDM**, which renders formulas and needs LaTeX, Node.js and ImageMagick, and BLEU and METEOR of texts.  The
overall score of v1.5 is ((1 − text_edit) · 100 + TEDS + CDM) / 3, so that evalkit has none: its headline
``overall_without_cdm`` is the mean of the other two parts.  v1.0 needs no CDM: ``overall_edit`` is the mean of the four
edit distances; the headline ``overall_score`` is 100 · (1 − ``overall_edit``), so that higher is better.

Deviations: the official scorer matches a page by a simpler rule if it takes more than 30 seconds; here the result does
not depend on the machine.  Where it stops (LaTeX in a formula that cannot be parsed, deeply nested tables), the element
is compared as it is; v1.0 also stops at a page whose annotated texts have no letters, and here what is predicted there
counts as edits.  It rounds the parts of an overall score first.  v1.0 converts tables in LaTeX by LaTeXML: here they
are wrong, with a note, if a model writes most tables of a split so (there: of all pages, in both languages); else they
are left out with their pages, as there.  VLMEvalKit takes any version of pylatexenc, and 2.10 converts formulas that
are not valid LaTeX in another way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from statistics import fmean
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Aggregation, Corpus, OfSums
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import check_text_samples, referenced

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .omnidoc.elements import Page
    from .omnidoc.pages import ComparedPage

PACKAGES = ("apted", "bs4", "lxml", "pylatexenc", "rapidfuzz")
"""What the scorer is made of; the extra ``ocr`` has it."""
PYLATEXENC = "3.0a30"
"""The version that the official scorer requires: others convert formulas that are not valid in another way."""
TEXT, FORMULA, TABLE, ORDER = "text_edit", "formula_edit", "table_edit", "order_edit"
EDITS = (TEXT, FORMULA, TABLE, ORDER)
TEDS, STRUCTURE = "TEDS", "TEDS_S"
OVERALL_EDIT = "overall_edit"
SAMPLE_AVG, WHOLE = "sample_avg", "whole"
"""The official scorer's names for an edit distance by element, and for that of all pages together."""
PAGE_KEYS: Mapping[str, Sequence[str]] = {
    TEXT: ("language", "data_source", "special_issue"),
    FORMULA: ("language",),
    TABLE: ("language",),
    ORDER: ("language", "layout"),
    TEDS: ("language",),
}
"""The attributes of pages by which values are given."""
ELEMENT_KEYS: Mapping[str, Sequence[str]] = {
    TEXT: ("text_language", "text_background", "text_rotate"),
    TEDS: ("language", "line", "with_span", "include_equation", "include_background", "table_layout"),
}
"""The attributes of texts and tables by which values are given."""
LATEX_NOTE = (
    "OmniDocBench: most predicted tables are in LaTeX. The official scorer of v1.0 converts them with LaTeXML; here "
    "they count as wrong."
)

Part = tuple[str, float, float]
"""The name of a value, and what a page adds to the sum and to the number of which it is the quotient."""


class OmniDocBench(Metric):
    """Edit distances and TEDS; see the module.

    ``references`` is the annotated page as JSON, with ``layout_dets`` and ``extra`` as in the official file.  ``meta``
    has the attributes of the page: ``language``, ``data_source``, ``layout``, ``special_issue``.  Columns: ``score``,
    100 · (1 − mean of the page's edit distances), and the page's own values.

    Args:
        current: whether the rules are those of v1.5, or of v1.0.
        vlmevalkit: whether they are those of VLMEvalKit's copy of v1.0.
    """

    running_score = False  # a large table takes seconds
    meta_keys = ("language", "data_source", "layout", "special_issue")
    aggregation: Mapping[str, Aggregation] = dict.fromkeys((*EDITS, OVERALL_EDIT), Corpus(maximum=1.0))

    def __init__(self, name: str, *, current: bool = False, vlmevalkit: bool = False) -> None:
        self.name = name
        self.headline = "overall_without_cdm" if current else "overall_score"
        self.current = current
        self.vlmevalkit = vlmevalkit

    @property
    def signature(self) -> str:
        return f"{self.name}|match:quick|latex:{PYLATEXENC}|cdm:none|v{2 if self.vlmevalkit else 1}"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check that the packages are there, and every sample's annotations; see ``Metric``.  Raises ``UserError``."""
        missing = [package for package in PACKAGES if find_spec(package) is None]
        if missing:
            raise UserError(
                f"{self.name}: scoring needs {', '.join(missing)}; install the extra: pip install 'evalkit-vlm[ocr]'."
            )
        if (found := version("pylatexenc")) != PYLATEXENC:
            raise UserError(
                f"{self.name}: formulas in texts are converted as by the official scorer only with pylatexenc "
                f"{PYLATEXENC}, and {found} is installed; install the extra: pip install 'evalkit-vlm[ocr]'."
            )
        check_text_samples(self.name, samples, kind, "annotated pages", count=1)
        pages = [self._page(sample) for sample in samples]
        if pages and not any(page.texts or page.tables or page.formulas for page in pages):
            raise UserError(f"{self.name}: no text, formula or table is annotated in any of the {len(pages):,} pages")

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without annotations."""
        pages = {answered.sample.id: self._compared(answered) for answered in answers}
        in_latex = sum(len(page.tables) for page in pages.values() if page.latex)
        latex = not self.current and in_latex > sum(len(page.tables) for page in pages.values() if not page.latex)
        parts: dict[str, list[Part]] = {}
        per_sample: dict[str, dict[str, float]] = {}
        for answered in answers:
            sample = answered.sample
            page = pages[sample.id]
            found = list(self._parts(page, sample.meta, self.current or page.latex == latex))
            parts[sample.id] = found
            per_sample[sample.id] = _columns(found)
        names = sorted({name for found in parts.values() for name, _, _ in found})
        names = [*(name for name in (*EDITS, TEDS, STRUCTURE) if name in names), *(n for n in names if "[" in n)]
        statistics = {sample: _row(found, names) for sample, found in parts.items()}
        declared = self._declared(statistics, names)
        values = {name: declared[name].compute(name, {}, {}) for name in declared}
        plain = {name: math.nan if value is None else value for name, value in values.items()}
        notes = (LATEX_NOTE,) if latex else ()
        return Scores(self.headline, plain, per_sample, self.signature, declared, notes=notes)

    def _declared(self, statistics: Mapping[str, Sequence[float]], names: Sequence[str]) -> dict[str, Aggregation]:
        def values(sums: NDArray[Any]) -> dict[str, NDArray[Any]]:
            return self._values(sums, names)

        of_one, of_hundred = OfSums(statistics, values, maximum=1.0), OfSums(statistics, values)
        every = [self.headline, *([] if self.current else [OVERALL_EDIT]), *names]
        return {name: of_one if name.partition("[")[0] in (*EDITS, OVERALL_EDIT) else of_hundred for name in every}

    def _values(self, sums: NDArray[Any], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The values by name, each (draws,), from the sums (draws, columns); a draw can lack some."""
        import numpy as np

        with np.errstate(invalid="ignore", divide="ignore"):
            found = {name: sums[:, 2 * place] / sums[:, 2 * place + 1] for place, name in enumerate(names)}
        if self.current:
            parts = [100.0 * (1.0 - found[TEXT])] if TEXT in found else []
            overall = {self.headline: _mean([*parts, *([found[TEDS]] if TEDS in found else [])], len(sums))}
        else:
            edit = _mean([found[name] for name in EDITS if name in found], len(sums))
            overall = {self.headline: 100.0 * (1.0 - edit), OVERALL_EDIT: edit}
        return {**overall, **found}

    def _page(self, sample: Sample) -> Page:
        from .omnidoc.elements import page_of

        try:
            return page_of(json.loads(sample.references[0]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"{self.name}: sample {sample.id!r} is not annotated as in OmniDocBench.json ({what:.200}); check the "
                "annotation file"
            ) from error

    def _compared(self, answered: Answered) -> ComparedPage:
        from .omnidoc.pages import compare

        predicted = referenced(self.name, answered, "annotated pages")
        page = self._page(answered.sample)
        return compare(page, predicted or "", current=self.current, vlmevalkit=self.vlmevalkit)

    def _parts(self, page: ComparedPage, meta: Mapping[str, Any], with_tables: bool) -> Iterator[Part]:
        """What a page adds to every value."""
        from .ocr.trees import teds

        tables = page.tables if with_tables else ()
        labels = _labels(meta)
        order = () if page.order is None else (page.order,)
        for name, compared in ((TEXT, page.texts), (FORMULA, page.formulas), (TABLE, tables), (ORDER, order)):
            if length := sum(one.length for one in compared):
                edits = sum(one.edits for one in compared)
                yield from _of_page(name, edits / length, labels)
                if self.current:
                    yield f"{name}[{WHOLE}]", edits, length
                    for one in compared:
                        if one.length:
                            yield f"{name}[{SAMPLE_AVG}]", one.edits / one.length, 1.0
        for one in page.texts:
            if one.length:
                yield from _of_element(TEXT, one.edits / one.length, one.attributes)
        if tables:
            found = [100.0 * teds(one.found, one.right) for one in tables]
            yield from _of_page(TEDS, fmean(found), labels)
            structure = [100.0 * teds(one.found, one.right, structure_only=True) for one in tables]
            yield from _of_page(STRUCTURE, fmean(structure), labels)
            for one, score in zip(tables, found, strict=True):
                yield from _of_element(TEDS, score, one.attributes)


def _labels(meta: Mapping[str, Any]) -> dict[str, list[str]]:
    """How the official scorer names the attributes of a page; issues of tables are left out, as there."""
    labels: dict[str, list[str]] = {}
    for key, value in meta.items():
        if isinstance(value, list | tuple):
            labels[key] = [str(issue) for issue in value if "table" not in str(issue)]
        else:
            labels[key] = [f"{key}: {value}"]
    return labels


def _of_page(name: str, value: float, labels: Mapping[str, Sequence[str]]) -> Iterator[Part]:
    yield name, value, 1.0
    for key in PAGE_KEYS.get(name, ()):
        for label in labels.get(key, ()):
            yield f"{name}[{label}]", value, 1.0


def _of_element(name: str, value: float, attributes: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    """An element counts once for each label that one of its annotated parts has."""
    labels = {f"{key}: {label}" for own in attributes for key, label in own.items() if key in ELEMENT_KEYS[name]}
    for label in sorted(labels):
        yield f"{name}[{label}]", value, 1.0


def _columns(parts: Sequence[Part]) -> dict[str, float]:
    """A page's own scores."""
    own = {name: value for name, value, _ in parts if "[" not in name}
    edits = [own[name] for name in EDITS if name in own]
    return {"score": 100.0 * (1.0 - fmean(edits)) if edits else 100.0, **own}


def _row(parts: Sequence[Part], names: Sequence[str]) -> list[float]:
    """The sum and the number of each value, one after the other."""
    places = {name: 2 * place for place, name in enumerate(names)}
    row = [0.0] * (2 * len(names))
    for name, value, count in parts:
        row[places[name]] += value
        row[places[name] + 1] += count
    return row


def _mean(rows: Sequence[NDArray[Any]], draws: int) -> NDArray[Any]:
    """The mean of those rows that are numbers, by draw; NaN where none is."""
    import numpy as np

    stacked = np.array(rows, dtype=np.float64).reshape(len(rows), draws)
    there = np.isfinite(stacked)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[Any] = np.where(there, stacked, 0.0).sum(axis=0) / there.sum(axis=0)
    return found


METRICS = {
    metric.name: metric
    for metric in (
        OmniDocBench("omnidocbench", current=True),
        OmniDocBench("omnidocbench_v1"),
        OmniDocBench("omnidocbench_v1_vlmevalkit", vlmevalkit=True),
    )
}
