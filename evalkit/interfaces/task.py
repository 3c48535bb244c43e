"""The base class of benchmarks."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence

from evalkit import detections, letters, points, time_spans, yes_no
from evalkit.data import Data, HubData, OfficialData
from evalkit.errors import UserError
from evalkit.types import Answered, Decoding, Kind, PromptSpec, PromptTemplate, Sample, ScoringRule, Split

from .metric import Metric

READINGS: Mapping[str, str] = {
    "choice": letters.GRAMMAR,
    "yes_no": yes_no.DEFAULT,
    "pointing": points.DEFAULT,
    "detection": detections.DEFAULT,
    "temporal_grounding": time_spans.DEFAULT,
}
"""evalkit's own rules for reading answers, by kind."""


class Task(ABC):
    """A benchmark: where its rows are, how a row becomes a sample, and which metric scores it.

    A task defines ``from_files``, ``from_hub`` or both (or ``load`` itself, if its data are of neither kind).

    Attributes:
        version: raised whenever a score could change.
        splits: every split that can be evaluated.
        default_splits: the splits that the bare task name means.
        metric: the name of the metric that scores it.
        decoding: how answers are generated unless a protocol says otherwise.
        layout: the official files below a data root, for ``evalkit tasks``; ``or mine/x.tsv`` can be in place of those
            before it.
        hub: the id of the data set on the hub.
        prompts: its prompts by protocol: those of other harnesses (``lmms-eval``, ``vlmevalkit``), and the benchmark's
            own (``official``), which then replaces the family's for the kind.
        rules: how answers can be read and scored, by name, beside the rules of the kind (``scoring_rules``): the
            benchmark's own (``official``) and other harnesses' by their revision (``lmms-eval-2025-06``).
        default_rule: the rule that applies unless the protocol has its own; empty for evalkit's own reading and
            ``metric``.
        protocol_rules: the rules of other protocols, by protocol.
        judged_rule: the rule that applies if there is a judge, where ``default_rule`` needs none; empty for the same.
        complete_clusters: whether the samples of a cluster are scored together (pairs of questions, rotations), so that
            ``--limit`` draws complete clusters.
        own_metrics: metrics of its own by name, such as one with other options than the registered one.
        breakdown_keys: entries of ``Sample.meta`` by whose values the headline is also given, whatever the metric.
    """

    name: str
    version: int
    kind: Kind
    splits: Mapping[str, Split]
    default_splits: Sequence[str]
    metric: str
    decoding: Decoding
    layout: Sequence[str] = ()
    hub: str = ""
    prompts: Mapping[str, PromptTemplate] = {}
    rules: Mapping[str, ScoringRule] = {}
    default_rule: str = ""
    protocol_rules: Mapping[str, str] = {}
    judged_rule: str = ""
    complete_clusters: bool = False
    own_metrics: Mapping[str, Metric] = {}
    breakdown_keys: Sequence[str] = ()

    def load(self, data: Data, split: str) -> Iterable[Sample]:
        """The samples of ``split`` in the official order.

        Raises:
            UserError: the files are missing or in another format, or the task cannot be read from such data.
        """
        if isinstance(data, HubData):
            return self.from_hub(data, split)
        if isinstance(data, OfficialData):
            return self.from_files(data, split)
        raise UserError(
            f"{self.name}: cannot be read from {data.name} ({type(data).__name__}); "
            "give --data ROOT with the official downloads, or --data hub."
        )

    def from_files(self, data: OfficialData, split: str) -> Iterable[Sample]:
        """The samples of ``split`` from the official downloads."""
        raise UserError(f"{self.name}: it is not read from official downloads; use --data hub.")

    def from_hub(self, data: HubData, split: str) -> Iterable[Sample]:
        """The samples of ``split`` from the hub's data set."""
        raise UserError(f"{self.name}: it is not on the hub; give --data ROOT with the official downloads.")

    def asked(self, sample: Sample, protocol: str, sampling: str) -> Sample:
        """``sample`` as its prompt needs it: with what depends on the frames that are shown, such as subtitles.

        Called for each sample before its prompt is rendered; by default, ``sample`` itself.  It must not raise if a
        video cannot be read: the sample then fails when the video is needed.

        Args:
            sampling: the name of the rule by which frames of videos are chosen (``evalkit.video.sampling``).
        """
        return sample

    def prompt_spec(self, protocol: str = "official", choice: str = "generate", rule: str = "") -> PromptSpec:
        """What a family needs to know of the task to write its prompts and read its answers.

        Args:
            rule: the scoring rule; empty for that of the protocol.
        """
        found = self.scoring_rule(rule or self.rule_of(protocol))
        if choice == "loglikelihood":  # the answer is a letter that was ranked first: no rule for texts reads it
            found = ScoringRule()
        reading = found.reading or READINGS.get(self.kind, "")
        return PromptSpec(self.name, self.kind, protocol, choice, self.prompts, reading, found.read, found.verbatim)

    @property
    def scoring_rules(self) -> Mapping[str, ScoringRule]:
        """The rules by name: the readings of its kind, scored by its metric, then its own ``rules``."""
        readings = {
            "choice": letters.RULES,
            "yes_no": yes_no.RULES,
            "pointing": points.RULES,
            "detection": detections.RULES,
            "temporal_grounding": time_spans.RULES,
        }
        return {**{name: ScoringRule(name) for name in readings.get(self.kind, ())}, **self.rules}

    def rule_of(self, protocol: str, judge: bool = False) -> str:
        """The name of the rule that applies under ``protocol``; empty for evalkit's own reading and ``metric``.

        Args:
            judge: whether there is a judge.
        """
        if judge and self.judged_rule:
            return self.judged_rule
        return self.protocol_rules.get(protocol, self.default_rule)

    def has_rule(self, name: str) -> bool:
        """Whether there is a rule called ``name`` (see ``scoring_rule``)."""
        return name.replace("@", "-") in self.scoring_rules

    def scoring_rule(self, name: str) -> ScoringRule:
        """The rule called ``name``; a revision may be given as in ``vlmevalkit@2025-08``.

        Raises:
            UserError: there is no such rule.
        """
        if not name:
            return ScoringRule()
        rules = self.scoring_rules
        plain = name.replace("@", "-")
        if plain not in rules:
            known = f"there are {', '.join(rules)}" if rules else "its answers are scored in one way only; leave it out"
            raise UserError(f"{self.name}: there is no scoring rule {name!r}: {known}.")
        return rules[plain]

    @property
    def has_submission(self) -> bool:
        """Whether ``submission`` is defined."""
        return type(self).submission is not Task.submission

    def submission(self, answers: Sequence[Answered]) -> tuple[str, str]:
        """(file name, content) of the file that the official server scores, for splits without public answers.

        Args:
            answers: every sample of the split in the official order.  The prediction is None for those without an
                answer: servers refuse a file that leaves questions out.
        """
        raise UserError(f"{self.name}: there is no file for an official server.")

    @property
    def has_results(self) -> bool:
        """Whether ``results`` is defined."""
        return type(self).results is not Task.results

    def results(self, answers: Sequence[Answered]) -> str:
        """The content of the file that the official scorer reads; an answer without a prediction is ""."""
        raise UserError(f"{self.name}: its official scorer reads no file of answers.")
