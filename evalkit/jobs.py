"""Jobs: one split of one task, with its samples and the requests for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evalkit.annotations import digest_of_annotations
from evalkit.boxes import check_boxes
from evalkit.choosing.sample_filter import EVERYTHING, SampleFilter
from evalkit.collection import collection_paused
from evalkit.data import BUNDLED, HUB, Data, bundled_root
from evalkit.end_of_turn import ended, first_turn
from evalkit.errors import UserError
from evalkit.file_task import FileTask
from evalkit.given_prompts import NOTHING_GIVEN, GivenPrompts
from evalkit.interfaces import Family, Task
from evalkit.interfaces.task import READINGS
from evalkit.reasoning import REASONING, cut_off_inside
from evalkit.records import Question as Question
from evalkit.records import Record as Record
from evalkit.records import prompt_digest as prompt_digest
from evalkit.repeats import answer_key
from evalkit.types import (
    LOCATED,
    Decoding,
    ImagePart,
    ImageRef,
    ImageSize,
    Message,
    Prediction,
    PromptSpec,
    Request,
    Sample,
    Shot,
    VideoPart,
    VideoRef,
)
from evalkit.video.sampling import sampling_of

OFFICIAL = "official"


GENERATE, LOGLIKELIHOOD = "generate", "loglikelihood"
RECORDED = "recorded"
"""In place of a rule for option letters, if they were read by another program."""


@dataclass(frozen=True)
class Job:
    """One split of a task with the samples to evaluate.

    Attributes:
        limited: whether ``samples`` are fewer than the split has (``all_samples``).
        prompting: what the signature says of prompts and decoding; empty where answers come from elsewhere.
        decoding_overrides: decoding fields that replace the protocol's.
        recorded_predictions: whether predictions are taken from a journal, without parsing the answers.
        rule: the scoring rule (``Task.scoring_rules``); empty for that of the protocol.
        given: the user's prompts in place of the protocol's.
        judge: whether there is a judge, whose rule then applies if the task has one.
        thinking_limit: the number of new tokens that a model which thinks may generate, where the protocol allows
            fewer; None for the protocol's limit.
        repeats: the number of answers to each sample.
        video_sampling: the name of the rule by which frames of videos are chosen; empty for the family's.
        chosen: how ``samples`` were chosen; of ids, those that the split has.
    """

    task: Task
    split: str
    samples: Sequence[Sample]
    limited: bool
    all_samples: Sequence[Sample] = ()
    protocol: str = OFFICIAL
    choice: str = GENERATE
    prompting: str = ""
    decoding_overrides: Mapping[str, Any] = field(default_factory=dict)
    recorded_predictions: bool = False
    rule: str = ""
    given: GivenPrompts = NOTHING_GIVEN
    judge: bool = False
    thinking_limit: int | None = None
    repeats: int = 1
    video_sampling: str = ""
    chosen: SampleFilter = EVERYTHING

    def decoding(self, family: Family) -> Decoding:
        """How its answers are generated.  Raises ``UserError`` if the protocol does not define the task."""
        decoding = family.decoding(self.prompt_spec, self.task.decoding)
        decoding = replace(decoding, max_new_tokens=max(decoding.max_new_tokens, self.thinking_limit or 0))
        decoding = replace(decoding, **self.decoding_overrides)
        if decoding.min_new_tokens > decoding.max_new_tokens:
            raise UserError(
                f"{self.name}: {decoding.max_new_tokens} new tokens at most are fewer than the "
                f"{decoding.min_new_tokens} that the protocol {self.protocol} asks for at least."
            )
        return decoding

    @property
    def name(self) -> str:
        return f"{self.task.name}/{self.split}"

    @property
    def answers(self) -> int:
        """The number of answers that it asks for."""
        return len(self.samples) * self.repeats

    @property
    def prompt_spec(self) -> PromptSpec:
        """Which prompt the task gets."""
        rule = self.rule or self.task.rule_of(self.protocol, self.judge)
        spec = self.task.prompt_spec(self.protocol, self.choice, rule)
        template = self.given.templates.get(self.task.name)
        return spec if template is None else replace(spec, given=template)

    @property
    def metric(self) -> str:
        """The name of the metric that scores it."""
        rule = self.rule or self.task.rule_of(self.protocol, self.judge)
        return self.task.scoring_rule(rule).metric or self.task.metric

    @property
    def reading(self) -> str | None:
        """The rule that reads option letters, yes and no, points, labelled boxes or times; None if none is read."""
        if self.task.kind not in READINGS or self.choice != GENERATE:
            return None
        return RECORDED if self.recorded_predictions else self.prompt_spec.reading

    @cached_property
    def annotations(self) -> str:
        """A digest of the complete split's annotations, regardless of ``samples``."""
        return digest_of_annotations(self.task, self.all_samples)

    @cached_property
    def earlier_annotations(self) -> str | None:
        """The digest that earlier versions gave a custom task file, if it was another one; else None."""
        return self.task.earlier_annotations(self.all_samples) if isinstance(self.task, FileTask) else None

    @property
    def images(self) -> Iterator[ImageRef]:
        """The images of its samples; one that several samples have, several times."""
        return (image for sample in self.samples for image in sample.all_images)

    @property
    def videos(self) -> Iterator[VideoRef]:
        """The videos of its samples; one that several samples have, several times."""
        return (video for sample in self.samples for video in sample.all_videos)

    @cached_property
    def has_videos(self) -> bool:
        """Whether a sample has a video."""
        return next(self.videos, None) is not None

    @property
    def if_images_missing(self) -> str:
        """What to do if images are missing, for messages."""
        return self.task.images_advice if isinstance(self.task, FileTask) else "complete the download"

    @property
    def reference(self) -> str:
        """Its name for ``--tasks`` from any folder: a custom task file has its absolute path."""
        return str(self.task.path) if isinstance(self.task, FileTask) else self.name


