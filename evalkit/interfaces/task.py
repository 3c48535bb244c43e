"""The base class of benchmarks."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence

from evalkit.data import Data, HubData, OfficialData
from evalkit.errors import UserError
from evalkit.letters import GRAMMAR
from evalkit.types import Answered, Decoding, Kind, PromptSpec, PromptTemplate, Sample, Split


class Task(ABC):
    """A benchmark: where its rows are, how a row becomes a sample, and which metric scores it.

    A task defines ``from_files``, ``from_hub`` or both (or ``load`` itself, if its data are of neither kind).

    Attributes:
        version: raised whenever a score could change.
        splits: every split that can be evaluated.
        default_splits: the splits that the bare task name means.
        metric: the name of the metric that scores it.
        decoding: how answers are generated unless a protocol says otherwise.
        layout: the official files below a data root, for ``evalkit tasks``.
        hub: the id of the data set on the hub.
        prompts: its prompts under other harnesses' protocols, by protocol (``lmms-eval``, ``vlmevalkit``).
        letter_rules: the rules that read option letters under other harnesses' protocols, by protocol, as names of
            ``evalkit.letters.RULES``; evalkit's own grammar elsewhere.
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
    letter_rules: Mapping[str, str] = {}

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

    def prompt_spec(self, protocol: str = "official", choice: str = "generate") -> PromptSpec:
        """What a family needs to know of the task to write its prompts under ``protocol``."""
        rule = self.letter_rules.get(protocol, GRAMMAR)
        return PromptSpec(self.name, self.kind, protocol, choice, self.prompts, rule)

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
