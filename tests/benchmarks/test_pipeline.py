"""The benchmark of waiting measures what it says."""

from benchmarks.pipeline import environments


def test_slow_environments_are_waited_for_together(tmp_path):
    rows = environments.measure(tmp_path, smoke=True)["num_env_threads"]
    assert all(row["same_episodes"] for row in rows.values())
    assert rows["0"]["times_as_fast"]["ratio"] == 1.0
    assert rows["0"]["seconds"] >= 64 * 0.01  # one after the other
    assert rows["64"]["seconds"] < rows["16"]["seconds"] * 2 < rows["0"]["seconds"] * 2
