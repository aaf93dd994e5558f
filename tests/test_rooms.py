"""The rooms of docs/design.md: a room imports only rooms above it in the table.

Read from the source, so that an import inside a function, or for types alone, counts too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from front_door import ROOT

TABLE = re.compile(r"<!-- rooms -->\n(.*?)<!-- end -->", re.S)


def rooms() -> list[tuple[list[str], list[str]]]:
    """(files and folders of sbir_jax, what it never knows) of each row, from above."""
    (table,) = TABLE.findall((ROOT / "docs/design.md").read_text())
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return [(re.findall(r"`([^`]+)`", row[0]), re.findall(r"`([^`]+)`", row[2])) for row in rows]


def modules() -> dict[str, Path]:
    """Every module of the program by its dotted name."""
    files = [*ROOT.glob("sbir_jax/**/*.py"), *ROOT.glob("data_prep/**/*.py")]
    dotted = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    return {name.removesuffix(".__init__"): file for file, name in dotted.items()}


def imports(file: Path, known: dict[str, Path], *, top: bool = False) -> set[str]:
    """The modules of ours, and the packages of others, that a file imports.

    With `top`, only what is imported along with the file: not inside functions, not for types.
    """
    tree = ast.parse(file.read_text())
    found = set()
    for node in _at_import(tree) if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in whole}
    return {name if name in known else name.partition(".")[0] for name in found}


def _at_import(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if not for_types and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from _at_import(child)


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """What each module imports anywhere in it."""
    known = modules()
    return {name: imports(file, known) for name, file in known.items()}


def room_of(name: str) -> str:
    """The entry of the table that a module belongs to: its file, or its folder."""
    package, _, rest = name.partition(".")
    if package == "data_prep":
        return "data_prep/"
    first = rest.partition(".")[0] or "__init__"
    return f"{first}/" if (ROOT / "sbir_jax" / first).is_dir() else f"{first}.py"


def test_every_module_has_one_room(graph):
    """The table lists each file and folder once, and nothing that is not there."""
    listed = [entry for entries, _ in rooms() for entry in entries]
    assert len(listed) == len(set(listed))
    assert set(listed) == {room_of(name) for name in graph}


def test_a_room_imports_only_rooms_above_it(graph):
    """Files of one row may import each other."""
    level = {entry: i for i, (entries, _) in enumerate(rooms()) for entry in entries}
    wrong = [
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in others & graph.keys() - {"sbir_jax"}  # `from sbir_jax import __version__`
        if level[room_of(other)] > level[room_of(name)]
    ]
    assert wrong == []


def test_rooms_never_know_what_the_table_says(graph):
    """Not even through what they import: the last column holds for everything that is reached."""
    known = modules()
    top = {name: imports(file, known, top=True) for name, file in known.items()}
    wrong = []
    for entries, never in rooms():
        for name in graph:
            if room_of(name) in entries:
                wrong += [f"{name} reaches {it}" for it in never if it in _reached(name, top)]
    assert wrong == []


def _reached(name: str, top: dict[str, set[str]]) -> set[str]:
    """Packages of others and entries of the table that are imported along with a module."""
    seen, ahead = set(), [name]
    while ahead:
        for other in top[ahead.pop()] - seen:
            seen.add(other)
            ahead += [other] if other in top else []
    return {room_of(other) if other in top else other for other in seen}


def test_no_module_imports_itself_through_others(graph):
    """Within a room too: modules can be read in an order in which each knows the ones before."""
    from graphlib import TopologicalSorter

    known = modules()
    at_import = {name: imports(file, known, top=True) for name, file in known.items()}
    order = list(TopologicalSorter(at_import).static_order())
    assert set(graph) <= set(order)


def everything() -> dict[str, Path]:
    """The program, its configs and its launcher: all that a user's command runs of ours."""
    files = [*ROOT.glob("configs/**/*.py"), ROOT / "launch.py"]
    return modules() | {file.relative_to(ROOT).as_posix(): file for file in files}


def test_nothing_is_unpickled_and_tensorflow_is_not_imported():
    """No file imports pickle or what stands on it, YAML, a shell, or TensorFlow."""
    banned = {"pickle", "cPickle", "shelve", "marshal", "dill", "joblib", "cloudpickle"}
    banned |= {"yaml", "commands", "pty", "popen2", "tensorflow"}
    found = {name: imports(file, modules()) & banned for name, file in everything().items()}
    assert {name: those for name, those in found.items() if those} == {}


