"""A model in memory, in the midst of its training: evaluated as a checkpoint is, and left as it was."""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from evalkit import evaluate, load_task
from evalkit.checkpoint import bundled_folder
from evalkit.cli import main
from evalkit.errors import UserError
from evalkit.jobs import Record
from evalkit.model.hf.restore import snapshot

TASK = "refcoco/val"
LIMIT = 6


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    folder = bundled_folder("tiny")
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(folder)


@pytest.fixture
def model(loaded: tuple[Any, Any]) -> Any:
    return copy.deepcopy(loaded[0])


@pytest.fixture
def processor(loaded: tuple[Any, Any]) -> Any:
    return loaded[1]


def asked(model: Any, processor: Any, **how: Any) -> tuple[dict[str, float], dict[str, str]]:
    """The scores and the answers."""
    answers: dict[str, str] = {}

    def note(record: Record) -> None:
        answers[record.sample.id] = record.response.text

    how = {"tasks": TASK, "limit": LIMIT, **how}
    results = evaluate(model=model, processor=processor, data="tiny", on_record=note, **how)
    result = results[TASK]
    assert (list(results), result.n, result.errors) == ([TASK], how["limit"], 0)
    assert result.scores is not None
    return dict(result.scores.values), answers


def in_training(model: Any) -> Any:
    """A model with everything that training changes, some of it in parts of it only."""
    model.train()
    model.model.visual.eval()
    model.model.language_model.layers[1].eval()
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    for weight in model.model.visual.parameters():
        weight.requires_grad_(False)
    model.config.use_cache = model.config.text_config.use_cache = False
    model.generation_config.max_new_tokens = 3
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.do_sample = True
    model.config.text_config._attn_implementation = "eager"
    return model


def state(model: Any, processor: Any) -> dict[str, Any]:
    """All that is to be the same afterwards, in a form that does not change by itself."""
    found: dict[str, Any] = {
        "tensors": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "buffers": {name: tensor.clone() for name, tensor in model.named_buffers()},
        "grads": {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None},
        "requires_grad": {name: w.requires_grad for name, w in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "names": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "checkpointing": {n: getattr(m, "gradient_checkpointing", None) for n, m in model.named_modules()},
        "hooks": {name: list(module._forward_hooks) for name, module in model.named_modules()},
        "settings": {
            name: (module.config.to_json_string(), module.config._attn_implementation, repr(vars(module.config)))
            for name, module in model.named_modules()
            if hasattr(module, "config") and hasattr(module.config, "to_json_string")
        },
        "padding_side": processor.tokenizer.padding_side,
    }
    inner = getattr(model, "module", model)
    found["generation"] = (id(inner.generation_config), repr(inner.generation_config))
    found["random"] = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()]
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert [key for key in before if not same(before[key], after[key])] == []


def loss(model: Any, processor: Any) -> torch.Tensor:
    sample = load_task("vqav2/val", data="tiny")[0]
    content = [{"type": "image"}, {"type": "text", "text": sample.text}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=[text], images=[sample.images[0].load()], return_tensors="pt")
    return model(**inputs, labels=inputs["input_ids"]).loss


# ------------------------------------------------------------------------------------------------------------- answers


