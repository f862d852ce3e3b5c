"""What is installed: requirements, constraints, licence, types, and the commands that are named."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from repository import ROOT

from tools.bootstrap import CPU_TORCH, SUPPORTED_PYTHONS, UNUSABLE_ON_CPU
from tools.constraints import direct

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = {
    Requirement(line).name: Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
}
# Not on the machines that make the constraints.
UNTESTED = {"bitsandbytes", "vllm"}


@pytest.mark.parametrize("wanted", direct(), ids=str)
def test_the_tested_versions_are_those_that_are_asked_for(wanted: Requirement) -> None:
    if wanted.name in UNTESTED | {PROJECT["name"]}:
        assert wanted.name not in CONSTRAINTS
        return
    (pin,) = CONSTRAINTS[wanted.name].specifier
    assert pin.operator == "==" and wanted.specifier.contains(pin.version, prereleases=True)


def test_constraints_leave_the_choice_of_cpu_or_gpu() -> None:
    for name, requirement in CONSTRAINTS.items():
        (pin,) = requirement.specifier
        assert Version(pin.version).local is None, name
    assert not CONSTRAINTS.keys() & set(UNUSABLE_ON_CPU)
    assert CONSTRAINTS["torch"].specifier.contains(Requirement(CPU_TORCH).specifier.__str__()[2:])


def test_the_set_up_and_the_metadata_support_the_same_pythons() -> None:
    supported = Requirement(f"python{PROJECT['requires-python']}").specifier
    minors = [f"3.{minor}" for minor in range(9, 16) if supported.contains(f"3.{minor}")]
    assert minors == [".".join(map(str, version)) for version in SUPPORTED_PYTHONS]
    named = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if ":: Python :: 3." in c]
    assert named == minors


def test_the_licence_is_whole_and_types_are_there() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    for package in ("sfpo_rllib", "envs/sfpo_envs"):
        assert (ROOT / package / "py.typed").exists()


def commands() -> Iterator[tuple[Path, str]]:
    """Each argument of a `pip install` that code or docs name."""
    files = [ROOT / "README.md", ROOT / "Dockerfile", ROOT / "CONTRIBUTING.md"]
    for folder, pattern in (("docs", "*.md"), ("sfpo_rllib", "*.py"), ("envs", "*.py")):
        files += (ROOT / folder).rglob(pattern)
    files += (ROOT / "tuned_examples").glob("*.py")
    for path in files:
        text = path.read_text().replace("\\\n", " ")
        for arguments in re.findall(r"pip install((?: +(?:'[^']*'|[^\s'`\"|&;()#]+))+)", text):
            for argument in re.findall(r"'([^']*)'|(\S+)", arguments):
                yield path, "".join(argument)


def test_packages_that_are_named_to_install_are_those_asked_for_or_a_file_of_ours() -> None:
    found = list(commands())
    assert len(found) > 10
    known = {str(requirement) for requirement in direct()}
    without_version = {requirement.name for requirement in direct() if not requirement.specifier}
    files = (CPU_TORCH, "constraints.txt", "{REQUIREMENTS.get(package, package)}")
    others = ("textarena", "build", "tensorboard", "wandb", "mlflow", "{name}")
    for path, argument in found:
        ours = re.fullmatch(r"(\.|PATH_TO_WHEEL|dist/\*\.whl)(\[[\w,-]+\])?", argument)
        if argument.startswith("-") or "://" in argument or argument in (*files, *others):
            continue
        if ours:
            extras = set(re.findall(r"[\w-]+", ours[2] or ""))
            assert extras <= PROJECT["optional-dependencies"].keys(), (path, argument)
        else:
            asked = Requirement(argument)
            assert str(asked) in known or argument in without_version, (path, argument)


def test_no_text_sends_anyone_to_the_index_for_this_package() -> None:
    assert not [path for path, argument in commands() if argument.startswith(PROJECT["name"])]
