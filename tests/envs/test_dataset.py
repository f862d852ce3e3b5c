"""Problem sets: where they are from, which rows and fields count, and what is said of bad ones."""

import gzip
import os
import random
import sys

import pytest
from problem_files import write, write_parquet
from sfpo_envs.problems.dataset import load_math_dataset
from sfpo_envs.problems.splits import same_text, take_split

ROWS = [
    {"problem": f"{i} plus 1?", "answer": i + 1, "level": i % 5, "tags": ["sum", f"t{i % 3}"]}
    for i in range(50)
]


@pytest.fixture
def many(tmp_path):
    return write(tmp_path / "many.jsonl", ROWS)


def content(data):
    return data.problems, data.answers, data.solutions


# Kinds of files.


def test_a_set_is_the_same_whatever_the_kind_of_file(many, tmp_path):
    packed = tmp_path / "many.jsonl.gz"
    packed.write_bytes(gzip.compress(many.read_bytes()))
    parquet = write_parquet(tmp_path / "many.parquet", ROWS)
    plain = load_math_dataset(many)
    assert plain.problems[7] == "7 plus 1?" and plain.answers[7] == "8"
    for other in (packed, parquet):
        assert content(load_math_dataset(other)) == content(plain)


def test_a_file_is_parsed_once_until_it_changes(many):
    first = load_math_dataset(many)
    assert load_math_dataset(str(many)) is first
    write(many, [{"problem": "new", "answer": "1"}])
    os.utime(many, ns=(0, 0))
    assert load_math_dataset(many).problems == ("new",)


def test_numbers_of_json_keep_their_spelling_and_whole_ones_of_parquet_have_no_decimals(tmp_path):
    path = tmp_path / "named.jsonl"
    path.write_text('{"problem": "a", "answer": 0.50}\n\n{"problem": "b", "answer": 7}\r\n')
    assert load_math_dataset(path).answers == ("0.50", "7")
    rows = [{"problem": "a", "answer": 142.0}, {"problem": "b", "answer": 0.5}]
    parquet = write_parquet(tmp_path / "floats.parquet", rows)
    assert load_math_dataset(parquet).answers == ("142", "0.5")


