"""What a result says of where it comes from."""

import platform
from importlib.metadata import version

from sfpo_rllib.provenance import machine, versions


def test_versions_are_those_installed_and_no_others() -> None:
    found = versions()
    assert found.pop("python") == platform.python_version()
    assert {"torch", "numpy"} <= found.keys()
    assert found == {name: version(name) for name in found}


def test_machine_has_a_processor() -> None:
    here = machine()
    assert here["cpu"] and here["cores"] >= 1 and here["system"] == platform.system()