def recorded_choice(prompting: str) -> str:
    """How multiple-choice questions were answered, by what a signature says of prompts (``Job.prompting``)."""
    return LOGLIKELIHOOD if f"choice:{LOGLIKELIHOOD}" in prompting.split("|") else GENERATE


def choice_mode(wanted: str | None, family: Family, protocol: str) -> str:
    """How multiple-choice questions are answered: ``wanted``, else the family's default under the protocol."""
    if wanted is not None:
        return wanted
    return LOGLIKELIHOOD if protocol == OFFICIAL and family.ranks_letters else GENERATE


def load_job(
    task: Task,
    split: str,
    data: Data,
    *,
    limit: int | str | None = None,
    seed: int,
    chosen: SampleFilter = EVERYTHING,
    protocol: str = OFFICIAL,
    choice: str = GENERATE,
    decoding_overrides: Mapping[str, Any] | None = None,
    rule: str = "",
    given: GivenPrompts = NOTHING_GIVEN,
    judge: bool = False,
    repeats: int = 1,
) -> Job:
    """Read a split's samples.

    Args:
        limit: in place of that of ``chosen``, if it is not None.

    Raises:
        UserError: wrong files, repeated sample ids, or no sample is chosen.
    """
    check_submission(task, split)
    if repeats > 1:
        check_repeatable(task, split, choice)
    with collection_paused():
        samples = list(task.load(data, split))
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise UserError(
                f"{task.name}/{split}: sample id {sample.id} occurs twice in {data.name}; the files are corrupt."
            )
        seen.add(sample.id)
    if task.kind in LOCATED:
        check_boxes(samples, {}, f"{task.name}/{split}")
    chosen = chosen if limit is None else replace(chosen, limit=limit)
    few = chosen.choose(samples, task.name, split, seed=seed, together=task.complete_clusters)
    return Job(
        task,
        split,
        few,
        limited=len(few) < len(samples),
        all_samples=samples,
        protocol=protocol,
        choice=choice,
        decoding_overrides=decoding_overrides or {},
        rule=rule,
        given=given,
        judge=judge,
        repeats=repeats,
        chosen=chosen.recorded(samples),
    )


def incomplete_split(job: Job, data: str) -> str:
    """A warning if official files have fewer samples than the official split; empty if not, or for the bundled data."""
    size, found = job.task.splits[job.split].size, len(job.all_samples)
    if size is None or found >= size or data in (BUNDLED, HUB) or data.startswith(f"{HUB}:"):
        return ""
    if Path(data).expanduser().resolve() == bundled_root().resolve():
        return ""
    return (
        f"{job.name}: {data} has {found:,} samples, and the official split has {size:,}: the score is not that of the "
        "complete split."
    )


def parse_answer(
    family: Family,
    spec: PromptSpec,
    sample: Sample,
    text: str,
    image_sizes: Sequence[ImageSize],
    *,
    finish: str | None,
) -> Prediction:
    """What a raw answer to ``sample`` says up to the end of the turn, by the rules of ``family``.

    Args:
        finish: how it ended (``Response.finish``); None if that is unknown.
    """
    turn_ended, text = ended(text, finish), first_turn(text)
    if cut_off_inside(text, family.reasoning, turn_ended):
        return Prediction(None)
    spec = spec.of(sample)
    if spec.kind == "choice":
        return family.parse(spec, text, image_sizes, sample.options)
    return family.parse(spec, text, image_sizes)