@pytest.mark.parametrize("name", ["plain.jsonl.gz", "plain.parquet", "bytes.jsonl"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(b'\xff\xfe{"problem": "a", "answer": "1"}\n')
    with pytest.raises(ValueError, match=rf"{name}: cannot be read: "):
        load_math_dataset(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "some.parquet"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        ImportError, match=r"some\.parquet: .* needs pyarrow: pip install 'datasets>=4' pyarrow"
    ):
        load_math_dataset(path)


# The hub.


class Hub:
    """Stands in for the package `datasets`: one data set of two splits."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.splits = {"train": ROWS, "test": [{"problem": "held out", "answer": "1"}]}

    def load_dataset(self, path, name, *, split, revision):
        self.calls.append((path, name, split, revision))
        if path == "no/where":
            raise FileNotFoundError("does not exist on the hub")
        return self.splits if split is None else self.splits[split]


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setitem(sys.modules, "datasets", hub)
    return hub


def test_an_id_of_the_hub_is_loaded_with_its_options_and_once(hub):
    options = {"dataset_config": "c", "dataset_split": "test", "dataset_revision": "v1"}
    data = load_math_dataset("some/id", **options)
    assert data.problems == ("held out",)
    assert load_math_dataset("some/id", **options) is data
    assert hub.calls == [("some/id", "c", "test", "v1")]


def test_a_hub_set_of_several_splits_asks_which_and_one_of_one_does_not(hub):
    with pytest.raises(ValueError, match=r"dataset_split=None: two/splits .* train, test"):
        load_math_dataset("two/splits")
    del hub.splits["test"]
    assert len(load_math_dataset("one/split").problems) == len(ROWS)


def test_a_set_that_is_nowhere_is_named(hub, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"dataset='no/where': there is no such file.*not exist"):
        load_math_dataset("no/where")
    with pytest.raises(ValueError, match=r"dataset=.*absent.jsonl': must be a file"):
        load_math_dataset(tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match=r"dataset='data/absent.jsonl': must be a file"):
        load_math_dataset("data/absent.jsonl")
    with pytest.raises(ValueError, match="dataset=None: must be a path or a name"):
        load_math_dataset(None)


def test_without_the_package_an_id_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ImportError, match=r"'a/b': there is no such file; .* install 'datasets>=4'"
    ):
        load_math_dataset("a/b")


def test_a_local_path_wins_over_an_id(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    write(tmp_path / "some" / "file", ROWS[:3])
    assert len(load_math_dataset("some/file").problems) == 3
    (tmp_path / "some" / "folder").mkdir()
    load_math_dataset("some/folder", dataset_split="train")
    assert [call[0] for call in hub.calls] == [str(tmp_path / "some" / "folder")]


def test_a_folder_is_loaded_by_the_package_itself(tmp_path):
    pytest.importorskip("datasets")
    write(tmp_path / "train.jsonl", ROWS)
    data = load_math_dataset(tmp_path)
    assert content(data) == content(load_math_dataset(tmp_path / "train.jsonl"))


# Fields.


def test_fields_are_mapped_and_dots_lead_into_nested_ones(tmp_path):
    row = {
        "prompt": [{"role": "user", "content": " 1 + 1? "}],
        "reward_model": {"ground_truth": "2"},
        "a.b": "worked out",
    }
    paths = [write(tmp_path / "n.jsonl", [row]), write_parquet(tmp_path / "n.parquet", [row])]
    for path in paths:
        data = load_math_dataset(
            path,
            problem_field="prompt.0.content",
            answer_field="reward_model.ground_truth",
            solution_field="a.b",
        )
        assert content(data) == (("1 + 1?",), ("2",), ("worked out",))


@pytest.mark.parametrize(
    ("pattern", "field", "answer"),
    [
        ("hashes", "It is 4 + 1.\n#### 1,005", "1,005"),
        ("boxed", "so \\boxed{no} or \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        (r"answer is (\S+)", "answer is 3, no: answer is 4", "4"),
        (r"[0-9]+", "3 or 4", "4"),
    ],
)
def test_the_answer_is_found_in_its_field(tmp_path, pattern, field, answer):
    path = write(tmp_path / "p.jsonl", [{"problem": "a", "answer": field}])
    assert load_math_dataset(path, answer_pattern=pattern).answers == (answer,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem_field": "problm"}, r"problem_field='problm': no row of .*mean 'problem'\?"),
        ({"answer_field": "answr"}, r"answer_field='answr': no row of .*mean 'answer'\?"),
        ({"solution_field": "x"}, "solution_field='x': no row of .*one of problem, answer, level"),
        ({"filters": {"levl": 1}}, r"filters='levl': no row of .*mean 'level'\?"),
        ({"filters": ["level"]}, r"filters=\['level'\]: must be a dict"),
        ({"filters": {"level": {}}}, "filters={'level': .*must be a string, a number"),
        ({"filters": {"level": []}}, "filters={'level': .*must be a string, a number"),
        ({"filters": {"level": {"not": []}}}, "filters={'level': .*must be a string, a number"),
        ({"filters": {"level": {"nto": 1}}}, "filters={'level': .*or {'not': what"),
        ({"filters": {"level": {"not": {}}}}, "filters={'level': .*or {'not': what"),
        ({"filters": {"level": 77}}, "holds no problems that pass the filters"),
        ({"answer_pattern": "("}, r"answer_pattern='\(': must be one of boxed, .*regular"),
        ({"answer_pattern": "x"}, "50 of 50 rows.*field 'answer' holds nothing that answer_pat"),
    ],
)
def test_options_that_do_not_fit_the_data_are_named(many, options, message):
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        load_math_dataset(many, **options)


# Filters.


def test_filters_keep_what_equals_or_is_among_their_values(many, tmp_path):
    parquet = write_parquet(tmp_path / "many.parquet", ROWS)

    def kept(file, **filters):
        return set(load_math_dataset(file, filters=filters).problems)

    def expected(passes):
        return {row["problem"] for row in ROWS if passes(row)}

    for file in (many, parquet):
        assert kept(file, level=3) == expected(lambda row: row["level"] == 3)
        assert kept(file, level="3") == kept(file, level=[3.0]) == kept(file, level=3)
        assert kept(file, level=[1, "2"]) == expected(lambda row: row["level"] in (1, 2))
        assert kept(file, tags="t0") == expected(lambda row: "t0" in row["tags"])
        both = expected(lambda row: row["level"] == 3 and "t0" in row["tags"])
        assert kept(file, level=3, tags=["t0", "absent"]) == both


def test_booleans_are_not_numbers_to_a_filter(tmp_path):
    rows = [{"problem": str(ok), "answer": "1", "ok": ok} for ok in (True, False, 1)]
    path = write(tmp_path / "b.jsonl", rows)
    assert load_math_dataset(path, filters={"ok": True}).problems == ("True",)
    assert load_math_dataset(path, filters={"ok": 1}).problems == ("1",)


def test_bad_rows_that_a_filter_drops_do_no_harm(tmp_path):
    rows = [{"problem": "a", "answer": "1", "kind": "number"}, {"problem": "b", "kind": "proof"}]
    path = write(tmp_path / "k.jsonl", rows)
    assert load_math_dataset(path, filters={"kind": "number"}).problems == ("a",)


def test_a_filter_can_ask_for_null_or_for_what_is_not(tmp_path):
    rows = [
        {"problem": "one", "answer": "1", "k": 1, "tags": ["x", "y"]},
        {"problem": "two", "answer": "1", "k": 2.0, "tags": []},
        {"problem": "null", "answer": "1", "k": None, "tags": None},
        {"problem": "absent", "answer": "1"},
        {"problem": "nan", "answer": "1", "k": float("nan"), "tags": ["x", None]},
    ]
    path = write(tmp_path / "nulls.jsonl", rows)
    parquet = write_parquet(tmp_path / "nulls.parquet", rows)

    for file in (path, parquet):

        def kept(file=file, **filters):
            return load_math_dataset(file, filters=filters).problems

        assert kept(k={"not": None}) == ("one", "two")
        assert kept(k=None) == ("null", "absent", "nan")
        assert kept(k=[None, 1]) == ("one", "null", "absent", "nan")
        assert kept(k={"not": [None, "2"]}) == ("one",)
        assert kept(k={"not": 1}) == ("two", "null", "absent", "nan")
        assert kept(tags={"not": "x"}) == ("two", "null", "absent")
        assert kept(tags={"not": None}) == ("one", "two")
        assert kept(k={"not": None}, tags="y") == ("one",)


def test_a_filter_for_what_is_not_null_keeps_objects_and_blanks(tmp_path):
    rows = [{"problem": repr(k), "answer": "1", "k": k} for k in ({"a": 1}, [[1]], "", False, None)]
    path = write(tmp_path / "kinds.jsonl", rows)
    assert len(load_math_dataset(path, filters={"k": {"not": None}}).problems) == 4
    assert load_math_dataset(path, filters={"k": None}).problems == ("None",)
    assert load_math_dataset(path, filters={"k": {"not": [None, ""]}}).problems[-1] == "False"


# Splits.


def split_of(data, split, test_fraction=None, num_test=None, seed=0):
    return take_split(data, split, test_fraction, num_test, seed)


@pytest.fixture
def repeated(tmp_path):
    """40 problems, each in up to three spellings and in any order."""
    spellings = [
        f"{i}{gap}plus{gap}1?" for i in range(40) for gap in (" ", "  ", "\n")[: i % 3 + 1]
    ]
    random.Random(0).shuffle(spellings)
    rows = [{"problem": problem, "answer": "1"} for problem in spellings]
    return load_math_dataset(write(tmp_path / "repeated.jsonl", rows))


@pytest.mark.parametrize("how", [{"test_fraction": 0.3}, {"num_test": 7}])
@pytest.mark.parametrize("seed", range(5))
def test_the_two_sides_are_all_and_no_problem_is_on_both(repeated, how, seed):
    train, test = (split_of(repeated, side, **how, seed=seed) for side in ("train", "test"))
    assert sorted(train.problems + test.problems) == sorted(repeated.problems)
    sides = [{same_text(problem) for problem in side.problems} for side in (train, test)]
    assert not sides[0] & sides[1]
    if "num_test" in how:
        assert len(sides[1]) == 7
    assert split_of(repeated, "all", **how) is repeated


def test_a_share_puts_a_problem_on_the_same_side_whatever_else_is_in_the_set(many):
    def test_side(data):
        return set(split_of(data, "test", test_fraction=0.5).problems)

    whole, few = load_math_dataset(many), load_math_dataset(many, filters={"level": [1, 2]})
    assert test_side(few) == test_side(whole) & set(few.problems)
    assert 10 < len(test_side(whole)) < 40


def test_the_seed_chooses_what_is_held_out(many):
    data = load_math_dataset(many)
    sides = [set(split_of(data, "test", num_test=10, seed=seed).problems) for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]


@pytest.mark.parametrize(
    ("split", "how", "message"),
    [
        ("valid", {}, "split='valid': must be"),
        ("test", {}, "split='test': needs either test_fraction or num_test"),
        ("train", {"test_fraction": 0.1, "num_test": 3}, "split='train': needs either"),
        ("test", {"test_fraction": 1}, "test_fraction=1: must be between 0 and 1"),
        ("test", {"test_fraction": 1e-9}, "test_fraction=1e-09: leaves nothing .*split='test'"),
        ("train", {"num_test": 50}, "num_test=50: must be an int from 1 to 49"),
        ("train", {"num_test": 0}, "num_test=0: must be an int from 1 to 49"),
    ],
)
def test_splits_that_cannot_be_are_refused(many, split, how, message):
    with pytest.raises(ValueError, match=message):
        split_of(load_math_dataset(many), split, **how)
