"""Recorded rollouts as one HTML file: what a browser shows of them, without a network.

The page has its data as gzip in base64, in parts that it unpacks when they are needed: an index of
all episodes at once, texts behind that, and numbers of tokens when a group is opened. None of it is
ever HTML: the page sets texts as texts.
"""

import base64
import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from sfpo_rllib.local_paths import local_path
from sfpo_rllib.recordings.store import Part, find_parts

MAX_MB = 30.0
_SCRIPTS = ("data.js", "colours.js", "filters.js", "list.js", "group.js", "main.js")
_COLUMNS = (
    "seed", "member", "reward", "rewards", "is_success", "verdict", "advantage", "truncated",
    "weights_versions", "messages", "tokens", "logprobs", "old_logps", "entropies", "metrics",
    "info",
)  # fmt: skip
_BLOCK = 1 << 20  # characters of text in a part
_PREVIEW = 160  # characters of a prompt in the list
_LEAST_BYTES = 2.0  # that a token takes in the page; what is built first is not much too large
ABSENT = 255
MOST_NATS = 16.0


@dataclass(frozen=True)
class Page:
    """What was written.

    Attributes:
        path: The file.
        num_episodes: In it.
        num_recorded: In the runs; more, if the page would have been larger than allowed.
        num_bytes: Of the file.
    """

    path: Path
    num_episodes: int
    num_recorded: int
    num_bytes: int


def write_page(runs: Sequence[str | Path], path: str | Path, *, max_mb: float = MAX_MB) -> Page:
    """Writes the page of one run, or of two next to each other.

    Args:
        runs: Folders; see `store.find_parts`.
        path: The HTML file.
        max_mb: Of groups that would make it larger, in 10^6 bytes, some are left out, evenly over
            the iterations.

    Raises:
        ValueError: If there is nothing to show, or no page of that size.
    """
    path = local_path("output", path)
    parts = [find_parts(run) for run in runs]
    recorded = sum(part.num_episodes for of_run in parts for part in of_run)
    most = max_mb * 1e6
    num_tokens = sum(part.num_tokens for of_run in parts for part in of_run)
    share = min(1.0, most / max(num_tokens * _LEAST_BYTES, 1.0))
    while True:
        contents = _Contents(_names(runs), recorded)
        for number, of_run in enumerate(parts):
            contents.add_run(number, of_run, share)
        html = contents.html()
        if len(html) <= most:
            break
        if not contents.num_episodes:
            raise ValueError(f"max_mb={max_mb:g}: must be at least {len(html) / 1e6:.1f}")
        share *= 0.95 * most / len(html)
    path.write_bytes(html)
    return Page(path, contents.num_episodes, recorded, len(html))


