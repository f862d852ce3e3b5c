"""Countdown: games with solutions, and a verifier that cannot be talked round. Streams, too."""

import copy
import itertools
import operator
import pickle
import random
import re
from fractions import Fraction

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from sfpo_envs import CountdownEnv
from sfpo_envs.countdown import parse_play, uses_numbers

SMALL = {"num_numbers": 3, "max_number": 9, "max_target": 60, "prompt_template": "bare"}


def play(env, seed, reply):
    env.reset(seed=seed)
    observation, reward, terminated, truncated, info = env.step(reply)
    assert (observation, terminated, truncated) == ("", True, False)
    assert type(info["is_success"]) is bool
    return reward, info["is_success"], info["metrics"]


def numbers_and_target(prompt):
    *numbers, target = map(int, re.findall(r"[0-9]+", prompt))
    return numbers, target


@pytest.mark.parametrize(
    "config",
    [SMALL, {**SMALL, "num_numbers": 6, "max_number": 30}, {**SMALL, "operators": "-*"}],
    ids=["small", "six", "no plus"],
)
def test_every_game_is_in_range_and_solved_by_its_own_answer(config):
    env = CountdownEnv(**config)
    for seed in range(100):
        prompt, solution = env.problem(seed)
        numbers, target = numbers_and_target(prompt)
        assert len(numbers) == config["num_numbers"]
        assert all(1 <= number <= config["max_number"] for number in numbers)
        assert 10 <= target <= 60
        assert sorted(map(int, re.findall(r"[0-9]+", solution))) == sorted(numbers)
        assert play(env, seed, solution) == (
            1.0,
            True,
            {"well_formed": 1.0, "uses_right_numbers": 1.0},
        )


def test_an_environment_can_be_copied_within_an_episode():
    env = CountdownEnv(**SMALL)
    env.reset(seed=3)
    twin = copy.deepcopy(env)
    solution = env.problem(3).answer
    assert twin.step(solution) == env.step(solution)
    assert twin.problem(3) == pickle.loads(pickle.dumps(env.problem(3)))


def reachable(values):
    """All values that expressions of all these numbers have, by brute force."""
    if len(values) == 1:
        return set(values)
    found = set()
    for i, j in itertools.permutations(range(len(values)), 2):
        rest = [value for k, value in enumerate(values) if k not in (i, j)]
        for op in (operator.add, operator.sub, operator.mul, operator.truediv):
            if op is not operator.truediv or values[j]:
                found |= reachable([*rest, op(values[i], values[j])])
    return found


def test_the_verifier_agrees_with_brute_force_over_exact_fractions():
    env = CountdownEnv(**SMALL)
    rng = random.Random(0)
    for seed in range(20):
        numbers, target = numbers_and_target(env.problem(seed).prompt)
        assert target in reachable([Fraction(number) for number in numbers])
        a, b, c = rng.sample(numbers, 3)
        for first, second in itertools.product("+-*/", repeat=2):
            for text in (f"({a}{first}{b}){second}{c}", f"{a}{first}({b}{second}{c})"):
                try:
                    value = eval(re.sub(r"[0-9]+", r"Fraction(\g<0>)", text))
                except ZeroDivisionError:
                    value = None
                assert play(env, seed, text)[0] == float(value == target), text


def test_fractions_on_the_way_are_exact():
    expression = parse_play("8/(3-8/3)", "+-*/")
    assert expression.value == 24
    assert uses_numbers(expression, [3, 3, 8, 8], use_all=True)


@pytest.mark.parametrize(
    ("reply", "metrics"),
    [
        ("2*2*6", (1.0, 0.0)),
        ("18+0", (1.0, 0.0)),
        ("24", (1.0, 0.0)),
        ("4!", (0.0, 0.0)),
        ("4**2", (0.0, 0.0)),
        ("the answer is 24", (0.0, 0.0)),
        ("", (0.0, 0.0)),
        ("\ud800\x00", (0.0, 0.0)),
        ("__import__('os').system('false')", (0.0, 0.0)),
        ("9**9**9**9", (0.0, 0.0)),
        ("(" * 10**6, (0.0, 0.0)),
    ],
)
def test_wrong_and_hostile_replies_earn_nothing(reply, metrics):
    reward, is_success, got = play(CountdownEnv(**SMALL), 0, reply)
    assert (reward, is_success) == (0.0, False)
    assert (got["well_formed"], got["uses_right_numbers"]) == metrics


def test_using_all_numbers_is_a_setting():
    for use_all in (True, False):
        env = CountdownEnv(**SMALL, use_all=use_all, operators="+", min_target=3)
        for seed in range(20):
            numbers, _ = numbers_and_target(env.problem(seed).prompt)
            assert play(env, seed, str(numbers[0]))[2]["uses_right_numbers"] == float(not use_all)
            twice = "+".join(map(str, [numbers[0]] * (1 + numbers.count(numbers[0]))))
            assert play(env, seed, twice)[2]["uses_right_numbers"] == 0.0


