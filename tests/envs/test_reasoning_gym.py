"""reasoning-gym's tasks: mixtures, curricula, splits, and scores that can be trained on."""

import builtins
import random
import sys
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from sfpo_envs import ReasoningGymEnv

pytest.importorskip("reasoning_gym")

from reasoning_gym.factory import CURRICULA, DATASETS
from sfpo_envs.reasoning_gym.scoring import gold_answer, score
from sfpo_envs.reasoning_gym.tasks import REFUSED, TaskSpec, make_dataset, parse_tasks

BARE = {"prompt_template": "plain"}


def play(env, seed, reply):
    env.reset(seed=seed)
    observation, reward, terminated, truncated, info = env.step(reply)
    assert (observation, terminated, truncated) == ("", True, False)
    assert type(info["is_success"]) is bool
    return reward, info


@pytest.mark.parametrize(
    ("tasks", "weights"),
    [
        ("gcd", {"gcd": 1}),
        (["gcd", "lcm"], {"gcd": 1, "lcm": 1}),
        ({"gcd": 2.0, "chain_sum": {"max_terms": 3}}, {"gcd": 2, "chain_sum": 1}),
        ({"gcd": {"weight": 3}, "lcm": 0.5}, {"gcd": 3, "lcm": 0.5}),
    ],
)
def test_tasks_are_a_name_or_names_or_weights_or_settings(tasks, weights):
    assert {spec.name: spec.weight for spec in parse_tasks(tasks, None)} == weights


def test_a_mixture_follows_its_weights_and_settings():
    env = ReasoningGymEnv({"gcd": 3.0, "chain_sum": {"min_digits": 2, "max_digits": 2}}, **BARE)
    questions = [env.problem(seed).prompt for seed in range(400)]
    sums = [question for question in questions if "arithmetic" in question]
    assert 60 < len(sums) < 140
    for question in sums:
        assert all(len(term) == 2 for term in question.split(": ")[1].split() if term.isdigit())


def num_terms(**options):
    env = ReasoningGymEnv(**options, **BARE)
    shown = [env.problem(seed).prompt.split(": ")[1] for seed in range(100)]
    return {1 + text.count(" + ") + text.count(" - ") for text in shown}


def test_difficulty_raises_the_level_of_every_curriculum_and_a_task_may_set_its_own():
    assert num_terms(tasks="chain_sum", difficulty=0) == {2}
    assert num_terms(tasks="chain_sum", difficulty=2) == {2, 3, 4}
    assert num_terms(tasks={"chain_sum": {"level": 1}}, difficulty=5) == {2, 3}
    assert num_terms(tasks={"chain_sum": {"level": {"num_terms": 1}}}) == {2, 3}
    assert num_terms(tasks={"chain_sum": {"min_terms": 3, "level": 2}}) == {3, 4}
    assert max(num_terms(tasks="chain_sum", difficulty=999)) == 12


def test_a_seed_decides_task_and_item_whatever_came_before():
    first, second = (ReasoningGymEnv(["gcd", "chain_sum"]) for _ in range(2))
    for seed in (3, 9, 2, 3, 10**9, 2**63):
        second.reset()
        assert first.reset(seed=seed)[0] == second.reset(seed=seed)[0] == first.problem(seed).prompt
    assert first.problem(1) != ReasoningGymEnv(["gcd", "chain_sum"], problem_seed=1).problem(1)


def test_problems_neither_depend_on_the_global_generators_nor_disturb_them():
    env = ReasoningGymEnv(["list_functions", "pool_matrix"])
    made = []
    for global_seed in (1, 2):
        random.seed(global_seed)
        np.random.seed(global_seed)
        before = random.getstate(), np.random.get_state()[1].tolist()
        made.append([env.problem(seed) for seed in range(30)])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert made[0] == made[1]


def test_no_question_is_on_both_sides():
    tiny = {"tasks": {"gcd": {"max_value": 12, "max_numbers": 2}}, **BARE}
    train, test = (ReasoningGymEnv(split=split, **tiny) for split in ("train", "test"))
    questions = [{env.problem(seed).prompt for seed in range(300)} for env in (train, test)]
    assert questions[0] and questions[1]
    assert questions[0].isdisjoint(questions[1])


def test_a_size_is_an_epoch_of_different_questions():
    tiny = {"tasks": {"gcd": {"max_value": 12, "max_numbers": 2}}, **BARE}
    env = ReasoningGymEnv(size=60, **tiny)
    epochs = [[env.problem(60 * epoch + i) for i in range(60)] for epoch in range(2)]
    assert len(set(epochs[0])) == 60
    assert set(epochs[0]) == set(epochs[1])
    with pytest.raises(ValueError, match=r"size=1000: .* only .* different problems"):
        ReasoningGymEnv(size=1000, **tiny).problem(0)


