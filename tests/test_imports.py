"""Which module imports which, what is public, and what importing costs."""

import ast
import graphlib
import importlib
import inspect
import subprocess
import sys
from functools import cache
from operator import attrgetter
from pathlib import Path

import pytest

import lightly_aug

PACKAGE = Path(lightly_aug.__file__).parent

# What each module imports of this package, from the bottom up: a row names only rows above it. The row of a package is
# that of all its modules that have none of their own.
ALLOWED = {
    "user_warning": "",
    "atomic": "",
    "checks": "",
    "choices": "",
    "distributed": "user_warning",
    "epochs": "user_warning",
    "finite": "user_warning",
    "optional": "",
    "philox": "",
    "stages": "",
    "status": "",
    "buffers": "",
    "transport": "buffers",
    "decoding": "buffers",
    "images": "buffers choices decoding transport user_warning",
    "indexed": "checks distributed epochs",
    "samples": "philox images indexed",
    "photographs": "images optional",
    "operations": "checks operations",
    "invariances": "operations",
    "_html": "operations",
    "view": "operations invariances _html",
    "plot._page": "optional",
    "plot._grid": "images operations view plot._page",
    "engines.program": "images operations",
    "engines.plan": "images operations engines.program",
    "engines.reference": "images operations",
    "engines.cpu_kernels": "engines.program",
    "engines.gpu_layout": "operations engines.program",
    "engines.gpu_kernels": "engines.program engines.gpu_layout",
    "engines.cpu": "user_warning images operations transport engines.program engines.plan engines.cpu_kernels",
    "engines.gpu": "operations engines.program engines.plan engines.gpu_layout engines.gpu_kernels",
    "engines.rendering": (
        "images operations view engines.program engines.plan engines.gpu_layout engines.reference engines.cpu "
        "engines.gpu user_warning"
    ),
    "engines.__init__": "engines.plan engines.program engines.rendering",
    "batch": "_html checks images operations samples transport view engines.__init__ plot._grid",
    "options": "choices invariances",
    "collate": (
        "user_warning _html checks choices epochs philox stages images samples view engines.__init__ batch options "
        "plot._grid"
    ),
    "recipes": "checks operations invariances view options collate",
    "support": "checks distributed epochs indexed",
    "_prefetch": "samples batch",
    "memory_bank": "checks distributed finite",
    "_public": (
        "images indexed support operations invariances view batch options collate recipes _prefetch memory_bank"
    ),
    "__init__": "_public",
    "loss": "checks distributed finite memory_bank loss",
    "models._fsdp": "",
    "models.backbones": "checks",
    "models.base": "user_warning models._fsdp models.backbones",
    "models.heads": "checks",
    "models.momentum": "user_warning checks",
    "models._amdim_encoder": "checks",
    "models._pooled": "checks",
    "models._vit": "optional",
    "models": "checks distributed finite memory_bank loss models.base models.backbones models.heads models.momentum",
    "models.__init__": "models",
    "weights": (
        "__init__ atomic checks optional images operations view batch options collate models weights user_warning"
    ),
    "evaluate": (
        "atomic checks choices distributed optional philox images indexed operations "
        "invariances view batch options collate evaluate"
    ),
    "methods": "operations options collate recipes models",
    "plot": "checks optional images operations view batch collate evaluate plot",
    "pretrain_options": "checks choices optional",
    "train": (
        "__init__ atomic checks choices distributed optional options status images indexed photographs support samples "
        "operations batch collate recipes models weights evaluate methods plot pretrain_options train user_warning"
    ),
    "classify": (
        "atomic checks distributed optional status indexed samples operations invariances view batch collate models "
        "weights evaluate train classify"
    ),
    "bench": (
        "_html checks optional stages status samples photographs operations invariances view plot._page "
        "engines.__init__ batch collate bench"
    ),
    "demo": "optional status indexed photographs operations collate weights train evaluate methods plot",
    "report": "atomic optional status evaluate plot",
    "explore": "optional status images operations invariances view batch collate recipes weights methods explore",
    "cli.arguments": "optional images",
    "cli.folders": "",
    "cli.printing": "optional",
    "cli.backbone": "status images options weights evaluate cli.arguments",
    "cli.bench": "checks choices optional status methods bench cli.arguments cli.folders cli.printing",
    "cli.demo": "optional demo cli.arguments cli.folders",
    "cli.embed": "atomic choices optional status photographs evaluate cli.arguments cli.backbone cli.folders",
    "cli.explore": "choices optional status explore cli.arguments cli.backbone",
    "cli.export": "atomic checks optional weights cli.arguments cli.backbone cli.folders",
    "cli.invariance": (
        "atomic choices optional status photographs __init__ weights evaluate plot cli.arguments cli.backbone "
        "cli.folders cli.printing"
    ),
    "cli.labelled": "choices optional status photographs weights evaluate cli.arguments cli.backbone cli.folders",
    "cli.evaluate": "optional status weights report cli.arguments cli.backbone cli.labelled cli.printing",
    "cli.finetune": "optional status train classify report cli.arguments cli.backbone cli.labelled",
    "cli.knn": "optional evaluate report cli.arguments cli.backbone cli.labelled",
    "cli.linear": "optional status evaluate train classify report cli.arguments cli.backbone cli.labelled",
    "cli.neighbours": "atomic choices optional status photographs plot cli.arguments cli.backbone cli.folders",
    "cli.train": "choices distributed optional weights pretrain_options train cli.arguments cli.folders",
    "cli.views": "atomic checks choices optional status explore cli.arguments cli.folders",
    "cli.warm_up": "engines.__init__ __init__",
    "cli": "__init__ optional cli",
    "__main__": "cli",
}

