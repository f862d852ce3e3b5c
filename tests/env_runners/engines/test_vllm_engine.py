"""The vLLM engine against plain transformers at the same weights, in float32.

One algorithm with one remote runner for the whole file: vLLM changes the process it runs in.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("ray")

from probes import learned_groups, sfpo_results
from transformers import AutoModelForCausalLM, AutoTokenizer
from vllm_probes import (
    ENGINE_KWARGS,
    LONG_PROMPT,
    TEMPERATURE,
    TOLERANCE,
    Sequences,
    in_runner,
    long_prompts_config,
    make_sequences,
    mean_difference,
    plain_logprobs,
)

from sfpo_rllib import SFPO
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.engines import (
    Completion,
    GenerationRequest,
    RolloutEngine,
    SamplingSettings,
    make_engine,
)
from sfpo_rllib.env_runners.engines.transformers_engine import TransformersEngine
from sfpo_rllib.env_runners.rollout import GroupRollout, RolloutJob
from sfpo_rllib.env_runners.text_envs import EnvPool
from sfpo_rllib.rl_modules.weights import load_weights
from sfpo_rllib.token_trace import TokenTrace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_installed")]


@pytest.fixture(scope="module")
def algo(ray_cluster: None, vllm_installed: None, vllm_model: Path) -> Iterator[SFPO]:
    algo = long_prompts_config(vllm_model, lr=1e-2).build_algo()
    yield algo
    algo.stop()


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return make_sequences()


def reference_logprobs(
    model: Path, weights: dict[str, torch.Tensor] | None, sequences: Sequences, temperature: float
) -> list[np.ndarray]:
    """What plain transformers says."""
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if weights is not None:
        load_weights(lm, weights)
    return plain_logprobs(lm, sequences, temperature)


def engine_logprobs(algo: SFPO, sequences: Sequences, temperature: float) -> list[np.ndarray]:
    if temperature == TEMPERATURE:
        return in_runner(algo, lambda runner: runner.engine_logprobs(*sequences))
    sampling = SamplingSettings(temperature=temperature)
    return in_runner(algo, lambda runner: runner._engine.logprobs(*sequences, sampling))


def test_logprobs_are_those_of_transformers_before_and_after_training(
    algo: SFPO, vllm_model: Path, sequences: Sequences
) -> None:
    """Also of the same long prompts: a prefix cache that outlives the weights would show."""
    before = {}
    for temperature in (1.0, TEMPERATURE):
        before[temperature] = engine_logprobs(algo, sequences, temperature)
        expected = reference_logprobs(vllm_model, algo.get_module_weights(), sequences, temperature)
        assert mean_difference(before[temperature], expected) <= TOLERANCE

    with learned_groups(algo) as batches:
        results = [sfpo_results(algo.train()) for _ in range(2)]

    for temperature in (1.0, TEMPERATURE):
        after = engine_logprobs(algo, sequences, temperature)
        expected = reference_logprobs(vllm_model, algo.get_module_weights(), sequences, temperature)
        assert mean_difference(after, expected) <= TOLERANCE
        assert mean_difference(after, before[temperature]) > 100 * TOLERANCE
    # What was sampled had the log-probs that the learner finds at the same weights.
    assert all(result["engine_logp_diff"] < TOLERANCE for result in results)
    assert all(result["pass_0"]["grad_norm"] > 0 for result in results)
    lengths = {len(TokenTrace.of(e).token_ids) for groups in batches for g in groups for e in g}
    assert min(lengths) > LONG_PROMPT


def test_both_engines_end_replies_at_the_same_stop_strings(algo: SFPO, vllm_model: Path) -> None:
    prompts = [[3 + i, 4, 5, 6] for i in range(8)]

    def replies(engine: RolloutEngine, stop: list[str]) -> dict[int, Completion]:
        for number, prompt in enumerate(prompts):
            settings = SamplingSettings(temperature=0, max_tokens=12, stop=stop)
            engine.submit(GenerationRequest(number, prompt, 0, settings))
        done: dict[int, Completion] = {}
        while len(done) < len(prompts):
            done |= {completion.request_id: completion for completion in engine.step()}
        return done

    plain = TransformersEngine(model=str(vllm_model), dtype="float32", stop_token_ids=[1])
    plain.load_weights(algo.get_module_weights())
    tokenizer = AutoTokenizer.from_pretrained(vllm_model)
    whole = replies(plain, [])
    texts = [tokenizer.decode(reply.token_ids) for reply in whole.values()]
    longest = max(texts, key=len)
    num_ended = 0
    for stop in ([longest[4:6]], [longest[:3], longest[-1]], ["<eos>"], ["no such text"]):
        expected = replies(plain, stop)
        for number, found in in_runner(
            algo, lambda runner, s=stop: replies(runner._engine, s)
        ).items():
            assert found.token_ids.tolist() == expected[number].token_ids.tolist()
            assert found.truncated == expected[number].truncated
            np.testing.assert_allclose(found.logprobs, expected[number].logprobs, atol=1e-4)
            num_ended += not found.truncated and found.token_ids[-1] != 1
    assert num_ended >= 2


def test_abort_leaves_no_request(algo: SFPO) -> None:
    def abort(runner: GroupEnvRunner) -> tuple[int, bool, list, int]:
        engine = runner._engine
        for number in range(5):
            engine.submit(
                GenerationRequest(number, [3, 4, 5], number, SamplingSettings(max_tokens=200))
            )
        engine.step()
        started = engine._engine.get_num_unfinished_requests()
        engine.abort()
        unfinished = engine._engine.has_unfinished_requests()
        leftover = engine.step()
        engine.submit(GenerationRequest(7, [3, 4, 5], 0, SamplingSettings(max_tokens=1)))
        return started, unfinished, leftover, engine.step()[0].request_id

    assert in_runner(algo, abort) == (5, False, [], 7)
    algo.train()


def test_single_requests_can_be_aborted(algo: SFPO) -> None:
    def abort(runner: GroupEnvRunner) -> tuple[list[int], list[int]]:
        engine = runner._engine
        for number in range(4):
            engine.submit(
                GenerationRequest(
                    number, [3, 4, 5], number, SamplingSettings(max_tokens=3 + number)
                )
            )
        engine.step()
        engine.abort_requests([1, 3, 77])
        finished = []
        while engine._engine.has_unfinished_requests():
            finished += [completion.request_id for completion in engine.step()]
        return sorted(finished), list(engine._engine.output_processor.request_states)

    assert in_runner(algo, abort) == ([0, 2], [])


def test_an_interrupted_step_leaves_nothing_that_the_next_job_comes_upon(algo: SFPO) -> None:
    """An interrupt in the forward pass, when the scheduler has cached the prefix already."""

    def interrupt(runner: GroupEnvRunner) -> list[tuple[list[int], list[float]]]:
        engine = runner._engine
        prompt = [3 + i % 10 for i in range(LONG_PROMPT)]
        request = GenerationRequest(0, prompt, 0, SamplingSettings(max_tokens=4))

        def reply() -> tuple[list[int], list[float]]:
            engine.submit(request)
            while not (done := engine.step()):
                pass
            return done[0].token_ids.tolist(), done[0].logprobs.tolist()

        engine.abort()  # forgets the prefix, too
        expected = reply()
        engine.abort()
        worker = engine._engine.engine_core.engine_core.model_executor
        execute = worker.execute_model

        def interrupted(*args: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

        worker.execute_model = interrupted
        engine.submit(request)
        try:
            engine.step()
        except KeyboardInterrupt:
            worker.execute_model = execute
            engine.abort()
            return [expected, reply()]
        raise AssertionError("was not interrupted")

    (tokens, logprobs), (tokens_after, logprobs_after) = in_runner(algo, interrupt)
    assert tokens == tokens_after
    np.testing.assert_allclose(logprobs, logprobs_after, atol=TOLERANCE)


def test_environments_in_threads_change_nothing_but_the_rounding(algo: SFPO) -> None:
    """Which requests share a step, and what the prefix cache has, depends on when they are done."""

    def sample(runner: GroupEnvRunner) -> list[list[tuple[list[int], list[float]]]]:
        class Jittery(gym.Env):
            def reset(self, *, seed: int | None = None, options=None) -> tuple[str, dict]:
                time.sleep(random.random() * 0.02)
                self.turn = 0
                return f"{seed}=", {}

            def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
                time.sleep(random.random() * 0.02)
                self.turn += 1
                return "+=", 1.0, self.turn == 3, False, {}

        setting, jobs = runner._settings[False], []
        for num_env_threads in (0, 4, 4):
            envs = EnvPool(lambda _: Jittery(), {}, in_threads=num_env_threads > 0)
            result = GroupRollout(
                RolloutJob(tuple(range(6)), runner.weights_version, (1,), False, 60.0),
                group_size=3,
                sampling=setting.sampling,
                engine=runner._engine,
                formatter=setting.formatter,
                envs=envs,
                num_env_threads=num_env_threads,
            ).run()
            envs.close()
            traces = [TokenTrace.of(e) for group in result.groups.values() for e in group]
            jobs.append([(t.token_ids.tolist(), t.logprobs.tolist()) for t in traces])
        return jobs

    expected, *in_threads = in_runner(algo, sample)
    assert len(expected) == 18
    for job in in_threads:
        for (tokens, logprobs), (tokens_here, logprobs_here) in zip(expected, job, strict=True):
            assert tokens == tokens_here
            np.testing.assert_allclose(logprobs, logprobs_here, atol=TOLERANCE)


def test_weights_change_under_running_requests_and_each_token_is_of_the_version_it_names(
    algo: SFPO, vllm_model: Path
) -> None:
    old = algo.get_module_weights()
    new = {name: value + 0.3 * value.roll(1) for name, value in old.items()}
    prompts = [[3 + (i * j) % 10 for j in range(2 + 40 * i)] for i in range(8)]

    def renew(runner: GroupEnvRunner) -> list[Completion]:
        engine = runner._engine
        engine.name_weights(7)
        for number, prompt in enumerate(prompts):
            # Of one beginning, which the cache holds and must forget.
            ids = [3, 4, 5] * 50 + prompt
            settings = SamplingSettings(max_tokens=30 + number)
            engine.submit(GenerationRequest(number, ids, number, settings))
        done: list[Completion] = []
        for _ in range(12):
            done += engine.step()
        engine.load_weights(new)
        engine.name_weights(8)
        while engine._engine.has_unfinished_requests():
            done += engine.step()
        engine.load_weights(old)
        engine.name_weights(runner.weights_version)
        return done

    done = in_runner(algo, renew)
    assert len(done) == len(prompts)
    beginnings = [[3, 4, 5] * 50 + prompts[c.request_id] for c in done]
    pairs = list(zip(beginnings, done, strict=True))
    sequences = [ids + c.token_ids.tolist() for ids, c in pairs], [len(ids) for ids, _ in pairs]
    under = {
        version: reference_logprobs(vllm_model, weights, sequences, 1.0)
        for version, weights in ((7, old), (8, new))
    }
    long = [row for row, c in enumerate(done) if len(c.token_ids) > 12]
    assert len(long) >= 2
    for row, completion in enumerate(done):
        starts = {version: start for start, version in completion.versions}
        assert starts[7] == 0 and starts.keys() <= {7, 8} and (8 in starts) == (row in long)
        change = starts.get(8, len(completion.token_ids))
        whole = np.concatenate([under[7][row][:change], under[8][row][change:]])
        assert np.abs(whole - completion.logprobs).max() < 1e-4
        if row in long:
            assert np.abs(under[7][row][change:] - completion.logprobs[change:]).max() > 1e-2


def test_another_engine_works_after_close(
    algo: SFPO, vllm_model: Path, sequences: Sequences
) -> None:
    """Comes last: it takes the runner's engine away."""

    def replace_engine(runner: GroupEnvRunner) -> list[np.ndarray]:
        runner._engine.close()
        runner._engine = make_engine(
            "vllm",
            gpu_share=0.0,
            model=str(vllm_model),
            dtype="float32",
            stop_token_ids=[1],
            **ENGINE_KWARGS,
        )
        return runner.engine_logprobs(*sequences)

    expected = reference_logprobs(vllm_model, None, sequences, TEMPERATURE)
    assert mean_difference(in_runner(algo, replace_engine), expected) <= TOLERANCE