def test_a_pattern_leaves_the_bare_question_and_the_template_shows_it():
    env = ReasoningGymEnv(
        {"chain_sum": {"max_terms": 2, "max_digits": 1}},
        question_pattern=": (.*) =",
        prompt_template="{question}=",
    )
    for seed in range(20):
        prompt, answer = env.problem(seed)
        assert str(eval(prompt.removesuffix("="))) == answer
        assert play(env, seed, answer)[0] == 1.0


def test_the_answer_is_where_the_template_asks_for_it():
    for template, reply, other in [
        ("answer_tags", "so <answer> {} </answer>", "{}"),
        ("DeepSeekZero", "<think>7</think><answer>{}</answer>", "{}"),
        ("boxed", "it is \\boxed{{{}}}", "{}"),
        ("plain", " {}\n", "it is {}"),
        ("Q: {question}\nA: ", "{}", "<answer>{}</answer>"),
    ]:
        env = ReasoningGymEnv("gcd", prompt_template=template)
        answer = env.problem(0).answer
        reward, info = play(env, 0, reply.format(answer))
        assert (reward, info["is_success"], info["task"]) == (1.0, True, "gcd")
        assert info["metrics"] == {"score": 1.0, "has_answer": 1.0, "scorer_error": 0.0}
        assert play(env, 0, other.format(answer))[0] == 0.0
    env = ReasoningGymEnv("gcd", prompt_template="plain", extraction="last_number")
    assert play(env, 0, f"I say {env.problem(0).answer}.")[0] == 1.0


# Every task, without those whose data sets or items take seconds to make.
SLOW = {"acre", "futoshiki", "intermediate_integration", "knight_swap", "puzzle24", "quantum_lock"}
QUICK = sorted(set(DATASETS) - set(REFUSED) - SLOW)
UNKNOWN = {"boxnet", "rush_hour"}  # tasks without a known answer


@pytest.fixture(scope="module")
def entries():
    datasets = {name: make_dataset(TaskSpec(name), 0) for name in QUICK}
    return {name: (dataset, dataset[7]) for name, dataset in datasets.items()}


def test_every_task_pays_its_own_answer_in_full(entries):
    for name, (dataset, entry) in entries.items():
        answer = gold_answer(entry)
        expected = (0.0, False) if name in UNKNOWN else (1.0, False)
        assert score(dataset, entry, answer) == expected, name
        assert entry["metadata"]["source_dataset"] == name


def test_no_answer_scores_nothing_anywhere(entries):
    for name, (dataset, entry) in entries.items():
        assert score(dataset, entry, None) == (0.0, False), name


def test_saying_the_answer_among_other_things_is_not_paid(entries):
    for name in ("chain_sum", "gcd", "letter_counting"):
        dataset, entry = entries[name]
        text = f"It is {entry['answer']} or so"
        assert 0 < dataset.score_answer(text, entry) < 1
        assert score(dataset, entry, text)[0] == 0.0


HOSTILE = [
    "",
    "?",
    "\x00\ud800",
    "[" * 5000,
    "9" * 5000,
    "9**9**9**9",
    "((9**99)**99)**99",
    "9999999!",
    "1e999999999",
    "NaN",
    "R999999999",
    "x" + "**9" * 50,
    "(x+1)**99**99",
    "{" * 900 + "}" * 900,
    "a" * 10**6,
    "[[]] * 10**9",
    "__import__('builtins').hacked.append(1)",
    "[[__import__('builtins').hacked.append(1)]]",
    "x + __import__('builtins').hacked.append(1)",
    "(lambda: __import__('builtins').hacked.append(1))()",
]


def test_hostile_answers_cost_little_run_nothing_and_are_never_right(entries, monkeypatch):
    monkeypatch.setattr(builtins, "hacked", [], raising=False)
    for name, (dataset, entry) in entries.items():
        for text in HOSTILE:
            started = time.perf_counter()
            value, failed = score(dataset, entry, text)
            assert time.perf_counter() - started < 1, (name, text[:40])
            assert 0 <= value < 1, (name, text[:40])
            assert type(failed) is bool
    assert builtins.hacked == []


def test_scorers_that_evaluate_get_only_what_is_harmless(entries, monkeypatch):
    monkeypatch.setattr(builtins, "hacked", [], raising=False)
    attack = "__import__('builtins').hacked.append(1)"
    for name in ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion"):
        dataset, entry = entries[name]
        dataset.score_answer(attack, entry)
        assert builtins.hacked, f"{name} no longer evaluates replies: its guard can go"
        builtins.hacked.clear()
        score(dataset, entry, attack)
        assert not builtins.hacked
    dataset, entry = entries["spiral_matrix"]
    as_list = str([int(number) for number in entry["answer"].split()])
    assert score(dataset, entry, as_list) == (0.1, False)
    dataset, entry = entries["simple_integration"]
    assert score(dataset, entry, f"({entry['answer']}) + 0")[0] == 1.0
    dataset, entry = entries["rubiks_cube"]
    assert score(dataset, entry, "R9999999999") == (0.0, False)