@collection_paused()
def build_requests(
    job: Job, family: Family, shots: Callable[[Sample], Sequence[Shot]] = lambda sample: ()
) -> dict[str, Question]:
    """The requests for each of the job's samples, by request id (``answer_key``).

    The repeats of a sample follow each other, so that backends compute its prompt once.

    Args:
        shots: returns the few-shot examples of a sample.

    Raises:
        UserError: the family has no prompt for the task, there are not enough few-shot examples, or an id of a sample
            is that of another one's repeat.
    """
    job_spec = job.prompt_spec
    decoding = job.decoding(family)
    questions: dict[str, Question] = {}
    for sample in job.samples:
        spec = job_spec.of(sample)
        ranked = spec.kind == "choice" and spec.choice == LOGLIKELIHOOD
        before = tuple(shots(sample))
        asked = job.task.asked(sample, job.protocol, job.video_sampling or family.video_sampling)
        messages = conversation(job.given, spec, family, asked, before)
        continuations = family.continuations(spec, sample) if ranked else ()
        markers = () if family.reasoning is REASONING else tuple(family.reasoning)
        ids = tuple(shot.sample.id for shot in before)
        sampling = sampling_of(messages, job.video_sampling or family.video_sampling)
        for repeat in range(1, job.repeats + 1):
            request = Request(
                answer_key(sample.id, repeat), messages, decoding, continuations, markers, job.given.thinking, sampling,
                times=spec.kind == "temporal_grounding",
            )  # fmt: skip
            questions[request.id] = Question(sample, request, ids, family.reasoning, repeat)
    if len(questions) < job.answers:
        raise UserError(f"{job.name}: --repeats needs other sample ids: one is that of another sample followed by #2.")
    return questions


def check_repeatable(task: Task, split: str, choice: str) -> None:
    """Check that several answers to a sample make sense.

    Raises:
        UserError: they would be equal, or an official server scores them, which takes one.
    """
    if task.kind == "choice" and choice == LOGLIKELIHOOD:
        raise UserError(
            f"{task.name}/{split}: --repeats: ranking options by log-likelihood gives the same letter each time; add "
            "--choice generate, or drop --repeats."
        )
    if not task.splits[split].answers:
        raise UserError(
            f"{task.name}/{split}: --repeats: its answers are not public, and the official server takes one answer to "
            "each question; drop --repeats."
        )


def conversation(
    given: GivenPrompts, spec: PromptSpec, family: Family, sample: Sample, shots: Sequence[Shot] = ()
) -> tuple[Message, ...]:
    """The conversation that asks ``sample``, with the user's system turn.

    Raises:
        UserError: the family has no prompt for the task, or the user's leaves out images of the sample.
    """
    messages = after_turns(sample, family.prompt(spec, sample, shots), family.name)
    if spec.given:
        shown = {part.image.name for m in messages for part in m.content if isinstance(part, ImagePart)}
        shown |= {part.video.name for m in messages for part in m.content if isinstance(part, VideoPart)}
        if any(medium.name not in shown for medium in (*sample.all_videos, *sample.all_images)):
            raise UserError(
                f"--prompt {spec.task}=…: it leaves out {'videos' if sample.videos else 'images'} of sample "
                f"{sample.id}, which stand in the question or the options; add {{q}} or {{options}}."
            )
    return given.before(messages, family.name)


def after_turns(sample: Sample, messages: Sequence[Message], family: str) -> tuple[Message, ...]:
    """A conversation with the turns of ``sample`` before the question, which is its last message.

    A system turn comes first, in place of the family's.

    Raises:
        UserError: the family's prompts have no turns.
    """
    if not sample.turns:
        return tuple(messages)
    if messages[0].role == "plain":
        raise UserError(
            f"sample {sample.id} is a question in a conversation, and prompts of the family {family} are plain text, "
            "without turns; choose other tasks."
        )
    system = [turn for turn in sample.turns if turn.role == "system"]
    before = [m for m in messages[:-1] if not system or m.role != "system"]
    return (*system, *before, *(turn for turn in sample.turns if turn.role != "system"), messages[-1])


def check_submission(task: Task, split: str) -> None:
    """Check that a split without public answers has a submission file.

    Raises:
        UserError: it can be neither scored nor submitted.
    """
    if not task.splits[split].answers and not task.has_submission:
        raise UserError(
            f"{task.name}/{split}: its answers are not public, and the task writes no file for the official server."
        )
