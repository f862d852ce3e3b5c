import json
from pathlib import Path

import pytest
from evaluations import make_reply

from sfpo_rllib.commands.app import main

SUMS = ["--tasks", "sfpo_envs:sfpo/Arithmetic-v0", "--env-config", '{"split": "test"}']
FEW = ["--limit", "3", "--max-tokens", "4", "--engine", "transformers"]


def run(*args: object) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    return int(ended.value.code or 0)


def test_json_is_all_that_is_on_stdout(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run("evaluate", tiny_model, *SUMS, *FEW, "-k", 2, "--output", output, "--json") == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["settings"]["decoding"] == "sampled" and model["num_sampled"] == 6
    (task,) = model["tasks"].values()
    assert task["num_problems"] == 3 and "avg@2" in task and "pass@2" in task
    assert json.loads((output / "results.json").read_text())["tasks"] == model["tasks"]


def test_several_models_have_a_table_each_and_the_best_is_said(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.symlink_to(tiny_model)
    assert run("evaluate", tiny_model, copy, *SUMS, *FEW, "--output", tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert f"{tiny_model.name}: greedy, 1 sample" in shown.out and "copy: greedy" in shown.out
    assert f"{tiny_model.name} (best)" in shown.out  # of equal ones the first
    assert "3 replies sampled now" in shown.out
    assert "3/3" in shown.err  # progress, where there is no terminal, in lines
    named = str(tmp_path)  # a line that says where the replies are is as long as that path
    assert max(len(line) for line in shown.out.splitlines() if named not in line) <= 100


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--tasks", "gsm8"], "did you mean 'gsm8k'?"),
        (["--tasks", "gsm8k", "--k", "0"], "samples=0: must be an integer >= 1"),
        (["--tasks", "gsm8k", "--data", "gsm8k=/no.jsonl"], "there is no file or folder"),
        (["--tasks", "gsm8k", "--greedy", "--temperature", "0.5"], "temperature=0.5: must be left"),
        (["--tasks", "gsm8k", "--greedy", "-k", "2"], "samples=2: must be 1 with greedy"),
        (["--tasks", "gsm8k", "--engine-kwargs", "[]"], "engine_kwargs=[]: must be a JSON object"),
        (["--tasks", "gsm8k", "--env-config", "{"], "env_config={: must be JSON"),
        (["--preset", "papr"], "preset=papr: must be one of paper"),
        ([], "tasks=None: must say what to evaluate"),
        (["--template", "plain"], "tasks=None: must be said with --data"),
    ],
)
def test_a_mistake_is_one_line(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert run("evaluate", tiny_model, *args) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert shown.err.startswith("sfpo-rllib: ") and message in shown.err


def test_the_papers_protocol_is_a_preset(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", tiny_model, "--preset", "paper", "--data", tmp_path) == 2
    error = capsys.readouterr().err
    assert "tasks=math500: cannot be made" in error and "--data math500=FILE" in error


def test_evaluations_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import asdict

    for name, success in (("a", 0.0), ("b", 1.0)):
        (tmp_path / name).mkdir()
        lines = [json.dumps(asdict(make_reply(p, success=success))) + "\n" for p in range(8)]
        (tmp_path / name / "replies.jsonl").write_text("".join(lines))
        (tmp_path / name / "evaluation.json").write_text('{"settings": {}}')
    plot = tmp_path / "plot.png"
    assert run("compare", tmp_path / "a", tmp_path / "b", "--plot", plot) == 0
    shown = capsys.readouterr().out
    assert "+100.0 [+100.0, +100.0]" in shown and plot.exists()
    assert f"plot: {plot}" in shown.replace("\n", "")
    assert run("compare", tmp_path / "a", tmp_path / "b", "--no-plot", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tasks"]["t"]["num_better"] == [0, 8]
    assert run("compare", tmp_path / "a", tmp_path / "nowhere") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