def test_only_the_named_operators_are_allowed_and_signs_need_the_minus():
    assert parse_play("-3+5", "+-") is not None
    assert parse_play("-3+5", "+*") is None
    assert parse_play("3*5", "+-") is None


def test_the_format_is_rewarded_on_request():
    env = CountdownEnv(**SMALL, format_reward=0.1)
    assert play(env, 0, "1+1")[0] == 0.1
    assert play(env, 0, "1+")[0] == 0.0
    assert play(env, 0, env.problem(0).answer)[0] == 1.0


def test_chat_models_answer_in_tags_and_small_ones_with_the_whole_reply():
    env = CountdownEnv()
    prompt, solution = env.problem(0)
    assert prompt.startswith("Using the numbers [") and "<answer>" in prompt
    assert play(env, 0, f"<think>1+1</think> <answer> {solution} </answer>")[0] == 1.0
    assert play(env, 0, solution)[0] == 0.0
    assert re.fullmatch(r"\d \d \d = \d+\?", CountdownEnv(**SMALL).problem(0).prompt)
    own = CountdownEnv(prompt_template="{numbers} -> {target}\n", extraction="boxed")
    assert play(own, 0, rf"\boxed{{{own.problem(0).answer}}}")[0] == 1.0


# What follows holds for every environment on a stream.


def test_a_seed_decides_the_game_whatever_came_before():
    first, second = CountdownEnv(**SMALL), CountdownEnv(**SMALL)
    for seed in (3, 9, 2, 3, 10**9, 2**63):
        second.reset()
        assert first.reset(seed=seed)[0] == second.reset(seed=seed)[0] == first.problem(seed).prompt
    other = CountdownEnv(**SMALL, problem_seed=1)
    assert [other.problem(s) for s in range(5)] != [first.problem(s) for s in range(5)]


def test_games_never_change():
    # Held-out problems and checkpoints rely on these.
    assert [CountdownEnv(**SMALL).problem(seed).prompt for seed in range(2)] == [
        "8 3 7 = 18?",
        "7 7 7 = 21?",
    ]


def test_an_epoch_of_a_given_size_visits_different_games_each_once():
    env = CountdownEnv(**SMALL, size=100)
    epochs = [[env.problem(100 * epoch + i) for i in range(100)] for epoch in range(2)]
    assert env.num_problems == 100
    assert len({problem.prompt for problem in epochs[0]}) == 100
    assert set(epochs[0]) == set(epochs[1]) == set(env.problems())
    assert epochs[0] != epochs[1]


def test_no_game_is_on_both_sides_not_even_in_another_order():
    config = {**SMALL, "max_number": 5, "min_target": 1, "max_target": 20}

    def games(split, **options):
        env = CountdownEnv(**config, split=split, **options)
        problems = [env.problem(seed) for seed in range(env.num_problems if options else 300)]
        split_up = (numbers_and_target(problem.prompt) for problem in problems)
        return {(tuple(sorted(numbers)), target) for numbers, target in split_up}

    assert games("train").isdisjoint(games("test"))
    assert games("train", size=100).isdisjoint(games("test", size=20))
    assert len(games("test", size=20)) == 20


def test_a_size_that_is_not_there_is_refused_with_what_is():
    env = CountdownEnv(num_numbers=2, max_number=9, operators="+", size=100)
    with pytest.raises(ValueError, match=r"size=100: \d+ draws gave only \d+ different problems"):
        env.problem(0)


def test_check_env_passes():
    check_env(gymnasium.make("sfpo_envs:sfpo/Countdown-v0").unwrapped)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_numbers": 1}, "num_numbers=1: must be an int from 2 to 20"),
        ({"min_number": 0}, "min_number=0, max_number=99: must be ints from 1 on, in order"),
        ({"max_target": 5}, "min_target=10, max_target=5: must be ints from 1 on, in order"),
        ({"operators": "+^"}, r"operators=.*'\^' is none of \+, -, \*, /"),
        ({"operators": "++"}, "each only once"),
        ({"operators": "+", "max_number": 2}, "none of 10000 games .* has a target in"),
        ({"format_reward": 2}, "format_reward=2: must be from 0 to 1"),
        ({"prompt_template": "{numbers}"}, "prompt_template='{numbers}': must be .*{target}"),
        ({"extraction": "tag"}, "extraction='tag': must be one of"),
        ({"split": "dev"}, "split='dev': must be 'train', 'test' or 'all'"),
        ({"size": 0}, "size=0: must be None or an int"),
        ({"test_fraction": 1}, "test_fraction=1: must be between 0 and 1"),
    ],
)
def test_bad_options_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        CountdownEnv(**config)