def test_answers_and_scores_are_those_of_run(
    model: Any, processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("EVALKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--tasks", TASK, "--limit", str(LIMIT), "--model", "tiny", "--data", "tiny", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["evalkit", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    (folder,) = (tmp_path / "runs").iterdir()
    (row,) = json.loads((folder / "scores.json").read_text())["results"]
    lines = [json.loads(line) for line in (folder / "refcoco.val.jsonl").read_text().splitlines()]
    values, answers = asked(in_training(model), processor)
    assert len(answers) == LIMIT
    assert answers == {line["id"]: line["text"] for line in lines if "text" in line}
    assert values[row["metric"]] == row["value"]
    assert {k: v for k, v in values.items() if v == v} == {k: v for k, v in row["values"].items() if v == v}


def test_several_tasks_and_examples(model: Any, processor: Any) -> None:
    results = evaluate(
        model=model, processor=processor, tasks=["vqav2", "refcoco/testA"], data="tiny", limit=2, shots=1, batch_size=2
    )
    assert list(results) == ["vqav2/val", "refcoco/testA"]
    assert all(result.n == 2 and len(result.job.samples) == 2 for result in results.values())


def test_results_print_as_table_and_become_frame(model: Any, processor: Any) -> None:
    results = evaluate(model=model, processor=processor, tasks=["vqav2", "refcoco/testA"], data="tiny", limit=4)
    vqa, boxes = results["vqav2/val"], results["refcoco/testA"]
    assert vqa.scores is not None
    shown = str(results)
    assert all(part in shown for part in ("vqav2", "refcoco", "acc@0.5", "n:4", f"{vqa.scores.values['accuracy']:.2f}"))
    low, high = results.intervals["vqav2/val"]["accuracy"]
    assert 0 <= low <= vqa.scores.values["accuracy"] <= high <= 100
    answers = results.answers["refcoco/testA"]
    assert list(answers) == [sample.id for sample in boxes.job.samples]
    frame = results.to_pandas()
    assert list(frame["task"]) == ["vqav2"] * 4 + ["refcoco"] * 4
    assert list(frame["text"])[4:] == list(answers.values())
    assert frame["score"][:4].mean() == pytest.approx(vqa.scores.values["accuracy"])
    assert all(frame["question"])
    assert all(frame["references"][:4].map(len))
    assert frame["reference_box"][4:].notna().all()
    assert {"status", "new_tokens", "scores.iou", "meta.answer_type"} <= set(frame.columns)
    assert set(results.to_pandas("refcoco")["split"]) == {"testA"}


# --------------------------------------------------------------------------------------------------------------- state


def test_model_state_is_restored(model: Any, processor: Any) -> None:
    plain, answers = asked(model, processor)
    model = in_training(model)
    processor.tokenizer.padding_side = "right"
    loss(model, processor).backward()  # gradients are there, as between the steps of an accumulation
    before = state(model, processor)
    assert not all(before["modes"].values())
    assert any(before["modes"].values())
    assert asked(model, processor) == (plain, answers), "training's settings change no answer"
    assert_same(before, state(model, processor))
    draws = [random.random(), float(np.random.rand()), float(torch.rand(()))]
    random.setstate(before["random"][0])
    torch.set_rng_state(before["random"][2])
    assert [draws[0], draws[2]] == [random.random(), float(torch.rand(()))]
    loss(model, processor).backward()  # and it trains on: nothing of inference mode is left in it


class Broken(Exception):
    pass


def test_model_state_is_restored_after_an_exception(model: Any, processor: Any) -> None:
    model = in_training(model)
    before = state(model, processor)
    seen = []

    def fail(record: Record) -> None:
        seen.append(record)
        random.random(), np.random.rand(), torch.rand(1)
        raise Broken

    threads = set(threading.enumerate())
    with pytest.raises(Broken) as caught:
        evaluate(model=model, processor=processor, tasks=TASK, data="tiny", limit=LIMIT, on_record=fail)
    assert len(seen) == 1
    assert_same(before, state(model, processor))
    until = time.monotonic() + 120
    while set(threading.enumerate()) - threads and time.monotonic() < until:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - threads, "nothing goes on, though the traceback is held"
    assert caught.traceback


def test_changes_during_evaluation_are_undone(model: Any, processor: Any) -> None:
    model = in_training(model)
    before = state(model, processor)
    restore = snapshot(model, processor)
    model.eval().requires_grad_(False)
    model.gradient_checkpointing_disable()
    model.config.use_cache = True
    model.config.text_config.rope_parameters["rope_theta"] = 1.0
    model.config.vision_config._attn_implementation = "eager"
    model.generation_config.repetition_penalty = 1.0
    model.model.rope_deltas = torch.zeros(1)
    model.model.language_model.layers[0].new = "attribute"
    model.model.visual.register_forward_hook(print)
    model.model.visual.register_buffer("more", torch.zeros(1))
    model.model.visual.patch_embed = torch.nn.Identity()
    del model.config.image_token_id
    processor.tokenizer.padding_side = "right" if before["padding_side"] == "left" else "left"
    random.random(), np.random.rand(), torch.rand(1)
    changed = state(model, processor)
    assert [key for key in before if same(before[key], changed[key])] == ["grads"]
    restore()
    assert_same(before, state(model, processor))
    assert loss(model, processor).requires_grad


def test_errors_change_nothing(model: Any, processor: Any) -> None:
    before = state(in_training(model), processor)
    for wrong, message in (
        ({"tasks": "refcco"}, "unknown task 'refcco'"),
        ({"family": "qwen9"}, "unknown model family 'qwen9'"),
        ({"data": "/nowhere"}, "there is no folder /nowhere"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(model=model, processor=processor, **{"tasks": TASK, "data": "tiny", "limit": 1, **wrong})
    model.model.visual.merger.mlp[0].weight.ds_id = 1  # as DeepSpeed marks the weights that it has spread
    with pytest.raises(UserError, match="sharded over processes"):
        asked(model, processor)
    del model.model.visual.merger.mlp[0].weight.ds_id
    assert_same(before, state(model, processor))


# ------------------------------------------------------------------------------------------------------------ wrapping


def test_model_inside_others(model: Any, processor: Any) -> None:
    peft = pytest.importorskip("peft")
    plain = asked(model, processor)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.5, init_lora_weights=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.mul_(20)
    parallel = torch.nn.DataParallel(adapted.train())  # wraps as DistributedDataParallel does: in .module
    before = state(parallel, processor)
    values, answers = asked(parallel, processor)
    assert_same(before, state(parallel, processor))
    assert answers != plain[1], "the adapter counts"
    merged = copy.deepcopy(adapted).eval().merge_and_unload()
    assert (values, answers) == asked(merged, processor)


def test_model_in_bfloat16(model: Any, processor: Any) -> None:
    half = in_training(model.to(torch.bfloat16))
    before = state(half, processor)
    values, answers = asked(half, processor, limit=3)
    assert_same(before, state(half, processor))
    assert len(answers) == 3
    assert values["parse_rate"] == 100.0


# ------------------------------------------------------------------------------------------------------------ callback


class Rows(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, place: int) -> int:
        return place


@pytest.mark.slow
def test_trainer_logs_scores(model: Any, processor: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("accelerate")
    from accelerate.utils import extract_model_from_parallel
    from transformers import Trainer, TrainingArguments

    from evalkit.training import EvalkitCallback

    def collate(rows: list[int]) -> Any:
        image = Image.new("RGB", (56, 56), (200, 30, 30))
        text = "<|vision_start|><|image_pad|><|vision_end|>red"
        batch = processor(text=[text] * len(rows), images=[image] * len(rows), return_tensors="pt")
        batch["labels"] = batch["input_ids"].clone()
        return batch

    name = "eval_evalkit/refcoco.val/acc@0.5"
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=2, per_device_eval_batch_size=8,
        eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, save_only_model=True,
        learning_rate=0.02, metric_for_best_model=name, greater_is_better=True, gradient_checkpointing=True,
        report_to=[], use_cpu=True, bf16=True, disable_tqdm=True, remove_unused_columns=False, dataloader_num_workers=0,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, data_collator=collate, train_dataset=Rows(), eval_dataset=Rows(), processing_class=processor
    )
    trainer.add_callback(EvalkitCallback(trainer, TASK, limit=LIMIT, data="tiny"))
    every = EvalkitCallback(trainer, ["vqav2"], every=2, limit=1, data="tiny", processor=processor)
    trainer.add_callback(every)
    trainer.train()
    assert "_original_forward" in vars(trainer.model), "mixed precision has put itself around the model"
    assert not [r for r in caplog.records if r.name.startswith("evalkit")], "autocast got into the answers"
    logged = {row["step"]: row[name] for row in trainer.state.log_history if name in row}
    assert sorted(logged) == [1, 2]
    assert all(row.get("eval_evalkit/refcoco.val/errors", 0) == 0 for row in trainer.state.log_history)
    assert trainer.state.best_metric == max(logged.values())
    plain = copy.deepcopy(extract_model_from_parallel(copy.deepcopy(trainer.model), keep_fp32_wrapper=False))
    values, answers = asked(plain, processor)
    assert (values, answers) == asked(trainer.model, processor), "in the weights' own dtype, without autocast"
    assert logged[2] == values["acc@0.5"]

    assert every.results["vqav2/val"].n == 1
    assert [row["step"] for row in trainer.state.log_history if "eval_evalkit/vqav2.val/accuracy" in row] == [2]


@pytest.mark.parametrize(("how", "message"), [({"every": 0}, "every=0"), ({}, "needs the model's processor")])
def test_invalid_callback_arguments(how: dict[str, Any], message: str) -> None:
    from evalkit.training import EvalkitCallback

    class Bare:
        processing_class = None

    with pytest.raises(UserError, match=message):
        EvalkitCallback(Bare(), TASK, **how)


def test_unknown_names_fail_before_the_first_step(model: Any, processor: Any, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    from evalkit.training import EvalkitCallback

    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=Rows(), processing_class=processor)
    trainer.add_callback(EvalkitCallback(trainer, "refcco", data="tiny"))
    with pytest.raises(UserError, match="unknown task 'refcco'"):
        trainer.train()
    assert trainer.state.global_step == 0
