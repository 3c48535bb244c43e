"""evalkit from Python: load a benchmark's samples, score answers to them, evaluate a model, call a scorer on lists.

    from evalkit import load_task, score, scorer

    samples = load_task("refcoco/testA", data="/data/vlm")
    answers = {sample.id: my_model(sample.images[0].load(), sample.text) for sample in samples}
    score(samples, answers, family="qwen2.5-vl").values         # {"acc@0.5": 85.2, "mean_iou": …, "parse_rate": …}

    scorer("anls")([(["12 May", "May 12"], "12 may")]).values   # {"anls": 100.0}

    results = evaluate(model=model, processor=processor, tasks=["refcoco/val"], limit=500, data="/data/vlm")
    results["refcoco/val"].scores.values                        # the model's state is restored

A wrong name, file or answer raises ``evalkit.errors.UserError`` with the message that the command line prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from evalkit import registry
from evalkit.choosing.sample_filter import EVERYTHING, SampleFilter, check_ids
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.evaluator import Evaluation
from evalkit.interfaces import Task
from evalkit.jobs import OFFICIAL, Job, Record, load_job
from evalkit.matching import match
from evalkit.metric_contract import score_answers
from evalkit.predictions import prediction_lines
from evalkit.reader import Reader
from evalkit.scoring import score_records, with_reading
from evalkit.settings import default_data
from evalkit.task_metrics import metric_of
from evalkit.task_names import parse_tasks
from evalkit.types import LOCATED, Answered, Box, Kind, Prediction, Sample, Scores

if TYPE_CHECKING:
    from evalkit.runner.evaluation_results import EvaluationResults

Pair = tuple[Any, str | Box | None]
"""(references, prediction): a text, a list of texts or a box; and a text, a box, or None if it could not be parsed."""


class Samples(list[Sample]):
    """The samples of a split in the official order, with their ``task`` and ``split``."""

    def __init__(self, samples: Iterable[Sample], task: Task, split: str) -> None:
        super().__init__(samples)
        self.task = task
        self.split = split


def load_task(
    name: str,
    *,
    data: str | PathLike[str] | None = None,
    kind: Kind | None = None,
    limit: int | str | None = None,
    where: str | None = None,
    ids: str | PathLike[str] | Iterable[str] | None = None,
    seed: int = 0,
) -> Samples:
    """The samples of one split.

    Args:
        name: ``refcoco/testA``; or a task with one default split, such as ``vqav2``; or your own file,
            ``mine.jsonl`` (see ``evalkit.task_files``).
        data: a root of official downloads, ``hub``, ``hub:MIRROR`` or ``tiny`` (bundled).  Default: the environment
            variable ``EVALKIT_DATA``, else ``hub``.
        kind: the kind of questions in your own file, if the file does not specify it.
        limit: the maximum number of samples, or a percentage of them such as ``"5%"``, drawn by ``seed``; a larger
            limit keeps those of a smaller one.
        where: a condition on the samples' columns, as in ``--where``: ``'category == "OCR"'``.
        ids: the ids of the samples that are wanted, or a file of them, as in ``--ids``.

    Raises:
        UserError: an unknown task or split, a name with several splits, unexpected files, or no sample is chosen.
    """
    return _load(name, data, kind=kind, chosen=SampleFilter.given(where, ids, limit), seed=seed)


def _load(
    name: str,
    data: str | PathLike[str] | None,
    *,
    kind: Kind | None = None,
    chosen: SampleFilter = EVERYTHING,
    seed: int = 0,
    images_required: bool = True,
) -> Samples:
    """``load_task``; without ``images_required``, folders of images may be missing."""
    wanted = parse_tasks([name], kind=kind)
    if len(wanted) > 1:
        splits = ", ".join(f"{task.name}/{split}" for task, split in wanted)
        raise UserError(f"{name} has several splits; load one of {splits}.")
    ((task, split),) = wanted
    place = default_data(bundled_model=False)[0] if data is None else fspath(data)
    opened = open_data(place, images_required=images_required)
    job = load_job(task, split, opened, chosen=chosen, seed=seed)
    check_ids(chosen, {job.name: job.all_samples})
    return Samples(job.samples, task, split)


def score(
    task: str | Samples,
    answers: Mapping[str, Any] | Mapping[int, Any],
    *,
    data: str | PathLike[str] | None = None,
    family: str | None = None,
    boxes: str | None = None,
    allow_missing: bool = False,
    skip_missing: bool = False,
    rule: str = "",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> Scores:
    """Score answers to a split as ``evalkit score`` does.

    Args:
        task: a name for ``load_task``, or its result.
        answers: text by sample id, for every sample.  A number is scored as its text; a list of numbers is a box.
            A list of answers is scored as ``--repeats`` would be; every sample then has as many.  Answers to samples
            outside the split are ignored.
        data: as in ``load_task``; ignored if ``task`` is its result.
        family: the model family that parses the raw answers; None for final answers.
        boxes: coordinates of boxes, one of ``evalkit.reader.COORDINATES``; None for those of the family.  Boxes need
            one of the two.
        allow_missing: whether samples may lack an answer; they count as wrong.
        skip_missing: whether samples without an answer are left out of the score (``per_sample`` shows which).
        rule: a scoring rule of the task (``evalkit tasks NAME`` lists them); empty for its default.
        min_pixels, max_pixels: the pixel limits of the model's processor, for boxes in pixels of the resized image;
            None for the family's.

    Returns:
        values by name (percent for accuracies), per-sample values by id, and the signature.

    Raises:
        UserError: the answers do not fit the split, an image is unreadable, or the split's references are not public.
    """
    samples = _load(task, data, images_required=False) if isinstance(task, str) else task
    rule = rule.replace("@", "-")
    samples.task.scoring_rule(rule)  # refuses an unknown one
    job = Job(samples.task, samples.split, samples, limited=False, rule=rule)
    if not samples.task.splits[samples.split].answers:
        raise UserError(f"{job.name}: the references are not public; 'evalkit score' writes the server's file.")
    reader = Reader(
        None if family is None else registry.families.get(family), min_pixels, max_pixels, boxes=boxes, rule=rule
    )
    reader.check_options()
    reader.check(samples.task)
    given = [
        line
        for number, (name, text) in enumerate(answers.items(), start=1)
        for line in prediction_lines(name, text, number, boxes=samples.task.kind in LOCATED)
    ]
    matched = match(
        [sample.id for sample in samples],
        given,
        source="answers",
        split=job.name,
        missing_allowed=allow_missing or skip_missing,
        advice="allow_missing=True counts them as wrong, and skip_missing=True scores only the others.",
    )
    job = replace(job, repeats=matched.repeats)
    if skip_missing:
        job = replace(job, samples=[sample for sample in samples if sample.id in matched.texts])
    records = reader.records(job, matched.texts)
    for record in records:
        if record.response.error is not None:
            raise UserError(f"{job.name}: sample {record.sample.id}: {record.response.error}.")
    scores, _ = score_records(metric_of(job.task, job.metric), job, records)
    return replace(scores, signature=with_reading(scores.signature, samples.task.kind, job.reading))


def evaluate(
    *,
    model: Any,
    processor: Any,
    tasks: str | Sequence[str],
    data: str | PathLike[str] | None = None,
    limit: int | str | None = None,
    where: str | None = None,
    ids: str | PathLike[str] | Iterable[str] | None = None,
    seed: int = 0,
    family: str | None = None,
    protocol: str = OFFICIAL,
    choice: str | None = None,
    shots: int = 0,
    shots_by: str = "random",
    shots_from: str | PathLike[str] | None = None,
    kind: Kind | None = None,
    allow_missing: bool = False,
    system: str | PathLike[str] | None = None,
    prompts: Mapping[str, str] | None = None,
    thinking: str = "auto",
    video_sampling: str | None = None,
    batch_size: int | None = None,
    max_batch_tokens: int | None = None,
    exact: bool = False,
    repeats: int = 1,
    preset: str | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    presence_penalty: float = 0.0,
    repetition_penalty: float = 1.0,
    num_beams: int = 1,
    stop: Sequence[str] = (),
    max_new_tokens: int | None = None,
    judge: str | PathLike[str] | None = None,
    judge_base_url: str | None = None,
    on_record: Callable[[Record], None] | None = None,
) -> EvaluationResults:
    """Evaluate a model in memory, for instance during training, as ``evalkit run`` does.

    All state is restored afterwards, also after an exception: each submodule's mode, configurations with their
    generation, cache and attention settings, gradient checkpointing, ``requires_grad``, the processor, and the random
    states of Python, numpy and torch.  Answers are generated in the dtype of the weights.  In distributed training, one
    process evaluates; the others wait in their next collective operation, up to the timeout of their backend.

    Args:
        model: a transformers image-text-to-text model, or one inside PEFT (LoRA), ``DistributedDataParallel`` or
            ``torch.compile``; not one whose weights are sharded over processes.
        processor: its processor.
        tasks: as in ``--tasks``: names, ``name/split``, groups, your own files.
        data, limit, where, ids, seed, kind: as in ``load_task``; the same samples are drawn each time.
        family: the model family, for prompts and answer parsing; default: detected from the configuration.
        protocol, choice, shots, shots_by, shots_from, allow_missing: as the options of ``evalkit run``.
        system: a system turn before each conversation: a text, or a file with it.
        prompts: texts of tasks' prompts by the task's name, with ``{question}``, ``{options}`` and the other
            placeholders of ``evalkit.types.PromptTemplate``.  A chat template is the processor's.
        thinking: ``on``, ``off`` or ``auto``: what the chat template is told of thinking before answers.
        video_sampling: the rule by which frames of videos are chosen: ``qwen3-report``, or ``fps=1,max_frames=64``
            (``evalkit.video.sampling``); None for the family's.
        batch_size: maximum batch size; None for the device's default.
        max_batch_tokens: maximum prompt tokens (text and images) per batch; None for the device's default.
        exact: batch size 1 through the model's own ``generate``, without prefix sharing: the slow reference.
        repeats: the number of answers to each sample; more than one needs a temperature.
        preset: a sampling preset (``evalkit tasks --presets``); values below that are not the defaults replace its.
        temperature, top_p, top_k, presence_penalty, repetition_penalty, num_beams, stop, max_new_tokens: as in
            ``evalkit.types.Decoding``, to override the protocol's decoding (greedy); sampled tokens depend on the seed
            and the sample.
        judge, judge_base_url: the model that judges, for benchmarks that need one, as the options of ``evalkit run``.
            It is loaded beside ``model``, after that has answered; its verdicts are not kept.
        on_record: called with the record of each sample as it arrives.

    Returns:
        the results by ``task/split``: ``scores``, ``n``, and the numbers of answers that are ``unparsed``,
        ``truncated``, or failed (``errors``; not scored).  It prints as a table and has ``intervals``, the raw
        ``answers``, and ``to_pandas()`` with a row per answer.

    Raises:
        UserError: a wrong name or file, missing images, a split without public references, or an unsupported model.
        RunFailed: the model failed.
    """
    evaluation = Evaluation(
        tasks, data=data, limit=limit, where=where, ids=ids, seed=seed, family=family, protocol=protocol,
        choice=choice, shots=shots, shots_by=shots_by, shots_from=shots_from, kind=kind, allow_missing=allow_missing,
        system=system, prompts=prompts, thinking=thinking, video_sampling=video_sampling, batch_size=batch_size,
        max_batch_tokens=max_batch_tokens, exact=exact, repeats=repeats, preset=preset,
        temperature=temperature, top_p=top_p, top_k=top_k, presence_penalty=presence_penalty,
        repetition_penalty=repetition_penalty, num_beams=num_beams, stop=stop,
        max_new_tokens=max_new_tokens, judge=judge, judge_base_url=judge_base_url,
    )  # fmt: skip
    return evaluation.run(model, processor, on_record)


def scorer(metric: str) -> Callable[[Iterable[Pair]], Scores]:
    """A metric as a function of ``(references, prediction)`` pairs.

    The metrics are the modules of ``evalkit.metrics``, such as ``vqa_accuracy``, ``anls``, ``cider`` and ``iou``.
    References are a list of texts or a single one; for ``iou`` one box ``(x1, y1, x2, y2)`` in pixels.  A prediction is
    a text or a box; None is an answer that could not be parsed, and counts as wrong.  Keys of ``per_sample`` are the
    indices of the pairs, ``"0"``, ``"1"``, ….

        scorer("iou")([((10, 20, 30, 40), (12, 20, 30, 40))]).values["acc@0.5"]      # 100.0

    Raises:
        UserError: an unknown metric; when called, references that the metric cannot use.
    """
    plugin = registry.metrics.get(metric)

    def call(pairs: Iterable[Pair]) -> Scores:
        answered = []
        for place, (references, prediction) in enumerate(pairs):
            sample = Sample(str(place), (), "", _references(references), cluster=str(place))
            value = tuple(prediction) if isinstance(prediction, list) else prediction
            answered.append(Answered(sample, Prediction(value)))
        return score_answers(plugin, answered)

    call.__doc__ = f"Score (references, prediction) pairs by {metric}."
    return call


def _references(given: Any) -> tuple[Any, ...]:
    """A single text or box is one reference; a sequence has several."""
    if isinstance(given, str):
        return (given,)
    if isinstance(given, Sequence) and len(given) == 4 and all(isinstance(v, int | float) for v in given):
        return (tuple(given),)
    return tuple(given)
