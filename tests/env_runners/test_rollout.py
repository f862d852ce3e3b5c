"""Group rollouts over an engine that replies by rule."""

from collections.abc import Callable, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripted import Bench, Reply

from sfpo_rllib.env_runners import rollout
from sfpo_rllib.env_runners.rollout import stable_hash
from sfpo_rllib.env_runners.summary import summarize
from sfpo_rllib.token_trace import TokenTrace


@pytest.fixture
def bench(tokenizer) -> Callable[..., Bench]:
    def make(reply: Reply | None = None, **kwargs: Any) -> Bench:
        # By default a reply says which request it answers.
        return Bench(tokenizer, reply or (lambda r: (str(r.request_id), False)), **kwargs)

    return make


def test_whole_groups_in_the_order_of_their_members_though_replies_come_in_another(bench):
    result = bench().run([7, 5, 9], group_size=3)
    assert set(result.groups) == {7, 5, 9}
    for i, seed in enumerate([7, 5, 9]):
        group = result.groups[seed]
        assert [TokenTrace.of(e).member for e in group] == [0, 1, 2]
        assert [e.get_actions(-1) for e in group] == [str(3 * i + m) for m in range(3)]
        assert {TokenTrace.of(e).seed for e in group} == {seed}
        assert {TokenTrace.of(e).weights_version for e in group} == {3}
        assert all(e.is_done and e.get_observations(0) == f"{seed}+=" for e in group)


def test_members_that_are_missing_are_sampled_as_in_the_whole_group(bench):
    def run(**options: Any) -> dict[tuple[int, int], int]:
        b = bench()
        result = b.run([7, 5, 9], group_size=3, **options)
        return {
            (TokenTrace.of(e).seed, TokenTrace.of(e).member): b.engine.requests[
                int(e.get_actions(-1))
            ].seed
            for group in result.groups.values()
            for e in group
        }

    seeds, some = run(), run(members={5: [1], 9: [2, 0]})
    assert list(some) == [(7, 0), (7, 1), (7, 2), (5, 1), (9, 0), (9, 2)]
    assert some.items() <= seeds.items()


def test_a_trace_is_the_dialogue_and_only_sampled_tokens_count(bench):
    b = bench(lambda request: ("12" if request.request_id == 0 else "3", False), num_turns=3)
    (episode,) = b.run([4], group_size=1).groups[4]
    trace, eos = TokenTrace.of(episode), [b.tokenizer.eos_token_id]
    parts = [  # tokens, whether sampled
        (b.encode("4+="), False),
        (b.encode("12") + eos, True),
        (b.encode("1="), False),
        (b.encode("3") + eos, True),
        (b.encode("2="), False),
        (b.encode("3") + eos, True),
    ]
    assert trace.token_ids.tolist() == [token for tokens, _ in parts for token in tokens]
    assert trace.loss_mask.tolist() == [s for tokens, s in parts for _ in tokens]
    logprobs = [[-i for i in range(1, len(t) + 1)] if s else [0.0] * len(t) for t, s in parts]
    assert trace.logprobs.tolist() == list(chain(*logprobs))
    assert (trace.token_ids.dtype, trace.loss_mask.dtype, trace.logprobs.dtype) == (
        np.int32,
        np.bool_,
        np.float32,
    )
    assert not trace.truncated
    assert episode.get_actions() == ["12", "3", "3"]
    assert episode.get_rewards() == [2.0, 1.0, 1.0]
    assert episode.get_infos(-1) == {"said": "3"}
    # Each turn's prompt is the dialogue so far, token by token.
    prompts = [request.prompt_ids for request in b.engine.requests]
    assert prompts == [trace.token_ids[:n].tolist() for n in (3, 8, 12)]


def test_a_cut_reply_gets_its_eos_from_the_environment(bench):
    b = bench(lambda request: ("11", request.request_id == 0), num_turns=2)
    (episode,) = b.run([4], group_size=1).groups[4]
    trace, eos = TokenTrace.of(episode), b.tokenizer.eos_token_id
    sampled, given = b.encode("11"), [eos, *b.encode("1=")]
    assert trace.token_ids.tolist() == [*b.encode("4+="), *sampled, *given, *sampled, eos]
    assert trace.loss_mask.tolist() == [False] * 3 + [True] * 2 + [False] * 3 + [True] * 3
    assert trace.logprobs[5:8].tolist() == [0.0] * 3
    assert trace.truncated


def test_every_environment_of_a_group_is_reset_with_its_seed_and_used_again(bench):
    b = bench()
    b.run([7, 5], group_size=3)
    assert len(b.made) == 6
    assert sorted(seed for env in b.made for seed in env.resets) == [5] * 3 + [7] * 3
    b.run([8], group_size=3)
    assert len(b.made) == 6
    b.pool.close()
    assert all(env.closed for env in b.made)


# Failures.


def test_an_environment_that_fails_in_a_step_drops_its_group_and_no_other(bench):
    b = bench(fails="step 5 3")  # the reply to request 3, a member of the group of seed 5
    result = b.run([7, 5, 9])
    assert set(result.groups) == {7, 9}
    assert "the tool broke" in result.dropped[5]
    failed = [env for env in b.made if env.closed]
    assert len(failed) == 1 and failed[0].resets == [5]
    # Its fellow's reply would have come later, and was not waited for.
    assert b.engine.aborted == [2]
    assert sorted(action for env in b.made for action in env.actions) == ["0", "1", "4", "5"]
    again = b.run([1, 2])  # with the five that are in order, none made anew
    assert len(again.groups) == 2 and len(b.made) == 6


