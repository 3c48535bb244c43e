"""Reports of the regression gate: a table with notes, Markdown for a CI job's summary page, JUnit XML."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from xml.etree import ElementTree

from evalkit.results.leaderboard.rows import ESTIMATED
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.tables import Table, flat, markdown, p_text, plain, short, signed

from .baseline import Baseline
from .gate import Change, Rule, TaskCheck

SHOWN = 20


def table_of(checked: Sequence[TaskCheck], run: ScoredRun, baseline: Baseline, rule: Rule) -> Table:
    """One row per task."""
    rows = [
        [
            one.task, f"{one.found.base:.2f}", ESTIMATED * one.estimated + f"{one.found.candidate:.2f}",
            signed(one.found.difference) + ("" if one.found.half is None else f" ± {one.found.half:.2f}"),
            p_text(one.p_worse) if one.found.chance.tested else "–", f"{len(one.changes):,}",
            "FAIL" if one.failure else "pass",
        ]
        for one in checked
    ]  # fmt: skip
    header = ["task", "baseline", "run", "difference", "p worse", "changed", ""]
    notes = [*notes_of(checked, rule), *unchecked_notes(checked, run)]
    return Table(header, rows, 1, f"{run.model} ({run.path}) against {baseline.path}", notes)


def unchecked(checked: Sequence[TaskCheck], run: ScoredRun) -> list[str]:
    """The splits of the run that the baseline lacks."""
    there = {one.task for one in checked}
    return [name for name in run.splits if name not in there]


def unchecked_notes(checked: Sequence[TaskCheck], run: ScoredRun) -> list[str]:
    """A note on the splits of the run that the baseline lacks, if there are any."""
    names = unchecked(checked, run)
    return [f"Not checked, because the baseline lacks it: {', '.join(names)}."] if names else []


def notes_of(checked: Sequence[TaskCheck], rule: Rule) -> list[str]:
    """Which tasks fail and why, the rule, and the smallest drop that it detects."""
    found = [f"{one.task}: {one.failure}." for one in checked if one.failure]
    found += [
        f"{one.task}: the images differ from the baseline's: other files, or other decoding."
        for one in checked
        if one.images
    ]
    wanted = {
        "exact": "exact: every answer must equal the baseline's.",
        "tolerance": f"tolerance: a score may be lower by up to {rule.tolerance:g}.",
        "significant": f"significant: fails if {_tests(checked)} finds the run worse at α {rule.alpha:g} "
        f"(one-sided, corrected over the tasks) by more than {rule.margin:g}.",
    }
    found.append(wanted[rule.mode])
    if names := [one.task for one in checked if one.estimated]:
        found.append(f"≈ {', '.join(names)}: estimates of the complete split's scores from a subset.")
    if rule.mode == "significant" and (seen := [one for one in checked if one.detectable is not None]):
        smallest = ", ".join(f"{one.task} {one.detectable:.2f}" for one in seen)
        found.append(f"Smallest drops detectable with 80 % power: {smallest}.")
    return found


def _tests(checked: Sequence[TaskCheck]) -> str:
    """What the rule ``significant`` tests by."""
    ways = {
        False: "a paired permutation test",
        True: "a t test of the difference that its subset estimates",
    }
    kinds = [way for way in (False, True) if any(one.estimated is way for one in checked)] or [False]
    if len(kinds) == 1:
        return ways[kinds[0]]
    return f"{ways[False]}, or for ≈ {ways[True]},"


def moved(change: Change) -> str:
    """The sample's scores before and after; empty if it has none."""
    return "" if math.isnan(change.before) else f" {change.before:.1f} → {change.after:.1f}:"


def change_lines(one: TaskCheck, most: int = SHOWN) -> list[str]:
    """The samples that changed, losses first."""
    lines = [
        f"{flat(c.id)}:{moved(c)} “{short(c.answer_before, 80)}” → “{short(c.answer_after, 80)}”"
        for c in one.changes[:most]
    ]
    rest = len(one.changes) - most
    return lines + ([f"… and {rest:,} more"] if rest > 0 else [])


def summary(checked: Sequence[TaskCheck], run: ScoredRun, baseline: Baseline, rule: Rule) -> str:
    """Markdown for the summary page of a CI job."""
    bad, rest = [one.task for one in checked if one.failure], unchecked(checked, run)
    passed = f"passed ({len(checked)} of {len(checked) + len(rest)} tasks checked)" if rest else "passed"
    head = f"## evalkit check: {'failed, ' + plain(', '.join(bad)) if bad else passed}\n\n"
    text = head + markdown([table_of(checked, run, baseline, rule)])
    for one in checked:
        if one.changes:
            # As code, a model's answer cannot be markup.
            lines = "\n".join(f"    {line}" for line in change_lines(one))
            head = f"<summary>{html.escape(flat(one.task))}: {len(one.changes):,} samples changed</summary>"
            text += f"\n<details>{head}\n\n{lines}\n\n</details>\n"
    return text


def impossible_summary(reason: str) -> str:
    """The summary if nothing could be checked."""
    return f"## evalkit check: not possible\n\n{plain(reason)}\n"


def junit(checked: Sequence[TaskCheck], run: ScoredRun) -> bytes:
    """JUnit XML with one test case per task; tasks that the baseline lacks are skipped."""
    skipped = unchecked(checked, run)
    suite = _suite(len(checked) + len(skipped), failures=sum(one.failure is not None for one in checked))
    if skipped:
        suite.set("skipped", str(len(skipped)))
    for one in checked:
        case = ElementTree.SubElement(suite, "testcase", classname=f"evalkit.{_xml(run.name)}", name=_xml(one.task))
        text = _xml(f"{one.found.base:.4f} → {one.found.candidate:.4f}\n" + "\n".join(change_lines(one)))
        if one.failure:
            ElementTree.SubElement(case, "failure", message=_xml(one.failure)).text = text
        else:
            ElementTree.SubElement(case, "system-out").text = text
    for name in skipped:
        case = ElementTree.SubElement(suite, "testcase", classname=f"evalkit.{_xml(run.name)}", name=_xml(name))
        ElementTree.SubElement(case, "skipped", message="the baseline lacks it")
    return _written(suite)


def impossible_junit(reason: str, name: str) -> bytes:
    """JUnit XML if nothing could be checked: one test case with an error."""
    suite = _suite(1, errors=1)
    case = ElementTree.SubElement(suite, "testcase", classname=f"evalkit.{_xml(name)}", name="check")
    ElementTree.SubElement(case, "error", message=_xml(reason))
    return _written(suite)


def _suite(tests: int, *, failures: int = 0, errors: int = 0) -> ElementTree.Element:
    return ElementTree.Element(
        "testsuite", name="evalkit check", tests=str(tests), errors=str(errors), failures=str(failures)
    )


def _written(suite: ElementTree.Element) -> bytes:
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _xml(text: str) -> str:
    """``text`` without the characters that XML 1.0 forbids, which are replaced."""
    return "".join(c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000"
                   else "\ufffd" for c in text)  # fmt: skip