# What each may call of that, and why it is no hole: the page on reliability says the same.
_ALLOWED = {
    "sbir_jax.overrides": {"exec_module"},  # a config file is Python, run as who names it
    "sbir_jax.models.weight_files": {"torch.load(weights_only=True)"},  # a .pth, arrays alone
}


def forbidden(tree: ast.AST) -> set[str]:
    """Calls that run text as a program, ask a shell, or could unpickle what they read."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):  # a field may be `eval`
            found |= {node.id} & {"eval", "exec", "__import__"}
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if re.fullmatch(r"os\.(system|popen|spawn\w+|exec\w+|posix_spawn\w*)", name):
                found.add(name)
            if node.attr in ("exec_module", "run_path", "run_module", "getoutput"):
                found.add(node.attr)
        if isinstance(node, ast.Call):
            found |= _arguments(ast.unparse(node.func), node)
    return found


def _arguments(name: str, call: ast.Call) -> set[str]:
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    found = set()
    if given.get("shell", "False") != "False":
        found.add(f"{name}(shell={given['shell']})")
    if name == "compile" or name.endswith(("builtins.compile", "builtins.eval", "builtins.exec")):
        found.add(name)
    if name.endswith("load") and name.split(".")[0] in ("np", "numpy"):
        if given.get("allow_pickle") != "False":
            found.add(f"{name}() that does not say allow_pickle=False")
    elif given.get("allow_pickle", "False") != "False":
        found.add(f"{name}(allow_pickle={given['allow_pickle']})")
    if name == "torch.load":
        found.add(f"torch.load(weights_only={given.get('weights_only')})")
    return found


def test_nothing_is_evaluated_and_no_shell_is_asked():
    """No eval, exec or compile of text, no shell, no array file that may hold objects; the two
    exceptions are here by name."""
    found = {name: forbidden(ast.parse(file.read_text())) for name, file in everything().items()}
    assert {name: those for name, those in found.items() if those} == _ALLOWED


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')", "exec(text)", "__import__('os')", "compile(text, 'x', 'exec')",
        "os.system('ls')", "os.popen('ls')", "os.execvp('ls', [])", "run = os.system",
        "subprocess.run('ls', shell=True)", "subprocess.Popen(words, shell=anything)",
        "np.load(path)", "np.load(path, allow_pickle=True)", "np.save(path, x, allow_pickle=yes)",
        "torch.load(path)", "runpy.run_path(path)", "spec.loader.exec_module(module)",
    ],
)  # fmt: skip
def test_what_is_forbidden_is_seen(text):
    """The test above would fail where a file had any of these."""
    assert forbidden(ast.parse(text))


def test_what_is_imported_is_declared():
    """Every package that the program imports is a dependency in pyproject.toml or one of its
    extras, or may be absent and then says so in one line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [words for words in project["optional-dependencies"].values()]
    stated = [*project["dependencies"], *(one for words in extras for one in words)]
    declared = {re.match(r"[\w.-]+", one)[0].lower().replace("-", "_") for one in stated}
    named = {"PIL": "pillow", "orbax": "orbax_checkpoint", "absl": "absl_py", "faiss": "faiss_cpu"}
    named |= {"sklearn": "scikit_learn", "umap": "umap_learn"}
    own = {"sbir_jax", "data_prep", "configs"}
    where_they_are = {"torch", "jax2onnx", "onnxruntime"}  # .pth files, ONNX: never required
    for name, file in everything().items():
        for package in imports(file, modules()) - sys.stdlib_module_names - where_they_are:
            if package.partition(".")[0] not in own:
                assert named.get(package, package).lower() in declared, f"{name}: {package}"


def test_importing_the_package_imports_neither_jax_nor_numpy():
    """The names of the Python API are loaded when they are first used; others do not exist."""
    code = (
        "import sys, sbir_jax\n"
        "print([m for m in ('jax', 'numpy', 'flax') if m in sys.modules])\n"
        "try: sbir_jax.Indx\n"
        "except AttributeError as error: print(error)\n"
        "print(sbir_jax.Index.__name__, 'jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "[]",
        "module 'sbir_jax' has no attribute 'Indx'",
        "Index False",
    ]
