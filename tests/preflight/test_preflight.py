"""Memory estimated beforehand: exact where it is exact, near the measured peak, and it refuses."""

import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import transformers
from repository import ROOT
from transformers import AutoConfig, PretrainedConfig

pytest.importorskip("ray")

from qwen import QWEN_7B

from sfpo_rllib import GRPOConfig, SFPOConfig
from sfpo_rllib.algorithms.grpo import resources
from sfpo_rllib.algorithms.grpo.preflight import preflight
from sfpo_rllib.preflight import (
    Preflight,
    estimate,
)
from sfpo_rllib.token_trace import TokenTrace

GB = 1e9

LAYER = (
    3584 * 3584
    + 3584  # queries
    + 2 * (3584 * 512 + 512)  # keys and values: 4 heads of 128
    + 3584 * 3584  # output
    + 3 * 3584 * 18944
    + 2 * 3584  # norms
)
EMBEDDING = 152064 * 3584
QWEN_7B_PARAMETERS = 28 * LAYER + 2 * EMBEDDING + 3584


def config_of(values: dict[str, Any]) -> PretrainedConfig:
    values = dict(values)
    return AutoConfig.for_model(values.pop("model_type"), **values)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading weights fails the test."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse)


@pytest.fixture
def paper(no_weights: None) -> SFPOConfig:
    """The paper's settings for the 7B model: half of 8 GPUs train, half sample."""
    return (
        SFPOConfig()
        .rl_module(model_config={"dtype": "bfloat16", "gradient_checkpointing": True})
        .env_runners(
            num_env_runners=4,
            num_gpus_per_env_runner=1,
            engine_kwargs={"max_model_len": 4096, "gpu_memory_utilization": 0.9},
            sampling={"max_tokens": 2560},
        )
        .learners(num_learners=4, num_gpus_per_learner=1)
        .training(
            preset="paper",
            group_size=8,
            train_batch_size_per_learner=512,
            max_tokens_per_micro_batch=8192,
        )
    )


def estimated(config: GRPOConfig, **kwargs: Any) -> Preflight:
    return preflight(config, model_config=config_of(QWEN_7B), **kwargs)


# By hand.


