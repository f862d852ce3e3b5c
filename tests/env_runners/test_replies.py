"""Replies in training: cut ones masked, ones that a stop string ended, those of several turns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from probes import ECHO, assert_equal_weights, learned_groups, sfpo_results
from ray.rllib.core import DEFAULT_MODULE_ID
from transformers import AutoTokenizer

from sfpo_rllib import GRPO, GRPOConfig
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import WEIGHTS
from sfpo_rllib.algorithms.grpo.longest_episode import LongestEpisode
from sfpo_rllib.rl_modules.causal_lm import ADVANTAGES, INPUT_IDS, LOSS_MASK
from sfpo_rllib.token_trace import TokenTrace

MAX_TOKENS, CONTEXT = 4, 512


@pytest.fixture
def build(make_config: Callable[..., GRPOConfig], running: Callable) -> Callable[..., GRPO]:
    """`build(turns=3, loss=..., ...)`: GRPO on dialogues of so many turns."""

    def make(turns: int = 1, sampling: dict[str, Any] | None = None, **training: Any) -> GRPO:
        config = make_config(GRPOConfig, env=ECHO, env_config={"turns": turns})
        config.env_runners(sampling=sampling or {})
        return running(config.training(**training).build_algo())

    return make


@contextmanager
def minibatches_of(algo: GRPO) -> Iterator[list[list[dict[str, torch.Tensor]]]]:
    """The micro-batches of each mini-batch that the learner cuts."""
    learner = algo.learner_group._learner
    found: list[list[dict[str, torch.Tensor]]] = []
    cut = learner._micro_batches

    def record(*args: Any) -> list[dict[str, torch.Tensor]]:
        found.append(cut(*args))
        return found[-1]

    learner._micro_batches = record
    try:
        yield found
    finally:
        del learner._micro_batches


def batch_of(algo: GRPO, groups: list) -> dict[str, torch.Tensor]:
    """What the learner makes of groups."""
    pipeline = algo.learner_group._learner._learner_connector
    episodes = [episode for group in groups for episode in group]
    batch = pipeline(rl_module=None, batch={}, episodes=episodes, shared_data={})
    return batch[DEFAULT_MODULE_ID]


# Replies that were cut.


@pytest.mark.parametrize("turns", [1, 3])
def test_a_masked_reply_has_no_loss_and_its_reward_stays_in_the_baseline(build, turns):
    algo, plain = (build(turns, truncated_replies=how) for how in ("mask", "train"))
    with learned_groups(algo) as batches:
        result = algo.train()
    (groups,) = batches
    masked, whole = batch_of(algo, groups), batch_of(plain, groups)
    assert torch.equal(masked[ADVANTAGES], whole[ADVANTAGES])
    assert torch.equal(masked[INPUT_IDS], whole[INPUT_IDS])
    eos, num_cut = algo.config.model_config["model"], 0
    eos = AutoTokenizer.from_pretrained(eos).eos_token_id
    traces = [TokenTrace.of(episode) for group in groups for episode in group]
    for row, trace in enumerate(traces):
        expected = [False] * masked[LOSS_MASK].shape[1]
        reply: list[int] = []
        for place, sampled in enumerate([*trace.loss_mask, False]):
            if sampled:
                reply.append(place)
            elif reply:  # its end; replies stand between what the environment says
                ended = trace.token_ids[reply[-1]] == eos
                for i in reply:
                    expected[i] = bool(ended)
                num_cut += not ended
                reply = []
        assert masked[LOSS_MASK][row].tolist() == expected
    assert 0 < num_cut < len(traces) * turns
    assert result["env_runners"]["num_replies_masked"] == num_cut
    assert result["env_runners"]["completion_length_mean"] == sum(
        int(trace.loss_mask.sum()) for trace in traces
    ) / len(traces)
    assert plain.train()["env_runners"]["num_replies_masked"] == 0


def test_where_every_reply_is_cut_no_step_is_taken_and_training_goes_on(build):
    algo = build(truncated_replies="mask")
    with learned_groups(algo) as batches:
        algo.train()
    before, steps = algo.get_module_weights(), steps_of(algo)
    for episode in (episode for group in batches[0] for episode in group):
        trace = TokenTrace.of(episode)
        replace(trace, truncated=True, cut_replies=((0, len(trace.token_ids)),)).attach(episode)
    algo._learn(batches[0])
    assert_equal_weights(before, algo.get_module_weights())
    assert steps_of(algo) == steps
    algo.train()
    assert steps_of(algo) == steps + 1


def steps_of(algo: GRPO) -> int:
    return algo.learner_group._learner._optimizer_steps


def test_training_on_cut_replies_is_what_there_was_before(build):
    default, explicit = build(), build(truncated_replies="train")
    for algo in (default, explicit):
        algo.train()
    assert_equal_weights(default.get_module_weights(), explicit.get_module_weights())


# Stop strings.


@pytest.mark.parametrize("turns", [1, 3])
def test_replies_that_a_stop_string_ended_are_finished_and_trained_on(build, turns):
    algo = build(turns, sampling={"stop": ["5", "+1"], "max_tokens": 8})
    with learned_groups(algo) as batches:
        result = algo.train()
    assert sfpo_results(result)["engine_logp_diff"] < 1e-4
    assert result["env_runners"]["truncated_fraction"] < 0.9
    tokenizer = AutoTokenizer.from_pretrained(algo.config.model_config["model"])
    ends = set()
    for episode in (e for group in batches[0] for e in group):
        said = episode.get_actions()
        assert not any("5" in reply[:-1] for reply in said)
        ends |= {reply[-1:] for reply in said}
        if all(reply.endswith("5") for reply in said):
            trace = TokenTrace.of(episode)
            assert not trace.truncated
            # Raw text goes on as it is: no token is there but what was said.
            shown = episode.get_observations()[:-1]
            text = "".join(o + r for o, r in zip(shown, said, strict=True))
            assert tokenizer.decode(trace.token_ids, skip_special_tokens=True) == text
            assert tokenizer.eos_token_id not in trace.token_ids
    assert {"5", "1"} <= ends


# Dr. GRPO's constant.


def constants(algo: GRPO) -> list[float]:
    """What the weights of a batch's tokens are divided by, besides the sequences."""
    with minibatches_of(algo) as minibatches:
        algo.train()
    found = []
    for minibatch in minibatches:
        sequences = sum(int(micro[LOSS_MASK].any(dim=1).sum()) for micro in minibatch)
        for micro in minibatch:
            counted = micro[WEIGHTS][micro[LOSS_MASK]]
            assert (counted == counted[0]).all()
            found.append(round(1 / (float(counted[0]) * sequences), 3))
            # No episode weighs more than one of the longest possible length.
            assert (micro[WEIGHTS].sum(dim=1) * sequences <= 1 + 1e-6).all()
    return found


