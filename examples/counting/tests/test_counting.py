import pytest
from evalkit_counting.family import FAMILY
from evalkit_counting.metric import METRIC, count

from evalkit.errors import UserError
from evalkit.types import Answered, Prediction, PromptSpec, Sample


def answered(reference: str, answer: str | None, name: str = "1") -> Answered:
    return Answered(Sample(name, (), "How many?", (reference,), "image"), Prediction(answer))


@pytest.mark.parametrize(
    ("text", "number"), [("3", 3), (" Three. ", 3), ("0", 0), ("a few", None), ("", None), ("²", None)]
)
def test_count_is_number_in_digits_or_words(text: str, number: int | None) -> None:
    assert count(text) == number


def test_metric_counts_what_could_not_be_read_as_wrong() -> None:
    scores = METRIC.score([answered("3", "three", "a"), answered("3", "5", "b"), answered("2", None, "c")])
    assert scores.values == {"accuracy": pytest.approx(100 / 3), "mean_absolute_error": pytest.approx(4 / 3)}
    assert list(scores.per_sample) == ["a", "b", "c"]


def test_reference_that_is_no_number_is_error_that_names_sample() -> None:
    with pytest.raises(UserError, match="sample 7"):
        METRIC.score([answered("many", "3", "7")])


def test_family_reads_number_of_sentence() -> None:
    spec = PromptSpec("counting", "vqa")
    assert FAMILY.parse(spec, "There are 3 circles.", ()).value == "3"
    assert FAMILY.parse(spec, "I cannot see any.", ()).value is None
