"""Who may import whom, what is public, and what importing costs."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import GenericAlias
from typing import TypeVar

import pytest

import lightly_aug

PACKAGE = Path(lightly_aug.__file__).parent

# module or package -> what it may import of ours; a package's name stands for all that is in it
ALLOWED = {
    "draws": "",
    "clock": "",
    "storage": "",
    "images": "storage",
    "extras": "",
    "distributed": "",
    "samples": "images",
    "operations": "draws images",
    "invariances": "operations",
    "engines": "extras storage operations invariances engines",
    "views": "invariances engines",
    "collate": "draws clock images samples operations invariances engines views",
    "prefetch": "samples views",
    "recipes": "operations invariances collate",
    "memory_bank": "distributed",
    "loss": "distributed memory_bank loss",
    "models.base": "",
    "models.amdim_encoder": "",
    "models.backbones": "",
    "models.heads": "",
    "models.momentum": "",
    "models.vit": "extras",
    "models": "distributed memory_bank loss models.base models.backbones models.heads models.momentum",
    "models.__init__": "models",
    "train": "distributed extras samples views models.base train",
    "evaluate": "extras samples models.base evaluate",
    "plot": "clock extras images operations invariances collate",
    "peers": "extras operations invariances engines collate",
    "bench": "extras peers",
    "demo": "extras images samples operations invariances collate recipes models train evaluate plot",
    "cli": "__init__ extras images samples collate recipes models train evaluate plot demo bench",
    "__init__": "images samples operations invariances views collate recipes prefetch memory_bank",
}

MODULES = sorted(".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))
OPTIONAL = {
    *("accelerate", "cv2", "huggingface_hub", "lightning", "matplotlib", "numba", "rich", "safetensors", "skimage"),
    *("sklearn", "timm", "torchmetrics", "triton", "typer"),
}


def imports(module: str) -> set[str]:
    """The modules of ours that a module imports, as dotted names below the package."""
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                found.add(full if full.removeprefix("lightly_aug.") in MODULES else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {
        (name + ".__init__").split(".", 1)[1].removesuffix(".__init__")
        for name in found
        if name.split(".")[0] == "lightly_aug"
    }


def covers(rule: str, module: str) -> bool:
    return module == rule or module.startswith(rule + ".")


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_in_the_allowed_direction_only(module: str) -> None:
    rule = max((rule for rule in ALLOWED if covers(rule, module)), key=len, default=None)
    assert rule is not None, f"{module} is new: say in this test what it may import"
    for imported in imports(module):
        allowed = any(covers(name, imported or "__init__") for name in ALLOWED[rule].split())
        assert allowed, f"{module} must not import {imported}"


def test_no_method_imports_another() -> None:
    shared = {"__init__", "amdim_encoder", "backbones", "base", "heads", "momentum", "vit"}
    methods = {module for module in MODULES if covers("models", module) and module.split(".")[1] not in shared}
    assert methods
    for method in methods:
        assert not imports(method) & (methods - {method})


@pytest.mark.parametrize("name", [m for m in MODULES if m != "cli"])
def test_all_holds_exactly_the_public_names(name: str) -> None:
    module = importlib.import_module(("lightly_aug." + name).removesuffix(".__init__"))
    public = {key for key, value in vars(module).items() if not key.startswith("_") and not inspect.ismodule(value)}
    if not name.endswith("__init__") or name == "engines.__init__":  # what it defines, not what it needs
        public = {key for key in public if getattr(getattr(module, key), "__module__", None) == module.__name__}
        public |= {key for key in module.__all__ if key.isupper()}
        public = {key for key in public if not isinstance(getattr(module, key), TypeVar | GenericAlias)}
    assert sorted(set(module.__all__) - {"__version__"}) == sorted(public)


def test_importing_is_silent_light_and_leaves_the_devices_alone() -> None:
    program = f"""
import sys, warnings
warnings.simplefilter("error")
import torch, kornia
import lightly_aug
import lightly_aug.loss, lightly_aug.models, lightly_aug.train, lightly_aug.evaluate, lightly_aug.plot
assert not torch.cuda.is_initialized()
mine = {{name.split(".")[0] for name in sys.modules}} & {OPTIONAL!r}
print(sorted(mine))
"""
    # what torch, torchvision and kornia import themselves is theirs
    bare = "import sys, torch, torchvision, kornia.augmentation; print(sorted({n.split('.')[0] for n in sys.modules}))"
    theirs = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True).stdout
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(ast.literal_eval(done.stdout)) <= set(ast.literal_eval(theirs))
    assert done.stderr == ""