@pytest.mark.parametrize("loss", ["dr_grpo", "reinforce"])
@pytest.mark.parametrize(("turns", "constant"), [(1, MAX_TOKENS), (3, CONTEXT), (9, CONTEXT)])
def test_the_constant_is_the_longest_episode_in_every_batch(build, loss, turns, constant):
    algo = build(turns, loss=loss, minibatch_size=8)
    for _ in range(2):
        assert set(constants(algo)) == {constant}


def test_the_context_of_the_engine_is_the_bound_where_it_is_given(make_config, running):
    config = make_config(GRPOConfig, env=ECHO, env_config={"turns": 3})
    config.env_runners(engine_kwargs={"max_model_len": 64}).training(loss="dr_grpo")
    assert set(constants(running(config.build_algo()))) == {64}


def test_a_restored_learner_knows_of_several_turns_from_its_first_batch(build, tmp_path):
    algo = build(3, loss="dr_grpo")
    algo.train()
    state = algo.learner_group._learner.get_update_state()
    other = build(1, loss="dr_grpo")
    other.learner_group._learner.set_update_state(state)
    assert set(constants(other)) == {CONTEXT}


@pytest.mark.parametrize("of_others", [0, 3])
def test_all_learners_take_the_constant_of_all_episodes(make_config, of_others):
    longest = LongestEpisode(make_config(GRPOConfig))
    longest.look_at(torch.tensor([1, 1]), lambda count: count.add_(of_others))
    assert longest.tokens == (CONTEXT if of_others else MAX_TOKENS)


def test_other_losses_are_not_told_of_turns(build):
    algo = build(3, loss="grpo")
    with learned_groups(algo) as batches:
        algo.train()
    assert "num_turns" not in batch_of(algo, batches[0])
    assert not algo.learner_group._learner._longest_episode.several_turns
