"""Nothing in the package runs code that a file holds; found in the syntax trees of all modules."""

import ast
from pathlib import Path

import pytest

import lightly_aug

PACKAGE = Path(lightly_aug.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

UNPICKLING = {"cloudpickle", "dill", "joblib", "marshal", "shelve", "_pickle"}
RUNNING = {"eval", "exec", "compile", "__import__"}  # as plain names; `torch.compile` and `re.compile` are attributes
# calls that are safe with one argument: the name, the argument, and its only safe value (np.load's default is safe)
GUARDED = {"torch.load": ("weights_only", True, False), "np.load": ("allow_pickle", False, True)}
GUARDED["numpy.load"] = GUARDED["np.load"]
UNSAFE = {"pickle.load", "pickle.loads", "pickle.Unpickler", "torch.jit.load"}
UNSAFE |= {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
SHELL = {"os.system", "os.popen"}


def dotted(node: ast.expr) -> str:
    """Return the name of what is called, `a.b.c`; empty if it is not a plain name."""
    if isinstance(node, ast.Attribute):
        return f"{inner}.{node.attr}" if (inner := dotted(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""


def dangers(source: str) -> list[str]:
    """Return what in a module could run the code of a file, or hand a line to a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            found += [f"line {node.lineno}: imports {name}" for name in names if name.split(".")[0] in UNPICKLING]
            if isinstance(node, ast.ImportFrom):
                full = {f"{node.module}.{name.name}" for name in node.names}
                found += [f"line {node.lineno}: takes {name} by itself" for name in full & (UNSAFE | GUARDED.keys())]
        if isinstance(node, ast.Attribute) and dotted(node) in UNSAFE | SHELL:  # called, or handed on
            found.append(f"line {node.lineno}: uses {dotted(node)}")
        if not isinstance(node, ast.Call):
            continue
        name, given = dotted(node.func), {word.arg: word.value for word in node.keywords}
        if name in RUNNING:
            found.append(f"line {node.lineno}: calls {name}")
        if name in GUARDED:
            argument, safe, by_default = GUARDED[name]
            value = given.get(argument)
            if not (by_default if value is None else isinstance(value, ast.Constant) and value.value is safe):
                found.append(f"line {node.lineno}: calls {name} without {argument}={safe}")
        if None in given and name in GUARDED:
            found.append(f"line {node.lineno}: calls {name} with **")
        if isinstance(shell := given.get("shell"), ast.Constant) and shell.value:
            found.append(f"line {node.lineno}: calls {name} with a shell")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_runs_code_from_files(module: Path) -> None:
    assert dangers(module.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "run(pickle.loads)",
        "class Own(pickle.Unpickler): ...",
        "from pickle import loads",
        "import joblib.externals",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "torch.load(file, weights_only=safe)",
        "torch.load(file, **options)",
        "from torch import load",
        "np.load(file, allow_pickle=True)",
        "eval(text)",
        "exec(file.read())",
        "yaml.load(text, Loader=yaml.Loader)",
        "os.system(line)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_the_search_finds_them(line: str) -> None:
    assert dangers(line)


@pytest.mark.parametrize(
    "line",
    [
        "pickle.dumps(value)",
        "except_ = pickle.UnpicklingError",
        "torch.load(file, weights_only=True)",
        "np.load(file)",
        "torch.compile(model)",
        "re.compile(text)",
        "model.eval()",
    ],
)
def test_the_search_passes_what_is_safe(line: str) -> None:
    assert dangers(line) == []
