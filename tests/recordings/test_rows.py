"""Episodes as rows: the dialogue in its turns, and what is shown of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from scripted import Bench, Dialogue

from sfpo_rllib.recordings import RolloutStore, read_rollouts
from sfpo_rllib.recordings.rows import row_of
from sfpo_rllib.recordings.shown import as_text, chosen, printable
from sfpo_rllib.recordings.token_texts import TokenTexts
from sfpo_rllib.rl_modules.char_llama import char_tokenizer

TOKENIZER = char_tokenizer("0123456789+=")


def row(env_class: type = Dialogue, truncated: bool = False, **env: Any) -> dict[str, Any]:
    bench = Bench(TOKENIZER, lambda request: ("12", truncated), env_class=env_class, **env)
    (group,) = bench.run([7]).groups.values()
    return row_of(group[0], TokenTexts(TOKENIZER))


def test_turns_and_what_the_environment_says_between_them_stand_apart() -> None:
    messages = row(num_turns=2)["messages"]
    said = [(message["role"], message["content"], message["turn"]) for message in messages]
    assert said == [
        ("user", "7+=", -1),
        ("assistant", "12", 0),
        ("user", "1=", -1),
        ("assistant", "12", 1),
        ("user", "2=", -1),
    ]
    whole = row(num_turns=2)
    spans = [(m["start"], m["end"]) for m in messages if m["turn"] >= 0]
    assert [whole["tokens"][start:end] for start, end in spans] == [["1", "2", "<eos>"]] * 2
    assert whole["rewards"] == [2.0, 2.0] and whole["reward"] == 4.0
    assert whole["is_success"] is None and whole["verdict"] is None


def test_replies_without_a_token_between_them_have_texts_and_no_tokens() -> None:
    class Silent(Dialogue):
        def step(self, action: str) -> Any:
            _, *rest = super().step(action)
            return "", *rest

    messages = row(Silent, num_turns=2)["messages"]
    assert [(m["content"], m["start"], m["end"]) for m in messages[1:]] == [("12", 0, 0)] * 2


def test_roles_are_those_of_the_environments_messages() -> None:
    class Chat(Dialogue):
        def step(self, action: str) -> Any:
            _, reward, terminated, truncated, _ = super().step(action)
            info = {"verdict": "no_answer", "is_success": False, "odd": {1, 2}, "metrics": {"m": 2}}
            return [{"role": "tool", "content": "5"}], reward, terminated, truncated, info

    result = row(Chat)
    assert [m["role"] for m in result["messages"]] == ["user", "assistant", "tool"]
    assert result["verdict"] == "no_answer" and result["is_success"] == 0.0
    assert result["metrics"] == [("m", 2.0)]
    assert json.loads(result["info"])["odd"] == "{1, 2}"


def test_whatever_an_info_holds_is_recorded_as_json_and_halves_of_characters_are_replaced(
    tmp_path: Path,
) -> None:
    class Odd(Dialogue):
        def step(self, action: str) -> Any:
            _, reward, terminated, truncated, _ = super().step(action)
            circle: list[Any] = []
            circle.append(circle)
            info = {
                "circle": circle,
                "keys": {(1, 2): 3},
                "nan": float("nan"),
                "deep": [{1: object}],
            }
            return "half \ud83d", reward, terminated, truncated, info | {"verdict": "\udc00"}

    result = row(Odd)
    info = json.loads(result["info"], parse_constant=pytest.fail)
    assert info["keys"] == "{(1, 2): 3}" and info["nan"] == "nan"
    assert result["messages"][-1]["content"] == "half ?" and result["verdict"] == "?"
    RolloutStore(tmp_path).write("training", 1, [result], {})
    (read,) = read_rollouts(tmp_path)
    assert read["info"] == result["info"]


def test_an_info_that_is_very_long_is_left_out_and_said_to_be() -> None:
    class Wordy(Dialogue):
        def step(self, action: str) -> Any:
            *rest, _ = super().step(action)
            return *rest, {"page": "x" * 20_000}

    assert "characters" in json.loads(row(Wordy)["info"])["left_out"]


def test_a_shown_reply_has_its_reward_and_steers_no_terminal() -> None:
    shown = row()
    shown["messages"][1]["content"] = "\x1b[2J\x07 done\u202e"
    text = as_text(shown)
    assert text.startswith("reward 2, problem 7\n  prompt:\n    7+=\n  reply:\n")
    assert "\\x1b[2J\\x07 done\\u202e" in text
    assert all(char.isprintable() or char == "\n" for char in text)
    shown["messages"][1]["content"] = "y" * 5000
    assert "[3800 characters]" in as_text(shown) and len(as_text(shown)) < 1500
    assert printable("a\tb\nc") == "a\tb\nc"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([4, 4, 4], [(0, 0), (1, 0)]), ([4], [(0, 0), (0, 1)]), ([1], [(0, 0)]), ([], [])],
)
def test_two_problems_are_shown_where_there_are_two(sizes: list[int], expected: list) -> None:
    assert chosen([range(size) for size in sizes]) == expected
