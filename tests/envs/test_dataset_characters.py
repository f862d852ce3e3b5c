"""Problem files: byte order marks, characters without a width and halves of surrogate pairs."""

import gzip
import json

import pytest
from sfpo_envs.problems.dataset import load_math_dataset

GOOD = '{"problem": "a", "answer": "1"}\n'


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-8"])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path, suffix, encoding):
    text = GOOD + '{"problem": "\u00e9", "answer": "2"}\r\n'
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    data = (mark + text).encode(encoding)
    path = tmp_path / f"marked{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert load_math_dataset(path).problems == ("a", "\u00e9")


def test_files_with_byte_order_marks_can_be_put_together(tmp_path):
    path = tmp_path / "joined.jsonl"
    path.write_text("\ufeff" + GOOD + "\ufeff" + GOOD + "\u200b\n\ufeff\n", encoding="utf-8")
    assert load_math_dataset(path).problems == ("a", "a")


def test_what_is_not_utf_8_is_named_by_line(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(GOOD.encode() + '{"problem": "\u00e9", "answer": 1}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.jsonl: cannot be read: .*line 2; must be UTF-8"):
        load_math_dataset(path)


@pytest.mark.parametrize(
    "invisible", ["\u200b", "\ufeff", "\u2060", "\u200e", "\u200d", "\u00ad", "\u2069"]
)
def test_characters_without_a_width_are_no_part_of_a_field(tmp_path, invisible):
    rows = [
        {"problem": f"{invisible} 1 + 1?{invisible}", "answer": f"{invisible}2 {invisible}", "k": 1}
    ]
    path = write(tmp_path / "invisible.jsonl", rows)
    data = load_math_dataset(path, filters={"k": f"1{invisible}"})
    assert (data.problems, data.answers) == (("1 + 1?",), ("2",))


def test_characters_without_a_width_within_a_text_go_unless_they_join(tmp_path):
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    rows = [{"problem": f"4\u200b2 {persian}", "answer": "1\u2060000\ufeff"}]
    data = load_math_dataset(write(tmp_path / "within.jsonl", rows))
    assert (data.problems, data.answers) == ((f"42 {persian}",), ("1000",))


@pytest.mark.parametrize("field", ["problem", "answer", "solution"])
def test_half_a_surrogate_pair_is_refused_by_line_where_it_is_read(tmp_path, field):
    row = {"problem": "a", "answer": "1", "solution": "b", "other": "\udc00"}
    path = tmp_path / "pair.jsonl"
    write(path, [row | {"problem": "\U0001f600"}])
    assert load_math_dataset(path, solution_field="solution").problems == ("\U0001f600",)
    write(path, [row, row | {field: "so \ud800"}])
    with pytest.raises(
        ValueError, match=rf"line 2: field '{field}' holds half .*'\\ud800', at char"
    ):
        load_math_dataset(path, solution_field="solution")
