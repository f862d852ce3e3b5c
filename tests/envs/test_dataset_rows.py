"""Rows of a data set that are bad or blank."""

import pytest
from problem_files import write, write_parquet
from sfpo_envs.problems.dataset import load_math_dataset

GOOD = '{"problem": "a", "answer": "1"}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "{oops\n", "bad.jsonl, line 2: not JSON"),
        (GOOD + "\n[1, 2]\n", "bad.jsonl, line 3: must be a JSON object"),
        (GOOD + '{"question": "a"}\n', "line 2: no field 'problem', only 'question'"),
        (GOOD + '{"problem": "a"}\n', "line 2: no field 'answer', only 'problem'"),
        ('{"problem": "", "answer": "1"}\n', "bad.jsonl, line 1: field 'problem' is blank"),
        ('{"problem": "%s", "answer": 1}' % ("1" * 40_000), "field 'problem' is longer than"),
        ('{"problem": "a", "answer": null}\n', "field 'answer' must be a string or a number"),
        ('{"problem": "a", "answer": [1]}\n', r"must be a string or a number, and is list: \['1"),
        ('{"problem": "a", "answer": true}\n', "must be a string or a number, and is bool: True"),
        ('{"problem": "a", "answer": NaN}\n', "must be a string or a number, and is float: nan"),
        ('{"problem": "a", "answer": "%s"}\n' % ("1" * 9999), "field 'answer' has 9999 characters"),
        ("[" * 10**5, "bad.jsonl, line 1: not JSON"),
        ("", "bad.jsonl: holds no problems$"),
        ("\n\n", "bad.jsonl: holds no problems$"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, text, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_math_dataset(path)


@pytest.mark.parametrize("repeats", [1, 30])
def test_bad_rows_are_counted_and_named_together_up_to_a_hundred(tmp_path, repeats):
    bad = ["{oops", '{"problem": "a"}', "[]", '{"problem": "a", "answer": " "}']
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(GOOD + line + "\n" for line in bad * repeats))
    with pytest.raises(ValueError) as caught:
        load_math_dataset(path)
    lines = str(caught.value).splitlines()
    first = {1: "4 of 8 rows are bad:", 30: "120 of 240 rows are bad, the first 100 of them:"}
    assert lines[0] == first[repeats]
    assert [line.split(": ")[0] for line in lines[1:]] == [
        f"{path}, line {number}" for number in range(2, 2 * min(4 * repeats, 100) + 1, 2)
    ]
    for kind in ("not JSON", "no field 'answer'", "must be a JSON object", "skip_blank=True"):
        assert kind in str(caught.value)


@pytest.mark.parametrize("blank", ["", " ", "$$", "$ $"])
def test_blank_answers_are_an_error_or_are_dropped_and_counted(tmp_path, blank):
    rows = [{"problem": "a", "answer": blank}, {"problem": "b", "answer": "2"}]
    path = write(tmp_path / "blank.jsonl", rows)
    with pytest.raises(ValueError, match=r"blank.jsonl, line 1: .*blank.*skip_blank=True"):
        load_math_dataset(path)
    data = load_math_dataset(path, skip_blank=True)
    assert (data.problems, data.num_skipped) == (("b",), 1)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('{"problem": "a", "answer": null}', "must be a string or a number, and is NoneType"),
        ('{"problem": "a"}', "no field 'answer', only 'problem'"),
        ('{"problem": "a", "answer": NaN}', "must be a string or a number, and is float: nan"),
        ('{"problem": "a", "answer": "no number"}', "holds nothing that answer_pattern="),
        ('{"problem": "a", "answer": "is \\\\boxed{}"}', "holds nothing that answer_pattern="),
        ('{"problem": "a", "answer": "\\u200b\\ufeff "}', "is blank"),
    ],
)
def test_what_is_no_answer_is_an_error_that_names_skip_blank_or_is_dropped(tmp_path, row, fault):
    path = tmp_path / "blank.jsonl"
    path.write_text('{"problem": "b", "answer": "\\\\boxed{2}"}\n' + row)
    with pytest.raises(ValueError, match=rf"blank.jsonl, line 2: .*{fault}.*; skip_blank=True"):
        load_math_dataset(path, answer_pattern="boxed")
    data = load_math_dataset(path, answer_pattern="boxed", skip_blank=True)
    assert (data.problems, data.answers, data.num_skipped) == (("b",), ("2",), 1)


@pytest.mark.parametrize("pattern", ["hashes", r"= ([0-9]+)", r"2 #(x)?"])
def test_a_pattern_that_finds_nothing_leaves_a_blank(tmp_path, pattern):
    rows = [{"problem": "a", "answer": "none"}, {"problem": "b", "answer": "= 2 #x\n#### 2"}]
    path = write(tmp_path / "pattern.jsonl", rows)
    data = load_math_dataset(path, answer_pattern=pattern, skip_blank=True)
    assert (data.problems, data.num_skipped) == (("b",), 1)


def test_nulls_of_parquet_and_of_nested_fields_are_blank(tmp_path):
    rows = [
        {"problem": str(i), "model": {"gold": i if i else None}, "x": [[], ["5"]][i]}
        for i in (0, 1)
    ]
    rows.append({"problem": "2", "model": None, "x": None})
    for path in (
        write(tmp_path / "nested.jsonl", rows),
        write_parquet(tmp_path / "nested.parquet", rows),
    ):
        for field, answer in (("model.gold", "1"), ("x.0", "5")):
            data = load_math_dataset(path, answer_field=field, skip_blank=True)
            assert (data.problems, data.answers, data.num_skipped) == (("1",), (answer,), 2)
    floats = write_parquet(
        tmp_path / "floats.parquet",
        [{"problem": "a", "answer": float("nan")}, {"problem": "b", "answer": 2.0}],
    )
    assert load_math_dataset(floats, skip_blank=True).answers == ("2",)


@pytest.mark.parametrize(
    "answer", ["[1]", "true", "Infinity", '"\\ud800"', '"%s"' % ("1" * 9999)]
)  # fmt: skip
def test_a_bad_answer_is_no_blank_one(tmp_path, answer):
    path = tmp_path / "bad.jsonl"
    path.write_text(GOOD + f'{{"problem": "a", "answer": {answer}}}')
    with pytest.raises(ValueError, match=r"bad.jsonl, line 2: field 'answer'") as caught:
        load_math_dataset(path, skip_blank=True)
    assert "skip_blank" not in str(caught.value)
