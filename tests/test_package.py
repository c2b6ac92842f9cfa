"""What is published: an sdist that passes its own tests, and a wheel that holds the package only."""

import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = {".ci/run", ".github/ISSUE_TEMPLATE/bug.yml", ".pre-commit-config.yaml"}
"""Files under version control that only a checkout needs."""
MADE = {"PKG-INFO"}
"""Files of an sdist that the build makes."""


def listed(*options: str) -> set[str]:
    """List the files of the checkout that git knows."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is not a git checkout, so there is no list of files to compare with")
    done = subprocess.run(["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of an sdist of this checkout."""
    builder = pytest.importorskip("hatchling.builders.sdist").SdistBuilder(str(ROOT))
    (path,) = builder.build(directory=str(tmp_path_factory.mktemp("sdist")), versions=["standard"])
    with tarfile.open(path) as archive:
        return {member.name.split("/", 1)[1] for member in archive if member.isfile()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel of this checkout."""
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    (path,) = builder.build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_sdist_holds_everything_that_its_tests_need(sdist: set[str]) -> None:
    tracked = listed()
    assert tracked >= NOT_SHIPPED, "a file of NOT_SHIPPED is no longer there"
    missing = tracked - NOT_SHIPPED - sdist
    assert not missing, f"add them to tool.hatch.build.targets.sdist in pyproject.toml, or to NOT_SHIPPED: {missing}"
    assert not NOT_SHIPPED & sdist


def test_the_sdist_holds_no_result_of_a_run(sdist: set[str]) -> None:
    known = listed("--cached", "--others", "--exclude-standard")  # tracked, or about to be
    assert sdist - MADE <= known


def test_the_wheel_holds_the_package_only(wheel: set[str]) -> None:
    package = {name for name in listed() if name.startswith("lightly_aug/")}
    assert package <= wheel
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {"lightly_aug"}  # and its dist-info
    assert "lightly_aug/py.typed" in wheel