def test_an_environment_that_fails_at_its_reset_drops_its_group_and_no_other(bench):
    b = bench(fails="reset 5")
    result = b.run([7, 5, 9])
    assert set(result.groups) == {7, 9}
    assert "no such problem" in result.dropped[5]
    assert len(b.engine.requests) == 4
    assert [env.resets for env in b.made if env.closed] == [[5]]


def test_a_prompt_that_fills_the_context_drops_its_group_and_no_other(bench):
    result = bench(max_model_len=5).run([7, 123, 9])
    assert set(result.groups) == {7, 9}
    assert "prompt of 5 tokens" in result.dropped[123]


def test_a_dialogue_that_fills_the_context_is_truncated_and_keeps_its_group(bench):
    # 3 tokens of the prompt, 2 of the reply, 2 of the environment's answer.
    long, short = bench(num_turns=2, max_model_len=8), bench(num_turns=2, max_model_len=7)
    assert all(e.is_terminated for e in long.run([7]).groups[7])
    group = short.run([7]).groups[7]
    assert all(e.is_truncated and not e.is_terminated and len(e) == 1 for e in group)
    assert [e.get_return() for e in group] == [1.0, 1.0]  # what the first turn was paid
    traces = [TokenTrace.of(e) for e in group]
    assert all(trace.truncated and trace.loss_mask[-1] for trace in traces)
    assert all(len(trace.token_ids) <= 7 for trace in traces)


def test_only_the_longest_dialogue_of_a_group_is_truncated(bench):
    b = bench(lambda r: ("1" * (4 if r.request_id == 1 else 1), False), num_turns=3)
    b.engine.max_model_len = 14
    group = b.run([7], group_size=3).groups[7]
    assert [len(e) for e in group] == [3, 2, 3]
    assert [TokenTrace.of(e).truncated for e in group] == [False, True, False]
    assert summarize([group])["truncated_fraction"] == pytest.approx(1 / 3)


def test_a_reply_that_fills_the_context_to_the_last_token_is_the_last(bench):
    b = bench(lambda r: ("1" * r.sampling.max_tokens, True), num_turns=3, max_model_len=9)
    (episode,) = b.run([7], group_size=1, max_tokens=50).groups[7]
    assert len(TokenTrace.of(episode).token_ids) == 9
    assert episode.is_truncated and episode.get_return() == 6.0


def test_a_reply_has_the_room_that_is_left(bench):
    b = bench(num_turns=2, max_model_len=10)
    b.run([7], group_size=1, max_tokens=5)
    assert [request.sampling.max_tokens for request in b.engine.requests] == [5, 3]


def test_at_the_deadline_what_is_not_finished_is_given_up(bench, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(rollout, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    b = bench()
    # Read at the start, before each reset but the first, and after each reply but the last; the
    # newest comes first.
    result = b.run([7, 5, 9], timeout_s=5 + 2.5)
    assert set(result.groups) == {9}
    assert sorted(result.unfinished) == [5, 7]
    assert b.engine.num_aborts == 1
    assert sum(len(env.actions) for env in b.made) == 3
    monkeypatch.undo()
    b.run([1, 2, 3])
    assert len(b.made) == 6  # all six went back to the pool


def test_the_deadline_is_looked_at_between_the_steps_for_replies_that_came_at_once(
    bench, monkeypatch
):
    b = bench()
    step = b.engine.step
    b.engine.step = lambda: [step()[0] for _ in range(len(b.engine.in_flight))]
    clock = iter(range(1000))
    monkeypatch.setattr(rollout, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    result = b.run([7, 5, 9], timeout_s=5 + 1.5)
    assert set(result.groups) == {9} and sorted(result.unfinished) == [5, 7]
    assert sum(len(env.actions) for env in b.made) == 2


def test_the_deadline_is_looked_at_between_resets(bench, monkeypatch):
    b = bench()
    clock = iter(range(1000))
    monkeypatch.setattr(rollout, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    result = b.run([7, 5, 9], timeout_s=2.5)
    assert sorted(result.unfinished) == [5, 7, 9]
    assert len(b.made) == 3 and b.engine.num_aborts == 1


def test_what_finishes_in_time_is_kept_though_the_deadline_has_passed_since(bench):
    b = bench()
    result = b.run([7], group_size=1, timeout_s=-1.0)
    assert set(result.groups) == {7}
    assert b.engine.num_aborts == 0


# Random streams.


def sampling_seeds(b: Bench, seeds: Sequence[int], stream: tuple) -> dict[tuple, int]:
    """(seed, member, turn) to the sampling seed, of two turns and groups of two."""
    b.run(seeds, stream=stream)
    found = {}
    for request in b.engine.requests:
        text = b.tokenizer.decode(request.prompt_ids, skip_special_tokens=True)
        seed, replies = text.split("+=")
        # The first turns are submitted group by group; later prompts hold the request answered.
        turn = int(bool(replies))
        first = int(replies[: -len("1=")]) if turn else b.engine.number(request)
        found[int(seed), first % 2, turn] = request.seed
    assert len(found) == len(seeds) * 2 * 2
    return found


def test_sampling_seeds_depend_on_stream_seed_member_and_turn_alone(bench):
    b = bench(num_turns=2)
    few = sampling_seeds(b, [7, 5], (11, 0))
    many = sampling_seeds(b, [9, 5, 8, 7], (11, 0))
    assert {key: many[key] for key in few} == few
    assert len(set(many.values())) == len(many)
    for stream in [(12, 0), (11, 1), (11, "evaluation")]:
        assert not set(sampling_seeds(b, [7, 5], stream).values()) & set(few.values())


def test_the_stable_hash_is_the_same_in_every_process():
    assert stable_hash(1, "evaluation", 7) == 8088699519133187648
    assert stable_hash("first problem", 0) == 7810436404423271496
    assert len({stable_hash(1, 23), stable_hash(12, 3), stable_hash("1", 23)}) == 3