def _names(runs: Sequence[str | Path]) -> list[str]:
    paths = [Path(run).resolve() for run in runs]
    paths = [path.parent if path.name == "rollouts" else path for path in paths]
    short = [path.name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


@dataclass
class _Contents:
    """What the page is given, as it grows.

    `groups` and `episodes` are columns, as rows of names would be many times as large.
    """

    names: list[str]
    num_recorded: int
    runs: list[dict[str, Any]] = field(default_factory=list)
    groups: dict[str, list[Any]] = field(
        default_factory=lambda: {
            name: []
            for name in ("run", "stage", "iteration", "seed", "first", "count", "block", "prompt")
        }
    )
    episodes: dict[str, list[Any]] = field(
        default_factory=lambda: {
            name: []
            for name in (
                "member", "reward", "success", "verdict", "advantage", "tokens", "truncated"
            )
        }
    )  # fmt: skip
    verdicts: list[str] = field(default_factory=list)
    blocks: list[tuple[str, str]] = field(default_factory=list)
    _texts: list[Any] = field(default_factory=list)
    _num_chars: int = 0
    _planes: list[bytes] = field(default_factory=list)

    @property
    def num_episodes(self) -> int:
        return len(self.episodes["reward"])

    def add_run(self, number: int, parts: Sequence[Part], share: float) -> None:
        """Adds a run's groups, or evenly a share of them."""
        about = parts[-1].about
        self.runs.append(
            {"name": self.names[number], "algorithm": about.get("algorithm", ""),
             "env": about.get("env_name", "")}
        )  # fmt: skip
        seen = 0
        for part in parts:
            for _, rows in groupby(part.rows(_COLUMNS), key=lambda row: row["seed"]):
                seen += 1
                if math.floor(seen * share) > math.floor((seen - 1) * share):
                    self._add_group(number, part, list(rows))

    def _add_group(self, run: int, part: Part, rows: list[dict[str, Any]]) -> None:
        prompt = _prompt(rows[0])
        text = " ".join(message["content"] for message in prompt)
        values = {
            "run": run,
            "stage": part.stage,
            "iteration": part.iteration,
            "seed": str(rows[0]["seed"]),  # JavaScript's numbers end at 2^53
            "first": self.num_episodes,
            "count": len(rows),
            "block": len(self.blocks),
            "prompt": text if len(text) <= _PREVIEW else f"…{text[-_PREVIEW:]}",
        }
        for name, value in values.items():
            self.groups[name].append(value)
        said = [self._add_episode(row, len(prompt)) for row in rows]
        plain = [[message["role"], message["content"]] for message in prompt]
        self._texts.append({"prompt": plain, "members": said})
        if self._num_chars > _BLOCK:
            self._close_block()

    def _add_episode(self, row: dict[str, Any], num_prompt: int) -> dict[str, Any]:
        verdict = row["verdict"] or _verdict_of(row["is_success"])
        if verdict is not None and verdict not in self.verdicts:
            self.verdicts.append(verdict)
        turns, counts = [], []
        for message in row["messages"][num_prompt:]:
            start, end = message["start"], message["end"]
            tokens = row["tokens"][start:end]
            # What the model wrote, its special tokens too.
            content = "".join(tokens) if tokens else message["content"]
            turns.append([message["role"], content, len(tokens)])
            counts.append((start, end))
            self._num_chars += len(content)
            if tokens:
                self._planes.append(planes_of(row, start, end))
        values = {
            "member": row["member"],
            "reward": _finite(row["reward"]),
            "success": _finite(row["is_success"]),
            "verdict": -1 if verdict is None else self.verdicts.index(verdict),
            "advantage": _finite(row["advantage"]),
            "tokens": sum(end - start for start, end in counts),
            "truncated": int(row["truncated"]),
        }
        for name, value in values.items():
            self.episodes[name].append(value)
        more = {
            "metrics": {name: _finite(value) for name, value in row["metrics"] or ()},
            "info": row["info"],
            "versions": row["weights_versions"],
        }
        if len(row["rewards"]) > 1:
            more["rewards"] = [_finite(reward) for reward in row["rewards"]]
        return {"turns": turns, **more}

    def _close_block(self) -> None:
        number = len(self.blocks)
        self.blocks.append(
            (
                _script(f"texts-{number}", _json(self._texts)),
                _script(f"numbers-{number}", b"".join(self._planes)),
            )
        )
        self._texts, self._planes, self._num_chars = [], [], 0

    def html(self) -> bytes:
        """The page."""
        if self._texts:
            self._close_block()
        index = {
            "runs": self.runs,
            "groups": self.groups,
            "episodes": self.episodes,
            "verdicts": self.verdicts,
            "blocks": len(self.blocks),
            "recorded": self.num_recorded,
        }
        data = [_script("index", _json(index)), *(part for block in self.blocks for part in block)]
        html = _file("page.html")
        for mark, content in {
            "/* style */": _file("style.css"),
            "/* script */": "\n".join(map(_file, _SCRIPTS)),
            "<!-- data -->": "\n".join(data),
        }.items():
            html = html.replace(mark, content)
        return html.encode()


def _prompt(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages before the first reply."""
    messages: list[dict[str, Any]] = row["messages"]
    first = next((i for i, m in enumerate(messages) if m["turn"] >= 0), len(messages))
    return messages[:first]


def _verdict_of(success: float | None) -> str | None:
    """In the words of graders, of an environment that gives no more than a number."""
    return None if success is None else "correct" if success >= 0.5 else "wrong"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


def planes_of(row: dict[str, Any], start: int, end: int) -> bytes:
    """What the page knows of a reply's tokens: five bytes each, kind by kind.

    Low and high byte of the length of its text in UTF-16; -logp of the engine and the entropy, as
    254 sqrt(x / 16); the learner's log-prob less the engine's, as 128 + 127 sqrt|x| with its sign.
    """
    lengths = np.array([_utf16_length(text) for text in row["tokens"][start:end]], np.uint16)
    logprobs = np.array(row["logprobs"][start:end], np.float64)
    nothing = np.full(end - start, np.nan)
    old, entropies = (
        nothing if row[name] is None else np.array(row[name][start:end], np.float64)
        for name in ("old_logps", "entropies")
    )
    difference = old - logprobs
    signed = 128 + np.sign(difference) * 127 * np.sqrt(np.minimum(np.abs(difference), 1.0))
    planes = [
        lengths & 0xFF,
        lengths >> 8,
        _as_byte(-logprobs),
        _as_byte(entropies),
        np.where(np.isfinite(difference), np.nan_to_num(signed.round(), nan=0.0), 0),
    ]
    return b"".join(plane.astype(np.uint8).tobytes() for plane in planes)


def _as_byte(nats: np.ndarray) -> np.ndarray:
    scaled = 254 * np.sqrt(np.clip(np.nan_to_num(nats), 0.0, MOST_NATS) / MOST_NATS)
    return np.where(np.isnan(nats), ABSENT, scaled.round())


def _utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _script(name: str, content: bytes) -> str:
    packed = base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()
    return f'<script type="text/plain" id="{name}">{packed}</script>'


def _file(name: str) -> str:
    return files("sfpo_rllib.recordings").joinpath("viewer", name).read_text(encoding="utf-8")