MODULES = sorted(".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))
OPTIONAL = {
    *("accelerate", "cv2", "huggingface_hub", "lightning", "matplotlib", "nicegui", "numba", "onnx", "onnxruntime"),
    *("onnxscript", "pyarrow", "rich", "safetensors", "skimage", "sklearn", "timm", "torchmetrics", "triton", "typer"),
}


def source_of(module: str) -> str:
    return (PACKAGE / (module.replace(".", "/") + ".py")).read_text()


@cache
def imports(module: str) -> set[str]:
    """The modules of ours that a module imports, anywhere in it; a package is its `__init__`."""
    tree = ast.parse(source_of(module))
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                found.add(full if full.removeprefix("lightly_aug.") in MODULES else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    ours = {(name + ".").split(".", 1)[1].removesuffix(".") for name in found if name.split(".")[0] == "lightly_aug"}
    return {name if name in MODULES else f"{name}.__init__".removeprefix(".") for name in ours}


def covers(rule: str, module: str) -> bool:
    return module == rule or module.startswith(rule + ".")


def rule_of(module: str) -> str:
    """The row of ALLOWED that is a module's."""
    rule = max((rule for rule in ALLOWED if covers(rule, module)), key=len, default=None)
    assert rule is not None, f"{module} is new: say in this test what it imports"
    return rule


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_it_may(module: str) -> None:
    allowed = ALLOWED[rule_of(module)].split()
    for imported in imports(module):
        assert any(covers(name, imported) for name in allowed), f"{module} must not import {imported}"


@pytest.mark.parametrize("rule", ALLOWED)
def test_a_module_imports_all_that_it_may(rule: str) -> None:
    modules = [module for module in MODULES if rule_of(module) == rule]
    assert modules, f"there is no module {rule}"
    imported = set[str]().union(*map(imports, modules))
    unused = [name for name in ALLOWED[rule].split() if not any(covers(name, module) for module in imported)]
    assert not unused, f"{rule} may import {unused}, and does not: take it out of this test"


def test_imports_go_downwards_and_in_no_circle() -> None:
    for i, (rule, names) in enumerate(ALLOWED.items()):
        below = list(ALLOWED)[: i + 1]  # with itself: the modules of a package import each other
        for name in names.split():
            assert any(covers(name, row) for row in below), f"{rule} imports {name}, which has no row above it"
    graphlib.TopologicalSorter({module: imports(module) for module in MODULES}).prepare()  # raises CycleError


def test_no_method_imports_another() -> None:
    methods = {module for module in MODULES if rule_of(module) == "models"}
    assert {"models.simclr", "models.dino"} <= methods
    for method in methods:
        assert not imports(method) & methods


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__"])
def test_no_function_hides_a_module_of_the_same_name(module: str) -> None:
    name = module.removesuffix(".__init__")
    imported = importlib.import_module(f"lightly_aug.{name}")
    assert attrgetter(name)(lightly_aug) is imported


@pytest.mark.parametrize("name", MODULES)
def test_all_holds_exactly_the_public_names(name: str) -> None:
    module = importlib.import_module(("lightly_aug." + name).removesuffix(".__init__"))
    exported = set(module.__all__) - {"__version__"}
    assert len(module.__all__) == len(set(module.__all__))
    if name in ("__init__", "_public"):  # which imports them only when they are used
        module, exported = lightly_aug._public, set(lightly_aug.__all__)
        assert exported <= set(dir(lightly_aug))
    if name.endswith(("__init__", "_public")):  # a package exports what it imports
        public = {key for key, value in vars(module).items() if not key.startswith("_") and not inspect.ismodule(value)}
        assert exported == public
    else:  # a module exports its functions and classes, and constants and types if others need them
        body = ast.parse(source_of(name)).body
        defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        statements = [node for node in body if isinstance(node, ast.Assign | ast.AnnAssign)]
        names = [node for part in statements for node in ast.walk(part) if isinstance(node, ast.Name)]
        assigned = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        assert {key for key in defined if not key.startswith("_")} <= exported <= defined | assigned


def test_importing_is_silent_light_and_leaves_the_devices_alone() -> None:
    program = f"""
import sys, warnings
warnings.simplefilter("error")
import torch, kornia
import lightly_aug
lightly_aug.View, lightly_aug.recipes
import lightly_aug.loss, lightly_aug.models, lightly_aug.evaluate, lightly_aug.plot
assert not torch.cuda.is_initialized()
mine = {{name.split(".")[0] for name in sys.modules}} & {OPTIONAL!r}
print(sorted(mine))
"""
    # torch, torchvision and kornia import some of them, too
    bare = "import sys, torch, torchvision, kornia.augmentation; print(sorted({n.split('.')[0] for n in sys.modules}))"
    theirs = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True).stdout
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(ast.literal_eval(done.stdout)) <= set(ast.literal_eval(theirs))
    assert done.stderr == ""
