"""Evaluations from end to end: a tiny model or scripted replies, without ray."""

import json
import os
import signal
import string
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from evaluations import make_reply, write_checkpoint, write_problems, write_run
from parrot import Parrot

from sfpo_rllib.evals import Evaluation, Reply, Task, Watcher, evaluate, find_models, math_task
from sfpo_rllib.evals.evaluate import best_of
from sfpo_rllib.evals.replies import REPLIES, ReplyStore, read_replies
from sfpo_rllib.rl_modules.char_llama import build_char_llama
from sfpo_rllib.rl_modules.lora import write_adapter

SUMS = Task("sums", "sfpo_envs:sfpo/Arithmetic-v0", {"num_digits": 2, "split": "test"})
SETTINGS: dict[str, Any] = {
    "engine": "transformers",
    "limit": 6,
    "samples": 4,
    "sampling": {"max_tokens": 5},
}


class Counter(Watcher):
    """Counts replies, and ends the evaluation after some."""

    def __init__(self, most: int | None = None) -> None:
        self.replies: list[Reply] = []
        self.most = most
        self.num_loads = 0

    def loading(self, model: object) -> None:
        self.num_loads += 1

    def replied(self, reply: Reply) -> None:
        self.replies.append(reply)
        if len(self.replies) == self.most:
            raise KeyboardInterrupt


def texts(evaluation: Evaluation) -> dict[tuple[str, int, int], str]:
    return {reply.key: reply.reply for reply in read_replies(evaluation.folder)}


def test_a_killed_evaluation_samples_and_grades_nothing_twice(
    tiny_model: Path, tmp_path: Path
) -> None:
    models = find_models(tiny_model)
    (whole,) = evaluate(models, [SUMS], output=tmp_path / "whole", **SETTINGS)
    first = Counter(most=9)  # in the midst of a problem
    with pytest.raises(KeyboardInterrupt):
        evaluate(models, [SUMS], output=tmp_path / "cut", watcher=first, **SETTINGS)
    with open(tmp_path / "cut" / REPLIES, "a") as file:
        file.write('{"task": "sums", "problem": 5, "sam')  # what a kill leaves of a line
    second = Counter()
    (cut,) = evaluate(models, [SUMS], output=tmp_path / "cut", watcher=second, **SETTINGS)
    assert len(first.replies) + len(second.replies) == 24 == len(read_replies(cut.folder))
    assert not {r.key for r in first.replies} & {r.key for r in second.replies}
    assert texts(cut) == texts(whole) and cut.mean == whole.mean
    assert (whole.num_sampled, cut.num_sampled) == (24, 15)

    again = Counter()
    (same,) = evaluate(models, [SUMS], output=tmp_path / "cut", watcher=again, **SETTINGS)
    assert (again.num_loads, same.num_sampled) == (0, 0)
    assert same.mean == cut.mean


def test_a_process_that_is_killed_is_gone_on_from(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "sfpo_rllib", "evaluate", str(tiny_model)]
    command += ["--tasks", SUMS.env, "--env-config", json.dumps(SUMS.env_config), "-k", "4"]
    command += ["--engine", "transformers", "--max-tokens", "60", "--output", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (folder / REPLIES).exists() or not (folder / REPLIES).stat().st_size:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = [reply for reply in read_replies(folder) if reply.problem < 50]
    assert 0 < len(there) < 200
    watcher = Counter()
    settings = {"engine": "transformers", "samples": 4, "sampling": {"max_tokens": 60}}
    task = Task(SUMS.env, SUMS.env, SUMS.env_config)
    evaluate(find_models(tiny_model), [task], output=folder, watcher=watcher, limit=50, **settings)
    keys = [reply.key for reply in (*there, *watcher.replies)]
    assert len(keys) == len(set(keys)) == 200


def test_more_problems_and_samples_keep_those_that_there_are(
    tiny_model: Path, tmp_path: Path
) -> None:
    models = find_models(tiny_model)
    small = {**SETTINGS, "limit": 3, "samples": 2, "sampling": {"temperature": 1, "max_tokens": 5}}
    (before,) = evaluate(models, [SUMS], output=tmp_path, **small)
    old = texts(before)
    (after,) = evaluate(models, [SUMS], output=tmp_path, **SETTINGS)
    assert after.num_sampled == 24 - 6
    assert old.items() <= texts(after).items()
    (few,) = evaluate(models, [SUMS], output=tmp_path, **small)  # and they count alone again
    assert few.num_sampled == 0 and few.mean == before.mean


def test_weights_of_a_checkpoint_are_what_replies(tiny_model: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"model_config": {"model": str(tiny_model)}})
    for i, scale in ((1, 1.0), (2, 3.0)):
        place = run / f"checkpoint_{i:06d}"
        write_checkpoint(place, tiny_model, scale=scale, flag=tmp_path / "flag")
    models = find_models(run, checkpoint="all")
    same, other = evaluate(models, [SUMS], output=tmp_path / "out", **SETTINGS)
    (own,) = evaluate(find_models(tiny_model), [SUMS], output=tmp_path / "own", **SETTINGS)
    assert texts(same) == texts(own) != texts(other)
    assert not (tmp_path / "flag").exists()
    assert (same.folder, other.folder) == (
        tmp_path / "out" / "run_checkpoint_000001",
        tmp_path / "out" / "run_checkpoint_000002",
    )


