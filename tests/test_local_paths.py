"""Where a user may want something written."""

from pathlib import Path

import pytest

from sfpo_rllib.local_paths import local_path

ELSEWHERE = [
    "",
    " ",
    "s3://bucket/x",
    "gs://b",
    "file:///tmp/x",
    Path("s3://bucket/x"),
    None,
    3,
    b"x",
]


@pytest.mark.parametrize("given", ELSEWHERE, ids=repr)
def test_what_is_no_path_on_this_machine_is_refused(given: object) -> None:
    with pytest.raises(ValueError) as caught:
        local_path("output", given)
    assert str(caught.value) == f"output={given!r}: must be a path on this machine"


@pytest.mark.parametrize("given", ["runs/a", ".", "/tmp/a:b", "a:b", Path("x.png")], ids=repr)
def test_paths_stay_as_they_are(given: str | Path) -> None:
    assert local_path("output", given) == Path(given)


def test_the_home_folder_has_a_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path("output", "~/runs") == Path("/home/me/runs")