def test_a_7b_model_is_as_large_as_by_hand(paper: SFPOConfig) -> None:
    assert QWEN_7B_PARAMETERS == 7_615_616_512
    result = estimated(paper, device_memory_gb=80)
    assert result.model.num_parameters == QWEN_7B_PARAMETERS
    learner = result.learner
    assert learner.masters == learner.gradients == learner.snapshot == learner.buckets
    assert learner.masters == 4 * QWEN_7B_PARAMETERS  # 30.5 GB
    assert learner.optimizer_state == 8 * QWEN_7B_PARAMETERS
    vectors = 28 * (3584 + 2 * 512 + 2 * 3584) + 3584  # biases and norms: not cast
    assert learner.compute_weights == 2 * (QWEN_7B_PARAMETERS - EMBEDDING - vectors)
    assert learner.logits == 12 * (2**25 // 152064) * 152064  # a chunk: 0.4 GB
    # With checkpointing a layer keeps its float32 input, 28 x 3584 x 4 bytes a token.
    kept = 8192 * 28 * 3584 * 4
    assert kept <= 8192 * result.model.held_per_token <= 1.2 * kept
    # And while a layer is computed again, what that one keeps.
    assert learner.activations + learner.logits == int(8192 * result.model.peak_per_token)
    assert result.engine.weights == 2 * QWEN_7B_PARAMETERS
    assert result.engine.kv_bytes_per_token == 2 * 28 * 4 * 128 * 2
    assert result.engine.peak == int(0.9 * 80 * GB)


def test_the_papers_7b_settings_fit_8_gpus_of_80_gb_sharded_and_not_replicated(
    paper: SFPOConfig,
) -> None:
    replicated = estimated(paper, device_memory_gb=80)
    (problem,) = replicated.problems()
    # 30.5 x (1 + 1 + 2 + 1 + 1) GB, whatever the micro-batch.
    assert replicated.learner.resident == 4 * 6 * QWEN_7B_PARAMETERS
    assert problem.startswith("num_learners=4: a learner needs 213.2 GB of 76.0 GB, ")
    assert problem.endswith("needs sharding, parallelism='fsdp' over at least 3 learners")
    sharded = estimated(paper, device_memory_gb=80, parallelism="fsdp")
    assert list(sharded.problems()) == []
    assert sharded.learner.resident == 4 * 5 * QWEN_7B_PARAMETERS / 4
    assert sharded.learner.peak < 76 * GB


def test_the_number_of_learners_that_is_named_is_the_least(paper: SFPOConfig) -> None:
    result = estimated(paper, device_memory_gb=80)
    least = result.least_learners()
    assert least == 3

    def fits(number: int) -> bool:
        paper.learners(num_learners=number)
        paper.training(max_tokens_per_micro_batch=2560)
        return not list(estimated(paper, device_memory_gb=80, parallelism="fsdp").problems())

    assert fits(3) and not fits(2)


def test_a_model_that_no_sharding_makes_fit_is_said_to(paper: SFPOConfig) -> None:
    (problem,) = (p for p in estimated(paper, device_memory_gb=8).problems() if "learner" in p)
    assert "on however many learners" in problem


def test_eight_bit_moments_take_a_quarter_and_a_scale_for_256_values(paper: SFPOConfig) -> None:
    paper.training(optimizer="adamw_8bit")
    state = estimated(paper).learner.optimizer_state
    assert state == pytest.approx(2 * QWEN_7B_PARAMETERS * (1 + 4 / 256), rel=1e-3)
    paper.training(optimizer="paged_adamw_8bit")
    assert estimated(paper).learner.optimizer_state == 0


def test_a_7b_model_with_an_adapter_fits_where_it_does_not_without(paper: SFPOConfig) -> None:
    pytest.importorskip("peft")
    paper.rl_module(
        model_config={**paper.model_config, "lora": {"r": 16, "target_modules": "all-linear"}}
    )
    result = estimated(paper, device_memory_gb=80)
    assert list(result.problems()) == []
    assert "weights that are not trained" in str(result)
    # 16 for each input and output of the seven matrices of a layer.
    width, keys, inner = 3584, 512, 18944
    trained = 28 * 16 * (4 * width + 2 * (width + keys) + 3 * (width + inner))
    assert result.model.trained_parameters == trained
    assert result.learner.frozen == 2 * QWEN_7B_PARAMETERS
    page = (ROOT / "docs" / "learner.md").read_text()
    said = f"{result.learner.peak / GB:.1f} GB a GPU under `ddp` at these settings, 15.2 of them"
    assert said in page


# What it says.


def test_the_largest_micro_batch_that_is_named_fits_and_no_larger_one(paper: SFPOConfig) -> None:
    paper.training(max_tokens_per_micro_batch=65_536)
    kwargs: dict[str, Any] = {"device_memory_gb": 80, "parallelism": "fsdp"}
    (problem,) = estimated(paper, **kwargs).problems()
    assert problem.startswith("max_tokens_per_micro_batch=65536: a learner needs ")
    largest = estimated(paper, **kwargs).largest_micro_batch()
    assert largest is not None and problem.endswith(f"at most {largest} fits")
    paper.training(max_tokens_per_micro_batch=largest)
    assert list(estimated(paper, **kwargs).problems()) == []
    paper.training(max_tokens_per_micro_batch=largest + 64)
    assert len(list(estimated(paper, **kwargs).problems())) == 1


def test_checkpointing_makes_room(paper: SFPOConfig) -> None:
    plain = estimated(paper).learner
    paper.rl_module(model_config={"dtype": "bfloat16"})
    assert estimated(paper).learner.activations > 8 * plain.activations


def test_buckets_that_are_the_gradients_take_nothing(paper: SFPOConfig) -> None:
    paper.torch_ddp_kwargs = {"gradient_as_bucket_view": True}
    assert estimated(paper).learner.buckets == 0
    paper.torch_ddp_kwargs = {}
    paper.learners(num_learners=1)
    assert estimated(paper).learner.buckets == 0  # nothing to reduce over


def test_an_engine_whose_cache_holds_no_sequence_is_refused(paper: SFPOConfig) -> None:
    paper.env_runners(engine_kwargs={"max_model_len": 4096, "kv_cache_memory_bytes": 10**8})
    (problem,) = (p for p in estimated(paper, device_memory_gb=80).problems() if "engine" in p)
    assert problem.startswith("engine_kwargs['max_model_len']=4096: ")
    assert f"at most {10**8 // 57344} fits" in problem
    paper.env_runners(engine_kwargs={"gpu_memory_utilization": 0.1})
    (problem,) = (p for p in estimated(paper, device_memory_gb=80).problems() if "engine" in p)
    assert "weights need 15.2 GB of 8.0 GB" in problem


def test_a_reference_is_one_more_frozen_model_sharded_with_the_rest(paper: SFPOConfig) -> None:
    plain = {p: estimated(paper, parallelism=p).learner for p in ("ddp", "fsdp")}
    paper.training(kl_coeff=0.1)
    for parallelism, shards in (("ddp", 1), ("fsdp", 4)):
        learner = estimated(paper, parallelism=parallelism).learner
        assert plain[parallelism].reference == 0
        # Layers in bfloat16, embedding, output layer and final norm in float32.
        outside = 2 * EMBEDDING + 3584
        assert learner.reference == (2 * QWEN_7B_PARAMETERS + 2 * outside) // shards
        # Neither gradients nor moments nor a snapshot of it, and no buckets.
        gathered = 4 * (2 * EMBEDDING + 3584) if parallelism == "fsdp" else 0
        assert learner.peak == plain[parallelism].peak + learner.reference + gathered
    assert "reference 17.4" in " ".join(str(estimated(paper)).split())


TOKEN = 2 * 28 * 4 * 128 * 2  # keys and values of 4 heads of 128 in 28 layers, bfloat16


def test_the_transformers_engines_cache_is_of_as_many_sequences_as_it_decodes(
    paper: SFPOConfig,
) -> None:
    paper.env_runners(rollout_engine="transformers", engine_kwargs={"max_model_len": 4096})
    result = estimated(paper)
    assert result.engine.kv_cache == 512 * 4096 * TOKEN  # 120.3 GB, if all were that long
    assert "key-value cache, 2097152 tokens 120.3" in " ".join(str(result).split())
    paper.env_runners(engine_kwargs={"max_model_len": 1024, "max_batch_size": 32})
    assert estimated(paper).engine.kv_cache == 32 * 1024 * TOKEN
    paper.learners(num_learners=1).training(train_batch_size_per_learner=16)
    paper.evaluation(evaluation_duration=24)
    assert estimated(paper).engine.kv_cache == 24 * 1024 * TOKEN  # no more are asked for


def test_a_transformers_engine_whose_replies_do_not_fit_is_refused(paper: SFPOConfig) -> None:
    paper.env_runners(rollout_engine="transformers", engine_kwargs={"max_model_len": 4096})

    def engine_problems() -> list[str]:
        return [p for p in estimated(paper, device_memory_gb=80).problems() if "engine" in p]

    room = int(0.95 * 80 * GB) - 2 * QWEN_7B_PARAMETERS
    largest = room // (2560 * TOKEN)
    assert engine_problems() == [
        "engine_kwargs['max_batch_size']=512: the key-value cache of replies of 2560 tokens needs "
        f"75.2 GB of 60.8 GB; at most {largest} fits"
    ]
    paper.env_runners(engine_kwargs={"max_model_len": 4096, "max_batch_size": largest})
    assert engine_problems() == []
    paper.env_runners(engine_kwargs={"max_model_len": 4096, "max_batch_size": largest + 1})
    assert len(engine_problems()) == 1


def test_in_one_process_the_transformers_engine_and_the_learner_work_in_turns(
    paper: SFPOConfig,
) -> None:
    paper.env_runners(num_env_runners=0, rollout_engine="transformers")
    paper.learners(num_learners=0, num_gpus_per_learner=1)
    result = estimated(paper, device_memory_gb=200)
    whole = int(0.95 * 200 * GB)
    assert result.learner_limit == whole - result.engine.weights  # the cache is gone
    assert result.engine.limit == whole - result.learner.resident


def test_a_shared_device_is_shared(paper: SFPOConfig) -> None:
    paper.learners(num_learners=1, num_gpus_per_learner=0.5)
    assert estimated(paper, device_memory_gb=80).learner_limit == int(0.95 * 80 * GB * 0.5)
    # In one process what the engine takes is gone.
    paper.learners(num_learners=0, num_gpus_per_learner=1).env_runners(num_env_runners=0)
    result = estimated(paper, device_memory_gb=80)
    assert result.learner_limit == int(0.95 * 80 * GB) - result.engine.peak


def test_unknown_parallelism_is_refused(paper: SFPOConfig) -> None:
    with pytest.raises(ValueError, match="parallelism='tp': must be one of"):
        estimated(paper, parallelism="tp")


def test_the_table_has_every_part_and_the_whole(paper: SFPOConfig) -> None:
    table = str(estimated(paper, device_memory_gb=80, parallelism="fsdp"))
    for row in (
        "learner, 1 of 4 (fsdp)",
        "weights, float32 7.6",
        "gradients 7.6",
        "optimizer state (adamw) 15.2",
        "snapshot (slow_fast) 7.6",
        "activations, 8192 tokens 8.6",
        "logits, 220 tokens 0.4014",
        "at most 58.1",
        "may use 76.0",
        "key-value cache, 989968 tokens 56.8",
    ):
        assert row in " ".join(table.split()), table


@pytest.mark.parametrize("staleness", [0, 2])
def test_the_object_store_holds_a_copy_of_the_weights_for_each_version(
    paper: SFPOConfig, staleness: int
) -> None:
    paper.env_runners(num_env_runners=2, max_staleness=staleness)
    estimate = estimated(paper, device_memory_gb=80)
    one = estimate.model.num_parameters * 2  # bfloat16
    assert estimate.published == (staleness + 1) * one
    row = f"weights, {staleness + 1} versions {estimate.published / GB:.1f}"
    assert row in " ".join(str(estimate).split())
    paper.env_runners(num_env_runners=0, max_staleness=0)
    assert estimated(paper, device_memory_gb=80).stored == 0


@pytest.mark.parametrize("staleness", [0, 2])
def test_the_object_store_holds_the_tokens_of_each_open_batch(
    paper: SFPOConfig, staleness: int
) -> None:
    paper.env_runners(num_env_runners=2, max_staleness=staleness)
    estimate = estimated(paper, device_memory_gb=80)
    rollouts = (staleness + 1) * paper.total_train_batch_size
    context = estimate.load.context
    trace = TokenTrace(
        token_ids=np.zeros(context, np.int32),
        loss_mask=np.zeros(context, bool),
        logprobs=np.zeros(context, np.float32),
        seed=0,
        member=0,
        weights_version=0,
        truncated=False,
    )
    arrays = (trace.token_ids, trace.loss_mask, trace.logprobs)
    assert estimate.stored - estimate.published == rollouts * sum(a.nbytes for a in arrays)
    assert f"episodes, at most {rollouts * context} tokens" in " ".join(str(estimate).split())


def test_weights_that_travel_by_device_are_not_in_the_object_store(paper: SFPOConfig) -> None:
    paper.env_runners(num_env_runners=2, weight_transport="nccl")
    assert estimated(paper, device_memory_gb=80).published == 0


def test_the_table_in_the_docs_is_what_is_estimated(paper: SFPOConfig) -> None:
    page = (ROOT / "docs" / "learner.md").read_text()
    rows = re.findall(
        r"^\| [^|]+ \| \**([\d.]+)\** \| \**([\d.]+)\** \|$", page, flags=re.MULTILINE
    )
    for column, parallelism in enumerate(("ddp", "fsdp")):
        learner = estimated(paper, parallelism=parallelism).learner
        left_out = ("frozen", "optimizer_step")  # nothing is frozen without LoRA
        parts = [size for name, size in vars(learner).items() if name not in left_out]
        assert [float(row[column]) for row in rows] == [
            round(size / GB, 1) for size in (*parts, learner.peak)
        ]


# At build.


def test_at_build_a_gpu_that_is_too_small_is_an_error_and_a_host_a_warning(
    make_config: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = make_config()
    with caplog.at_level(logging.INFO, logger=resources.__name__):
        resources.check_memory(config)
    assert "Memory by device" in caplog.text and "optimizer state (adamw)" in caplog.text
    monkeypatch.setattr(estimate, "_device_bytes", lambda *_: 10_000)
    resources.check_memory(config)
    assert "This may not fit into memory" in caplog.text
    config.learners(num_gpus_per_learner=1)
    with pytest.raises(ValueError, match="SFPOConfig: invalid settings\nnum_learners=1: a learner"):
        resources.check_memory(config)


def test_a_model_that_cannot_be_estimated_stops_nothing(
    make_config: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    resources.check_memory(make_config().rl_module(model_config={"model": "/no/such/folder"}))
    assert "memory is not estimated" in caplog.text