def test_weights_of_another_model_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    wide = build_char_llama(tmp_path / "wide", alphabet="0123456789+=", hidden_size=64)
    place = write_checkpoint(tmp_path / "mine", tiny_model, scale=1.0, flag=tmp_path / "flag")
    models = find_models(place, base_model=str(wide))
    with pytest.raises(ValueError, match=r"its weights are not those of '.*wide'"):
        evaluate(models, [SUMS], output=tmp_path / "out", **SETTINGS)


def test_an_adapter_is_what_replies(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    generator = torch.Generator().manual_seed(0)
    weights = {
        name.format("A"): torch.randn(4, 32, generator=generator),
        name.format("B"): torch.randn(32, 4, generator=generator),
    }
    replies = []
    for scale in (0.0, 5.0):
        folder = tmp_path / f"adapter_{scale:g}"
        scaled = {**weights, name.format("B"): scale * weights[name.format("B")]}
        settings = {"r": 4, "target_modules": ["q_proj"]}
        write_adapter(folder, scaled, settings, base_model=str(tiny_model))
        (result,) = evaluate(
            find_models(folder), [SUMS], output=tmp_path / f"out_{scale:g}", **SETTINGS
        )
        replies.append(texts(result))
    (base,) = evaluate(find_models(tiny_model), [SUMS], output=tmp_path / "base", **SETTINGS)
    assert replies[0] == texts(base) != replies[1]


def test_a_dialogue_that_is_cut_before_the_verdict_is_no_success(
    writer: Path, tmp_path: Path
) -> None:
    task = Task("chat", LongTalk, num_problems=1)
    (result,) = evaluate(
        find_models(writer),
        [task],
        output=tmp_path,
        engine=Parrot,
        engine_kwargs={"says": {"": ["x" * 3000, "1", "x" * 3000]}},
        samples=2,
    )
    assert result.mean["avg@2"].value == 0.5
    assert {reply.truncated for reply in read_replies(tmp_path)} == {False, True}


class LongTalk(gym.Env):
    """Asks twice; a long reply to the first question leaves no room for one to the second."""

    observation_space = action_space = gym.spaces.Text(10_000)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return "?", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action == "1":
            return "", 1.0, True, False, {"is_success": True}
        return "?" * 2000, 0.0, False, False, {}


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose characters are all that one can write."""
    folder = tmp_path_factory.mktemp("writer")
    return build_char_llama(folder, alphabet=string.printable, max_length=4096)


def judged(writer: Path, folder: Path, says: dict[str, list[str]], **options: Any) -> Evaluation:
    """What replies to the problems P0, P1 and so on come to, whose answer is 1/2."""
    folder.mkdir(exist_ok=True)
    problems = write_problems(folder / "problems.jsonl", ["1/2"] * len(says))
    (evaluation,) = evaluate(
        find_models(writer),
        [math_task("halves", str(problems), **options)],
        output=folder / "out",
        engine=Parrot,
        engine_kwargs={"says": says},
        samples=len(says["P0."]),
    )
    return evaluation


def test_answers_vote_by_what_they_are_not_by_how_they_are_written(
    writer: Path, tmp_path: Path
) -> None:
    halves = [r"\boxed{0.5}", r"\boxed{\frac{1}{2}}", r"\boxed{1/2}"]
    says = {
        "P0.": [*halves, r"\boxed{3}", r"\boxed{3}"],
        "P1.": [halves[0], halves[1], r"\boxed{3}", r"\boxed{\frac{6}{2}}", r"\boxed{3.0}"],
        "P2.": [halves[0], "nothing", "nothing", "", r"\boxed{}"],
    }
    result = judged(writer, tmp_path, says)
    values = {name: number.value for name, number in result.mean.items()}
    assert values["avg@5"] == pytest.approx((3 + 2 + 1) / 15)
    assert values["maj@5"] == pytest.approx((1 + 0 + 1) / 3)
    assert values["pass@5"] == 1.0 and values["pass@2"] == pytest.approx((0.9 + 0.7 + 0.4) / 3)
    replies = read_replies(result.folder)
    assert {reply.gold for reply in replies} == {"1/2"}
    assert {reply.reply for reply in replies} == {text for said in says.values() for text in said}
    assert result.scores["halves"].counts["verdicts"] == {"correct": 6, "wrong": 5, "no_answer": 4}


@pytest.mark.parametrize(
    ("grader", "right", "others", "share"),
    [
        ("numeric", "0.5", ["3", "3.00", "3.000"], 0.0),
        ("exact", "1/2", ["x y", "x  y", "x\ny"], 0.0),
        ("exact", "1/2", ["x", "y", "z"], 1.0),
        (lambda reply, gold: reply == gold, "1/2", ["x y", "x  y", "x\ny"], 0.0),
        (lambda reply, gold: reply == gold, "1/2", ["x", "x", "z"], 0.5),
    ],
)
def test_every_grader_has_a_vote(
    writer: Path, tmp_path: Path, grader: Any, right: str, others: list[str], share: float
) -> None:
    says = {"P0.": [right, right, *others]}
    result = judged(writer, tmp_path, says, extraction="whole", grader=grader)
    assert (result.mean["avg@5"].value, result.mean["maj@5"].value) == (0.4, share)


def test_a_problem_that_fails_is_dropped_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    task = Task("echo", "my_pkg.envs.task:mine/Echo-v0", {"raise_every": 3})
    (result,) = evaluate(find_models(tiny_model), [task], output=tmp_path, **SETTINGS)
    counts = result.scores["echo"].counts
    assert (counts["num_problems"], counts["num_dropped"]) == (4, 2)
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["dropped"]["echo"].keys() == {"0", "3"}


def test_the_turns_of_a_dialogue_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    task = Task("echo", "my_pkg.envs.task:mine/Echo-v0", {"turns": 2})
    settings = {**SETTINGS, "samples": 1}
    (result,) = evaluate(find_models(tiny_model), [task], output=tmp_path, **settings)
    for reply in read_replies(result.folder):
        assert reply.dialogue is not None and len(reply.dialogue) == 4
        assert reply.dialogue[2] == reply.reply and reply.num_tokens > 1


def test_replies_of_other_settings_are_not_mixed(tiny_model: Path, tmp_path: Path) -> None:
    models = find_models(tiny_model)
    evaluate(models, [SUMS], output=tmp_path, **SETTINGS)
    for other, field in (
        ({"seed": 1}, "seed=1: must be 0"),
        ({"sampling": {"max_tokens": 9}}, "max_tokens=9: must be 5"),
        ({"sampling": {"temperature": 0.5, "max_tokens": 5}}, "temperature=0.5: must be 1.0"),
        ({"dtype": "bfloat16"}, "dtype='bfloat16': must be 'float32'"),
    ):
        with pytest.raises(ValueError) as raised:
            evaluate(models, [SUMS], output=tmp_path, **{**SETTINGS, **other})
        assert field in str(raised.value) and "give another --output" in str(raised.value)
    harder = SUMS.with_options({"num_digits": 3})
    with pytest.raises(ValueError, match=r"tasks.sums.env_config.num_digits=3: must be 2"):
        evaluate(models, [harder], output=tmp_path, **SETTINGS)
    bigger = build_char_llama(tmp_path / "model", alphabet="0123456789+=", hidden_size=64)
    with pytest.raises(ValueError, match=r"model: must be the one that the replies are of"):
        evaluate(find_models(bigger), [SUMS], output=tmp_path, **SETTINGS)


@pytest.mark.parametrize("config", ["{}", "no JSON"])
def test_a_folder_that_is_no_model_after_all_is_said_in_one_line(
    tmp_path: Path, config: str
) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=r"cannot be loaded with engine=transformers: ") as raised:
        evaluate(find_models(tmp_path), [SUMS], output=tmp_path / "out", **SETTINGS)
    assert "\n" not in str(raised.value)


def test_two_processes_do_not_evaluate_in_one_folder(tmp_path: Path) -> None:
    record: dict[str, Any] = {"model": {}, "settings": {}, "tasks": {}}
    with ReplyStore(tmp_path, record), pytest.raises(ValueError, match="no other process"):
        ReplyStore(tmp_path, record)
    ReplyStore(tmp_path, record).__exit__()


def test_settings_of_an_evaluation_without_replies_bind_nobody(tmp_path: Path) -> None:
    for seed in (0, 1):
        ReplyStore(tmp_path, {"model": {}, "settings": {"seed": seed}, "tasks": {}}).__exit__()
    store = ReplyStore(tmp_path, {"model": {}, "settings": {"seed": 2}, "tasks": {}})
    with store:
        store.add(make_reply(0))
    with pytest.raises(ValueError, match="seed=3: must be 2"):
        ReplyStore(tmp_path, {"model": {}, "settings": {"seed": 3}, "tasks": {}})


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (REPLIES, "{}", "has a replies.jsonl and no evaluation.json"),
        ("evaluation.json", "[]", "its evaluation.json is none"),
        ("evaluation.json", "{", "its evaluation.json is none"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, name: str, content: str, why: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=why):
        ReplyStore(tmp_path, {"model": {}, "settings": {}, "tasks": {}})
    assert (tmp_path / name).read_text() == content


def test_an_environment_without_an_end_needs_a_limit(tiny_model: Path, tmp_path: Path) -> None:
    task = Task("countdown", "sfpo_envs:sfpo/Countdown-v0")
    with pytest.raises(ValueError, match=r"limit=None: .* countdown, which has no end"):
        evaluate(find_models(tiny_model), [task], output=tmp_path, **{**SETTINGS, "limit": None})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples=0: must be an integer >= 1"),
        ({"limit": 0}, "limit=0: must be an integer >= 1"),
        ({"sampling": {"temperature": -1}}, r"sampling\['temperature'\]=-1: must be"),
        ({"sampling": {"temperature": 0}}, "samples=4: must be 1 with greedy decoding"),
        ({"samples": 1, "sampling": {"top_p": 0.5}}, "top_p=0.5: must be 1 with greedy"),
        ({"sampling": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"engine": "vlm"}, "engine='vlm': must be one of"),
        ({"engine_kwargs": {"max_batch": 1}}, "did you mean 'max_batch_size'"),
        ({"sample": 3}, "no such setting; did you mean 'samples'"),
    ],
)
def test_wrong_settings_are_named_before_anything_starts(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(
            find_models(tiny_model), [SUMS], output=tmp_path / "out", **{**SETTINGS, **settings}
        )
    assert not (tmp_path / "out").exists()


def test_one_reply_is_greedy_and_several_are_sampled(tiny_model: Path, tmp_path: Path) -> None:
    models = find_models(tiny_model)
    settings = {"engine": "transformers", "limit": 2, "sampling": {"max_tokens": 3}}
    for samples, decoding in ((1, "greedy"), (2, "sampled")):
        (result,) = evaluate(
            models, [SUMS], output=tmp_path / decoding, samples=samples, **settings
        )
        assert result.as_json()["settings"]["decoding"] == decoding
    evaluate(models, [SUMS], output=tmp_path / "again", **settings, seed=7)
    first, again = (read_replies(tmp_path / name) for name in ("greedy", "again"))
    assert [reply.reply for reply in first] == [reply.reply for reply in again]


def test_the_best_is_the_one_with_the_highest_mean_over_tasks(writer: Path, tmp_path: Path) -> None:
    tasks = [
        math_task("one", str(write_problems(tmp_path / "one.jsonl", ["1"]))),
        math_task("three", str(write_problems(tmp_path / "three.jsonl", ["1", "1", "1"]))),
    ]
    results = []
    for name, replies in (("a", ["0", "1", "1", "0"]), ("b", ["1", "0", "0", "0"])):
        says = {"P": [rf"\boxed{{{reply}}}" for reply in replies]}
        settings: dict[str, Any] = {"engine": Parrot, "engine_kwargs": {"says": says}}
        results += evaluate(find_models(writer), tasks, output=tmp_path / name, **settings)
    assert [each.average for each in results] == pytest.approx([1 / 3, 1 / 2])
    assert best_of(results) is results[1] and best_of([]) is None
