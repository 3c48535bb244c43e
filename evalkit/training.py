"""A benchmark's score in the training log: a callback for transformers' ``Trainer``.

from evalkit.training import EvalkitCallback

trainer = Trainer(model, args, ..., processing_class=processor)
trainer.add_callback(EvalkitCallback(trainer, ["refcoco/val", "vqav2"], limit=500, data="/data/vlm"))
trainer.train()
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Literal

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evalkit.errors import UserError
from evalkit.evaluator import Evaluation
from evalkit.scoring import Result

if TYPE_CHECKING:
    from transformers import Trainer


class EvalkitCallback(TrainerCallback):
    """Evaluates the model as it is trained, and logs the scores where the losses are logged (W&B, TensorBoard, …).

    They are called ``eval_evalkit/refcoco.val/acc@0.5`` and so on, as the ``Trainer`` calls what belongs to evaluation
    (trackers show it as ``eval/evalkit/refcoco.val/acc@0.5``); with them the numbers of answers that were
    ``unparsed`` and of ``errors``.  With ``every="eval"`` they are among the evaluation's metrics, so that
    ``metric_for_best_model="evalkit/refcoco.val/acc@0.5"`` and early stopping go by them.

    The main process evaluates, and the others wait.  Wrong names and files are reported before the first step.

    Args:
        trainer: the one that it is added to.
        tasks: as in ``evalkit.evaluate``, whose other arguments (``limit``, ``data``, ``family``, …) are taken too.
        every: ``"eval"``, after each evaluation of the trainer's own; or a number of steps.
        processor: the model's; default: the trainer's ``processing_class``.

    Raises:
        UserError: there is no processor, or ``every`` is neither.
    """

    def __init__(
        self,
        trainer: Trainer,
        tasks: str | list[str],
        *,
        every: Literal["eval"] | int = "eval",
        processor: Any = None,
        **how: Any,
    ) -> None:
        if every != "eval" and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise UserError(f"every={every!r}: give 'eval' or a number of steps.")
        self.trainer = trainer
        self.every = every
        self.processor = processor if processor is not None else trainer.processing_class
        if not hasattr(self.processor, "tokenizer"):
            raise UserError(
                "EvalkitCallback needs the model's processor (images and text): give processor=…, or the trainer's "
                "processing_class."
            )
        self.tasks, self.how = tasks, how
        self._evaluation: Evaluation | None = None
        self.results: Mapping[str, Result] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read the samples."""
        if state.is_world_process_zero:
            self._prepared()

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: MutableMapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Evaluate where that is due after the trainer's own evaluation."""
        if self.every == "eval":
            found = self._evaluate(args, state)
            if metrics is not None:
                metrics.update(found)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Evaluate where that is due at this step."""
        if self.every != "eval" and state.global_step % int(self.every) == 0:
            self._evaluate(args, state)

    def _prepared(self) -> Evaluation:
        if self._evaluation is None:
            self._evaluation = Evaluation(self.tasks, **self.how)
        return self._evaluation

    def _evaluate(self, args: TrainingArguments, state: TrainerState) -> dict[str, float]:
        """The metrics, the same in all processes; logged."""
        found: dict[str, float] = {}
        if state.is_world_process_zero:
            self.results = self._prepared().run(self.trainer.model, self.processor)
            found = metrics_of(self.results)
        if args.world_size > 1:
            from torch.distributed import broadcast_object_list

            box = [found]
            broadcast_object_list(box)  # the main process's; all decide by them which model is the best
            (found,) = box
        self.trainer.log(dict(found))
        return found


def metrics_of(results: Mapping[str, Result]) -> dict[str, float]:
    """Results as a flat dictionary: ``eval_evalkit/refcoco.val/acc@0.5`` and so on."""
    found: dict[str, float] = {}
    for name, result in results.items():
        scores = result.scores.values if result.scores is not None else {}
        for key, value in {**scores, "unparsed": result.unparsed, "errors": result.errors}.items():
            found[f"eval_evalkit/{name.replace('/', '.')}/{key}"] = float(value)
    return found
