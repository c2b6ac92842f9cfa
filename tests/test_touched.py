"""A new operation and a new method touch the files that docs/extending.md names, and no others."""

import re
from pathlib import Path

import lightly_aug

PACKAGE = Path(lightly_aug.__file__).parent
ROOT = PACKAGE.parent


def mentions(word: str) -> set[str]:
    """Files of the package in which a word stands."""
    files = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    return {name for name, text in files.items() if re.search(rf"\b{word}\b", text)}


def test_an_operation_left_to_the_reference_is_in_three_files_of_the_package() -> None:
    """And in the recipes that use it."""
    used = {"recipes.py", "explore/recipe.py"}
    assert mentions("RandomEqualize") - used == {"_public.py", "operations/__init__.py", "operations/color.py"}


def test_a_fused_operation_is_in_two_more_and_its_code_in_the_kernels() -> None:
    used = {"recipes.py", "invariances.py", "bench/peers.py", "evaluate/_strengths.py", "explore/recipe.py"}
    assert mentions("RandomSolarize") - used == {
        *("_public.py", "operations/__init__.py", "operations/texture.py"),
        *("engines/plan.py", "engines/program.py"),
    }
    assert mentions("SOLARIZE") == {"engines/program.py", "engines/cpu_kernels.py", "engines/gpu_kernels.py"}


def test_a_method_is_in_three_files_of_the_package_and_its_views_in_two_more() -> None:
    assert mentions("NNCLR") - mentions("NNCLRCollateFunction") == {"models/__init__.py", "models/nnclr.py"}
    assert mentions("NNCLRCollateFunction") == {"_public.py", "recipes.py", "methods.py"}


def test_the_page_for_contributors_says_so() -> None:
    text = (ROOT / "docs/extending.md").read_text()
    operation = text[text.index("## Contribute an operation") : text.index("## Contribute a method")]
    for place in ("operations/__init__.py", "lightly_aug/_public.py", "docs/operations.md", "engines/plan.py",
                  "engines/program.py", "cpu_kernels.py", "gpu_kernels.py", "evaluate/_strengths.py"):  # fmt: skip
        assert place in operation
    method = text[text.index("## Contribute a method") : text.index("## Contribute an engine")]
    for place in (
        "models/",
        "recipes.py",
        "methods.py",
        "choices.py",
        "train/optimization.py",
        "tests/helpers/methods.py",
        "docs/methods.md",
    ):
        assert place in method
