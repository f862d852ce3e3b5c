"""Math problems from files: data errors, prompts and rewards."""

import gzip
import json
import os
import pickle

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from sfpo_envs import MathReasoningEnv
from sfpo_envs.dataset import load_math_dataset

SFPO_PROMPT = (
    "Please solve the following math problem: What is 1/2 + 1/4?. The assistant first thinks about "
    "the reasoning process step by step and then provides the user with the answer. Return the "
    "final answer in \\boxed{} tags, for example \\boxed{1}. Let's solve this step by step. "
)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def one(tmp_path):
    row = {"problem": "What is 1/2 + 1/4?", "answer": "\\frac{3}{4}"}
    return write(tmp_path / "one.jsonl", [row])


@pytest.fixture
def many(tmp_path):
    rows = [{"problem": f"{i} plus 1?", "answer": i + 1} for i in range(50)]
    return write(tmp_path / "many.jsonl", rows)


def play(env, reply):
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(reply)
    assert (terminated, truncated) == (True, False)
    return reward, info


def test_consecutive_seeds_visit_each_problem_once_an_epoch(many):
    env = MathReasoningEnv(many, prompt_template="plain")
    epochs = [[env.problem(epoch * 50 + i) for i in range(50)] for epoch in range(2)]
    assert set(epochs[0]) == set(epochs[1]) == {(f"{i} plus 1?", str(i + 1)) for i in range(50)}
    assert epochs[0] != epochs[1]
    assert epochs[0] == list(env.problems())


def test_a_seed_decides_the_problem_and_the_shuffle_seed_the_order(many):
    first, twin = (MathReasoningEnv(many) for _ in range(2))
    other = MathReasoningEnv(many, shuffle_seed=1)
    seeds = [0, 7, 49, 50, 2**63]
    twin.reset(seed=99)
    prompts = [first.reset(seed=seed)[0] for seed in seeds]
    assert prompts == [twin.reset(seed=seed)[0] for seed in seeds]
    assert prompts != [other.reset(seed=seed)[0] for seed in seeds]


def test_prompts_by_name_and_by_text(one):
    def prompt(template):
        return MathReasoningEnv(one, prompt_template=template).problem(0).prompt

    assert MathReasoningEnv(one).problem(0).prompt == prompt("sfpo") == SFPO_PROMPT
    assert prompt("plain") == "What is 1/2 + 1/4?"
    assert prompt("qwen_math") == (
        "What is 1/2 + 1/4?\nPlease reason step by step, "
        "and put your final answer within \\boxed{}."
    )
    assert prompt("boxed").endswith("output the final answer within \\boxed{}.")
    assert prompt("Q: {problem} {x}\nA:") == "Q: What is 1/2 + 1/4? {x}\nA:"


@pytest.mark.parametrize("template", ["spfo", "Solve it!"])
def test_a_template_without_a_problem_is_refused_with_the_names(one, template):
    with pytest.raises(ValueError, match=r"sfpo, qwen_math, boxed, plain, or text .*{problem}"):
        MathReasoningEnv(one, prompt_template=template)


@pytest.mark.parametrize(
    ("reply", "reward", "verdict", "has_answer"),
    [
        ("It is \\boxed{\\frac{3}{4}}.", 1.0, "correct", 1.0),
        ("\\boxed{1} no, \\boxed{0.75}", 1.0, "correct", 1.0),
        ("\\boxed{\\frac{6}{8}}", 1.0, "correct", 1.0),
        ("\\boxed{0.75} no, \\boxed{1}", 0.1, "wrong", 1.0),
        ("It is 3/4.", 0.0, "no_answer", 0.0),
        ("\\boxed{}", 0.0, "no_answer", 0.0),
        ("", 0.0, "no_answer", 0.0),
    ],
)
def test_rewards_of_boxed_answers(one, reply, reward, verdict, has_answer):
    got, info = play(MathReasoningEnv(one, format_reward=0.1), reply)
    assert got == reward
    assert info["is_success"] is (verdict == "correct")
    assert info["verdict"] == verdict
    assert info["metrics"] == {
        "has_answer": has_answer,
        "grader_timeout": 0.0,
        "grader_error": 0.0,
    }


def test_a_wrong_answer_earns_nothing_by_default(one):
    assert play(MathReasoningEnv(one), "\\boxed{1}")[0] == 0.0


def test_the_last_number_counts_when_asked_for(one):
    env = MathReasoningEnv(one, extraction="last_number")
    assert play(env, "1/2 is 2/4, so 3/4.")[0] == 1.0
    assert play(env, "3/4? No: 2")[1]["extracted_answer"] == "2"
    assert play(env, "three quarters")[1]["verdict"] == "no_answer"