def test_countdown_is_scored_exactly_and_safely(entries):
    dataset, entry = entries["countdown"]
    numbers, answer = entry["metadata"]["numbers"], entry["answer"]
    assert score(dataset, entry, f"({answer})") == (1.0, False)
    assert score(dataset, entry, f"{answer}+0") == (0.0, False)
    assert score(dataset, entry, "+".join(map(str, numbers)))[0] in (0.0, 1.0)


def test_a_scorer_that_raises_is_a_metric():
    env = ReasoningGymEnv("prime_factorization", **BARE)
    reward, info = play(env, 0, "nonsense")
    assert (reward, info["is_success"]) == (0.0, False)
    assert info["metrics"] == {"score": 0.0, "has_answer": 1.0, "scorer_error": 1.0}


@pytest.mark.parametrize(("said", "kept"), [(7.0, 1.0), (-3, 0.0), (float("nan"), 0.0)])
def test_scores_are_clipped(entries, monkeypatch, said, kept):
    dataset, entry = entries["gcd"]
    monkeypatch.setattr(dataset, "score_answer", lambda *_: said)
    assert score(dataset, entry, "1000001") == (kept, said != said)


def test_partial_credit_is_a_setting():
    word = {"tasks": {"spell_backward": {"min_word_len": 8}}, **BARE}
    strict, lenient = (ReasoningGymEnv(**word, partial_credit=partial) for partial in (False, True))
    answer = strict.problem(0).answer
    nearly = answer[:-1] + ("a" if answer[-1] != "a" else "b")
    assert play(strict, 0, nearly)[0] == 0.0
    reward, info = play(lenient, 0, nearly)
    assert 0.5 < reward < 1
    assert info["is_success"] is False
    assert play(lenient, 0, answer)[0] == play(strict, 0, answer)[0] == 1.0


def test_every_curriculum_has_levels_that_work():
    for name in ("chain_sum", "gcd", "countdown", "spell_backward", "basic_arithmetic"):
        assert name in CURRICULA
        for difficulty in (0, 1, 3):
            assert ReasoningGymEnv(name, difficulty=difficulty, **BARE).problem(0).prompt


def test_check_env_passes():
    check_env(gymnasium.make("sfpo_envs:sfpo/ReasoningGym-v0", tasks="gcd").unwrapped)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match=r"pip install 'reasoning-gym==0\.1\.25'"):
        ReasoningGymEnv("gcd")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tasks": "chain_sums"}, "there is no 'chain_sums'; did you mean 'chain_sum'"),
        ({"tasks": []}, r"tasks=\[\]: must name at least one"),
        ({"tasks": "codeio"}, "'codeio' is not offered: it runs the programs"),
        ({"tasks": ["composite"]}, "'composite' is not offered: give its parts"),
        ({"tasks": "game_of_life_halting"}, "is not offered: its scorer"),
        ({"tasks": {"gcd": {"max_num": 2}}}, "gcd has no setting 'max_num'; did you mean 'max_num"),
        ({"tasks": {"gcd": {"seed": 2}}}, "seed of gcd: is an option of the environment"),
        ({"tasks": {"gcd": 0}}, "weight=0 of gcd: must be a positive number"),
        ({"tasks": {"gcd": {"max_numbers": 0}}}, "gcd refuses {'max_numbers': 0}: "),
        ({"tasks": {"gcd": {"level": -1}}}, "level of gcd=-1: must be an int from 0 on"),
        (
            {"tasks": {"gcd": {"level": {"value": 99}}}},
            "level 99 of 'value' of gcd: must be an int",
        ),
        (
            {"tasks": {"gcd": {"level": {"values": 1}}}},
            "no level of 'values'; did you mean 'value'",
        ),
        ({"tasks": "gcd", "difficulty": -1}, "difficulty=-1: must be an int from 0 on"),
        (
            {"tasks": "gcd", "prompt_template": "boxd"},
            "prompt_template='boxd': did you mean 'boxed'",
        ),
        ({"tasks": "gcd", "extraction": "tag"}, "extraction='tag': must be one of"),
        ({"tasks": "gcd", "question_pattern": "x(y)z"}, "question_pattern='x.y.z': has no group"),
        ({"tasks": "gcd", "problem_seed": -1}, "problem_seed=-1: must be an int from 0"),
    ],
)
def test_bad_options_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        ReasoningGymEnv(**config)
