"""The page of recorded rollouts: what is in it, how large it is, and what a browser makes of it."""

import base64
import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Tab, browser, find_chromium
from recorded import ABOUT, group, record
from repository import ROOT
from typer.testing import CliRunner

from sfpo_rllib.commands import rollouts
from sfpo_rllib.commands.output import CommandError
from sfpo_rllib.recordings import RolloutStore
from sfpo_rllib.recordings.page import planes_of, write_page

needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium")
NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> & <b>bold</b> "\'`${1}'


def unpacked(html: str, name: str) -> Any:
    (packed,) = re.findall(rf'id="{name}">([^<]*)<', html)
    content = gzip.decompress(base64.b64decode(packed))
    return content if name.startswith("numbers") else json.loads(content)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(("grpo", "sfpo")):
        record(folder / name, iterations=20, groups=4, run=number)
    return folder / "grpo", folder / "sfpo"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as tab:
        yield tab


def count(tab: Tab) -> str:
    return str(tab.value("document.querySelector('#count').textContent"))


def test_the_page_has_every_episode_and_nothing_of_a_network(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    page = write_page([runs[0]], tmp_path / "page.html")
    html = page.path.read_text()
    assert page.num_episodes == page.num_recorded == 20 * 4 * 8 + 2 * 2 * 8
    assert page.num_bytes == page.path.stat().st_size
    index = unpacked(html, "index")
    rows = [row for part in RolloutStore(runs[0]).parts() for row in part.rows()]
    assert index["episodes"]["reward"] == [row["reward"] for row in rows]
    assert [index["verdicts"][v] for v in index["episodes"]["verdict"]] == [
        row["verdict"] for row in rows
    ]
    assert not re.search(r"(src|href)=|@import|url\(|https?://(?!www\.w3\.org)", html)


def test_numbers_of_tokens_are_kept_to_a_byte_each() -> None:
    row: dict[str, Any] = {
        "tokens": ["prompt", "a", "🙂é", "x" * 300],
        "logprobs": [0.0, -0.5, -40.0, 0.0],
        "old_logps": [np.nan, -0.25, np.nan, -1e-7],
        "entropies": [np.nan, 1.0, np.nan, 0.0],
    }
    low, high, surprise, entropy, difference = (
        np.frombuffer(planes_of(row, 1, 4), np.uint8).reshape(5, 3).astype(float)
    )
    assert (low + 256 * high).tolist() == [1, 3, 300]
    assert (16 * (surprise / 254) ** 2).tolist() == pytest.approx([0.5, 16.0, 0.0], rel=0.03)
    assert entropy[1] == 255 and 16 * (entropy[0] / 254) ** 2 == pytest.approx(1.0, rel=0.03)
    assert difference[1] == 0 and ((difference[0] - 128) / 127) ** 2 == pytest.approx(0.25, rel=0.1)
    assert difference[2] == 128
    nothing = planes_of({**row, "old_logps": None, "entropies": None}, 1, 4)
    assert set(nothing[9:12]) == {255} and set(nothing[12:15]) == {0}


def test_a_page_that_would_be_too_large_has_groups_of_all_iterations(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    whole = write_page(runs, tmp_path / "whole.html")
    page = write_page(runs, tmp_path / "page.html", max_mb=0.6 * whole.num_bytes / 1e6)
    assert page.num_bytes <= 0.6 * whole.num_bytes
    assert whole.num_episodes * 0.3 < page.num_episodes < whole.num_episodes
    groups = unpacked(page.path.read_text(), "index")["groups"]
    for run in (0, 1):
        kept = [i for i, of in zip(groups["iteration"], groups["run"], strict=True) if of == run]
        assert set(kept) >= set(range(2, 20))
    with pytest.raises(ValueError, match=r"max_mb=0.001: must be at least"):
        write_page(runs, tmp_path / "none.html", max_mb=0.001)


def test_the_command_says_what_it_wrote_and_what_it_cannot(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "page.html"
    call = CliRunner().invoke
    done = call(rollouts.app, ["view", *map(str, runs), "-o", str(target)])
    assert done.exit_code == 0 and "1344 episodes" in done.output and target.exists()
    as_json = call(rollouts.app, ["view", str(runs[0]), "-o", str(target), "--json"])
    assert json.loads(as_json.stdout)["episodes"] == 672
    failed = call(rollouts.app, ["view", str(tmp_path), "-o", str(target)])
    assert isinstance(failed.exception, CommandError) and "record_rollouts" in str(failed.exception)


@needs_chromium
def test_one_filters_searches_and_opens_a_group(
    runs: tuple[Path, Path], tab: Tab, tmp_path: Path
) -> None:
    page = write_page([runs[0]], tmp_path / "page.html")
    rows = [row for part in RolloutStore(runs[0]).parts() for row in part.rows()]
    tab.size(1440, 900)
    tab.open(page.path)
    assert count(tab) == "84 groups, 672 episodes match"
    assert tab.value("document.querySelectorAll('.row').length") < 30  # what is in sight

    def groups_of(chosen: list[dict[str, Any]]) -> int:
        return len({(row["iteration"], row["stage"], row["seed"]) for row in chosen})

    def is_failed_evaluation(row: dict[str, Any]) -> bool:
        return row["reward"] < 0.5 and row["stage"] == "evaluation"

    def quotes_the_calculator(row: dict[str, Any]) -> bool:
        return any("The calculator says" in message["content"] for message in row["messages"])

    filters: list[tuple[dict[str, str], Callable[[dict[str, Any]], bool]]] = [
        ({"#verdict": "no_answer"}, lambda row: row["verdict"] == "no_answer"),
        ({"#reward-from": "0.5"}, lambda row: row["reward"] >= 0.5),
        ({"#reward-to": "0.5", "#stage": "evaluation"}, is_failed_evaluation),
        ({"#iteration-from": "3", "#iteration-to": "5"}, lambda row: 3 <= row["iteration"] <= 5),
        ({"#q": "The Calculator says"}, quotes_the_calculator),
        ({"#q": "no such words anywhere"}, lambda row: False),
    ]
    for fields, holds in filters:
        for field, value in fields.items():
            tab.enter(field, value)
        chosen = [row for row in rows if holds(row)]
        assert count(tab) == f"{groups_of(chosen)} groups, {len(chosen)} episodes match", fields
        tab.value("document.querySelector('#clear').click()")
        tab.until("document.documentElement.dataset.busy === 'no'")
    assert count(tab) == "84 groups, 672 episodes match"
    tab.enter("#sort", "-spread")
    tab.value("document.querySelector('.row').click()")
    tab.until("document.documentElement.dataset.open")
    opened = int(tab.value("document.documentElement.dataset.open"))
    index = unpacked(page.path.read_text(), "index")
    first = index["groups"]["first"][opened]
    assert tab.value("document.querySelectorAll('.card').length") == 8
    said = "".join(rows[first]["tokens"][slice(*_span(rows[first]))])
    assert tab.value("document.querySelector('.card .text').textContent") == said
    seen = tab.value("[...document.querySelectorAll('.card .pill')].map(p => p.textContent)")
    words = [row["verdict"].replace("_", " ") for row in rows[first : first + 8]]
    assert [text.lstrip("✓✗ ") for text in seen if text != "cut"] == words
    painted = "[...document.querySelectorAll('.tok')].filter(t => t.style.backgroundColor).length"
    assert tab.value(painted) > 100
    tab.enter("#colour", "none")
    assert tab.value(painted) == 0
    tab.value(
        "document.querySelector('#list').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true}))"
    )
    tab.until(f"document.documentElement.dataset.open !== '{opened}'")
    address = str(tab.value("location.hash"))
    assert "sort=-spread" in address and "colour=none" in address and "open=" in address
    assert tab.errors == []


def _span(row: dict[str, Any]) -> tuple[int, int]:
    reply = next(message for message in row["messages"] if message["turn"] == 0)
    return reply["start"], reply["end"]


@needs_chromium
def test_what_a_model_writes_is_shown_as_text_and_never_run(tab: Tab, tmp_path: Path) -> None:
    rows = group(4, 2, skill=1.0)
    for row in rows:
        row["messages"] = [
            {"role": "system", "content": NASTY, "turn": -1, "start": 0, "end": 0},
            {"role": "assistant", "content": NASTY, "turn": 0, "start": 0, "end": 2},
            {"role": "tool", "content": NASTY, "turn": -1, "start": 0, "end": 0},
        ]
        row |= {"tokens": [NASTY, "🙂"], "verdict": NASTY, "info": json.dumps({"x": NASTY})}
        row |= {name: [0.0, -1.0] for name in ("logprobs", "old_logps", "entropies")}
        row["metrics"] = [(NASTY, 1.0)]
    RolloutStore(tmp_path / NASTY.replace("/", "")).write("training", 1, rows, ABOUT)
    page = write_page([tmp_path / NASTY.replace("/", "")], tmp_path / "page.html")
    assert "alert(" not in page.path.read_text()
    tab.errors.clear()
    tab.requested.clear()
    tab.open(page.path, "open=0")
    assert tab.value("document.querySelector('.prompt .text').textContent") == NASTY
    assert tab.value("document.querySelector('.card .text').textContent") == f"{NASTY}🙂"
    assert tab.value("document.querySelector('.card .env').textContent") == NASTY
    assert tab.value("document.querySelectorAll('img, b > i, #detail script').length") == 0
    assert tab.errors == []
    assert [url for url in tab.requested if not url.startswith(("file:", "about:"))] == []


@needs_chromium
def test_two_runs_stand_next_to_each_other_at_the_same_problem(
    runs: tuple[Path, Path], tab: Tab, tmp_path: Path
) -> None:
    page = write_page(runs, tmp_path / "page.html")
    tab.open(page.path)
    assert count(tab) == "168 groups, 1,344 episodes match"
    tab.enter("#run", "1")
    assert count(tab) == "84 groups, 672 episodes match"
    tab.value("document.querySelectorAll('.row')[3].click()")
    tab.until("document.querySelectorAll('.pair .group').length === 2")
    heads = tab.value("[...document.querySelectorAll('.group > .head')].map(h => h.textContent)")
    assert heads[0].startswith("A grpo") and heads[1].startswith("B sfpo")
    prompts = tab.value("[...document.querySelectorAll('.prompt')].map(p => p.textContent)")
    assert prompts[0] == prompts[1]
    assert tab.errors == []


@needs_chromium
def test_thousands_of_episodes_are_small_and_open_at_once(tab: Tab, tmp_path: Path) -> None:
    record(tmp_path, iterations=20, groups=25, length=4)
    page = write_page([tmp_path], tmp_path / "page.html")
    assert page.num_episodes == page.num_recorded > 4000
    assert page.num_bytes < 12e6
    seconds = tab.open(page.path)
    assert count(tab) == f"504 groups, {page.num_episodes:,} episodes match"
    # A busy machine is many times as slow; docs/rollouts.md has what was measured.
    assert seconds < 10
    tab.enter("#q", "boxed{77")
    assert 0 < int(count(tab).split()[0]) < 504
    assert tab.value("document.querySelectorAll('.row').length") < 30
    assert tab.errors == []


@needs_chromium
@pytest.mark.parametrize(
    ("name", "both", "dark", "fragment"),
    [
        ("rollouts_group.png", False, False, "sort=-spread"),
        ("rollouts_turns.png", False, True, "q=calculator&sort=-spread&colour=entropy"),
        ("rollouts_compare.png", True, False, "stage=training&sort=-spread&colour=surprise"),
    ],
)
def test_the_pictures_of_the_docs_are_what_is_seen(
    runs: tuple[Path, Path],
    tab: Tab,
    tmp_path: Path,
    name: str,
    both: bool,
    dark: bool,
    fragment: str,
) -> None:
    page = write_page(runs if both else runs[:1], tmp_path / "page.html")
    tab.size(1280, 800, dark=dark)
    tab.open(page.path, fragment)
    tab.value("document.querySelectorAll('.row')[1].click()")
    tab.until("document.querySelectorAll('.card').length >= 8")
    back = tab.value("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(246, 247, 249)") != dark
    # SFPO_PICTURES=docs renews those that are committed.
    folder = Path(os.environ.get("SFPO_PICTURES", tmp_path))
    tab.screenshot(folder / name)
    width, height = (int.from_bytes((folder / name).read_bytes()[i : i + 4]) for i in (16, 20))
    assert (width, height) == (1280, 800)
    assert (ROOT / "docs" / name).exists()
    assert tab.errors == []