def test_a_comparison_that_is_given_up_shows_in_the_metrics_and_earns_nothing(one):
    env = MathReasoningEnv(one, format_reward=0.1, grader_timeout_s=0.5)
    reward, info = play(env, "\\boxed{9^{9^{9^9}}}")
    assert reward == 0.0
    assert info["is_success"] is False
    assert info["metrics"] == {"has_answer": 1.0, "grader_timeout": 1.0, "grader_error": 0.0}


@pytest.mark.parametrize(
    "reply", ["\x00", "\ud800", "\\boxed{\ud800\x00}", "\\boxed{答案}", "{" * 10**5, "\\boxed{$}"]
)
def test_any_reply_is_graded(one, reply):
    assert play(MathReasoningEnv(one), reply)[0] == 0.0


def test_numbers_keep_their_spelling_and_field_names_can_be_chosen(tmp_path):
    path = tmp_path / "named.jsonl"
    path.write_text('{"q": "a", "target": 0.50}\n\n{"q": "b", "target": 7}\r\n')
    env = MathReasoningEnv(path, "plain", problem_field="q", answer_field="target")
    assert set(env.problems()) == {("a", "0.50"), ("b", "7")}


def test_gzipped_files_are_read(many):
    packed = many.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(many.read_bytes()))
    assert list(MathReasoningEnv(packed).problems()) == list(MathReasoningEnv(many).problems())


def test_a_file_is_parsed_once_until_it_changes(many):
    first = load_math_dataset(many)
    assert load_math_dataset(str(many)) is first
    write(many, [{"problem": "new", "answer": "1"}])
    os.utime(many, ns=(0, 0))
    assert load_math_dataset(many).problems == ("new",)


def test_blank_answers_are_an_error_or_are_dropped_and_counted(tmp_path):
    rows = [{"problem": "a", "answer": " "}, {"problem": "b", "answer": "2"}]
    path = write(tmp_path / "blank.jsonl", rows)
    with pytest.raises(ValueError, match=r"blank.jsonl, line 1: .*blank.*skip_blank=True"):
        MathReasoningEnv(path)
    env = MathReasoningEnv(path, skip_blank=True)
    assert (env.num_problems, env.num_skipped) == (1, 1)


GOOD = '{"problem": "a", "answer": "1"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + "{oops\n", "bad.jsonl, line 2: not JSON"),
        (GOOD + "\n[1, 2]\n", "bad.jsonl, line 3: must be a JSON object"),
        ('{"question": "a"}\n', "bad.jsonl, line 1: no field 'problem', only 'question'"),
        ('{"problem": "a"}\n', "bad.jsonl, line 1: no field 'answer', only 'problem'"),
        ('{"problem": "", "answer": "1"}\n', "bad.jsonl, line 1: field 'problem' is blank"),
        ('{"problem": "a", "answer": null}\n', "line 1: field 'answer' must be a string or a num"),
        ('{"problem": "a", "answer": [1]}\n', "line 1: field 'answer' must be a string or a num"),
        ('{"problem": "a", "answer": "%s"}\n' % ("1" * 513), "line 1: field 'answer' is longer"),
        ("", "bad.jsonl: holds no problems"),
        ("\n\n", "bad.jsonl: holds no problems"),
        (b"\xff\xfe\x00", "bad.jsonl: cannot be read"),
    ],
)
def test_bad_data_is_named_by_file_and_line(tmp_path, content, message):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        MathReasoningEnv(path)


def test_files_that_are_missing_or_no_gzip_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"dataset=.*absent.jsonl': must be a file"):
        MathReasoningEnv(tmp_path / "absent.jsonl")
    plain = tmp_path / "plain.jsonl.gz"
    plain.write_text(GOOD)
    with pytest.raises(ValueError, match=r"plain.jsonl.gz: cannot be read"):
        MathReasoningEnv(plain)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"extraction": "box"}, "extraction='box': must be one of boxed, last_number"),
        ({"format_reward": -0.1}, "format_reward=-0.1: must be from 0 to 1"),
        ({"grader_timeout_s": 0}, "grader_timeout_s=0: must be positive"),
    ],
)
def test_bad_options_are_named(one, config, message):
    with pytest.raises(ValueError, match=message):
        MathReasoningEnv(one, **config)


def test_an_environment_can_be_pickled(many):
    env = MathReasoningEnv(many)
    play(env, "\\boxed{x}")
    twin = pickle.loads(pickle.dumps(env))
    assert twin.reset(seed=3)[0] == env.reset(seed=3)[0]


def test_check_env_passes(many):
    check_env(gymnasium.make("sfpo/MathReasoning-v0", dataset=many).unwrapped)
