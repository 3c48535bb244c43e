"""Rules that read spans of time: notations of every family, lmms-eval's reader, and answers without a span."""

from __future__ import annotations

import time

import pytest

from evalkit import time_spans
from evalkit.errors import UserError
from evalkit.time_spans import read_span

SPANS = {
    "seconds": ("12.5 - 20 seconds", (12.5, 20)),
    "with units": ("from 3.2s to 8s", (3.2, 8)),
    "sentence": ("The event happens in the 24.3 - 30.4 seconds.", (24.3, 30.4)),
    "number in the event": ("The event '2 people sit' happens from 24.3 to 30.4.", (24.3, 30.4)),
    "dash": ("0.0–5.2", (0, 5.2)),
    "clock": ("00:12 - 00:20", (12, 20)),
    "clock with fractions": ('{"start_time": "00:12.50", "end_time": "01:20.25"}', (12.5, 80.25)),
    "hours": ("It starts at 0:01:02 and ends at 1:00:00.", (62, 3600)),
    "Qwen3-VL": ("<12.5 seconds> to <20.0 seconds>", (12.5, 20)),
    "Qwen3-VL, dash": ("The event occurs between <0.5 seconds> - <3.0 seconds>.", (0.5, 3)),
    "JSON": ('```json\n{"start": 3, "end": 8.5}\n```', (3, 8.5)),
    "list": ("[3.0, 8.5]", (3, 8.5)),
    "two lines": ("Start time: 0.8 seconds\nEnd time: 1.1 seconds", (0.8, 1.1)),
    "minutes": ("from 1 minute 5 seconds until 2 min", (65, 120)),
    "between": ("between 3 and 8 seconds", (3, 8)),
    "Chinese": ("从第3秒到第8秒", (3, 8)),
    "tag": ("<answer>3.0 - 8.0</answer>", (3, 8)),
    "boxed": (r"So it is \boxed{3.0 \text{ to } 8.0}", (3, 8)),
    "two times alone": ("3.0 8.0", (3, 8)),
    "first of several": ("1 - 2, then 5 - 9", (1, 2)),
    "reversed": ("8 to 3", (8, 3)),
    "mixed": ("from 0:58 to 70 seconds", (58, 70)),
}


@pytest.mark.parametrize("name", SPANS)
def test_spans_are_read(name: str) -> None:
    text, expected = SPANS[name]
    assert read_span(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It does not happen.",
        "at 12.5 seconds",
        "12:5",
        "in 3 of 4 or 5 scenes",
        "60% - 70%",
        "1.2.3.4",
        "from 3 to",
    ],
)
def test_answers_without_a_span(text: str) -> None:
    assert read_span(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # what extract_time of lmms-eval (commit 75571cf) gave for these texts
        ("The event happens in the 24.3 - 30.4 seonds.", (24.3, 30.4)),
        ("24.3 to 30.4", (24.3, 30.4)),
        ("It starts at 8 to 3.", (3, 8)),
        ("00:12 - 00:20", (12, 20)),
        ("starts at 00:00:18 and ends at 00:00:23.", (18, 23)),
        ("Start: 0.8 seconds\nEnd: 1.1 seconds", (0.8, 1.1)),
        ("Starts at 3 and ends at 8", None),
        ("from 3.2s to 8s", (3.2, 8)),
        ("start at 3.5s\nend at 7.25s", (3, 7)),  # \b between the digit and the unit is missed
        ("7 people in 1 - 2 scenes\nThe event happens in 3 - 4", (3, 4)),
        ("A specific example is : 20.8 - 30.0 seconds\n1 - 2", (1, 2)),
        ("nothing", None),
    ],
)
def test_lmms_eval(text: str, expected: tuple[float, float] | None) -> None:
    assert read_span(text, time_spans.LMMS_EVAL) == (None if expected is None else pytest.approx(expected))


def test_infinite_times_are_none() -> None:
    assert read_span("1 - " + "9" * 400, time_spans.LMMS_EVAL) is None


def test_unknown_rule() -> None:
    with pytest.raises(UserError, match="there is no rule 'x' for spans of time: there are evalkit-span-1"):
        read_span("1 - 2", "x")


HOSTILE = ("1" * 200_000, "1:" * 100_000, "1 " * 100_000, "1" + " " * 200_000, "1-" * 100_000, "end " * 50_000, "00:00" * 40_000, "1 - " + "\n" * 200_000, "1 minute " * 20_000, "to" * 100_000)  # fmt: skip


@pytest.mark.parametrize("rule", time_spans.RULES)
def test_reading_takes_linear_time(rule: str) -> None:
    for text in HOSTILE:
        began = time.process_time()  # quadratic time would be minutes
        read_span(text, rule)
        assert time.process_time() - began < 20, text[:10]
