"""What STYLE.md promises and no linter checks, in all rooms."""

import ast
import configparser
import pathlib
import re
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ROOMS = (
    *("benchmarks", "cluster", "core", "data", "experiments", "models", "optim"),
    *("prune", "study", "tasks", "train"),
)
CODE = sorted(
    path.relative_to(ROOT)
    for path in [
        ROOT / "launch.py",
        *(p for r in ROOMS for p in (ROOT / r).rglob("*.py")),
    ]
    if path.exists()
)
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))
SUFFIX = re.compile(r"_([A-Z1]+)$")
NO_IDEA = {"util", "utils", "common", "helper", "helpers", "misc", "tools", "stuff"}


def tree_of(path):
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def suffix(node: ast.expr) -> str | None:
    """The axes in the name at the root of `x_BLD` or `x_BLD.astype(d)`."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func.value
        else:
            return None
    match = SUFFIX.search(node.id)
    return match and match.group(1)


def einsums(tree):
    """Every `jnp.einsum` with a literal spec, and the name its result is given to."""
    given_to = {
        node.value: node.targets[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "jnp.einsum":
            spec, *operands = node.args
            assert isinstance(spec, ast.Constant), ast.unparse(node)
            yield node.lineno, spec.value, operands, given_to.get(node)


def einsum_faults(tree):
    for line, spec, operands, target in einsums(tree):
        inputs, output = spec.split("->")
        for axes, operand in zip(inputs.split(","), operands, strict=True):
            if suffix(operand) not in (None, axes):
                yield f"line {line}: {ast.unparse(operand)} is not {axes}"
        if target is not None and suffix(target) != output:
            yield f"line {line}: {ast.unparse(target)} is not {output}"


def long_functions(tree):
    return [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 >= 60
    ]


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", CODE, ids=str)
def test_an_einsum_agrees_with_the_names_around_it(path):
    assert list(einsum_faults(tree_of(path))) == []


@pytest.mark.parametrize("path", CODE, ids=str)
def test_files_and_functions_are_short(path):
    assert (ROOT / path).read_text(encoding="utf-8").count("\n") <= 300
    assert long_functions(tree_of(path)) == []


@pytest.mark.parametrize("path", CODE, ids=str)
def test_a_file_is_named_after_its_idea(path):
    assert NO_IDEA.isdisjoint(path.with_suffix("").parts)
    assert path.stem not in sys.stdlib_module_names or len(path.parts) > 1


@pytest.mark.parametrize("path", CODE, ids=str)
def test_nobody_imports_the_command_line_or_the_tests(path):
    allowed = {"launch"} if path.parts[0] == "benchmarks" else set()
    assert ({"launch", "tests"} - allowed).isdisjoint(imports(tree_of(path)))


@pytest.mark.parametrize("path", CODE, ids=str)
def test_data_is_never_run_as_code(path):
    tree = tree_of(path)
    assert {"pickle", "dill", "marshal", "shelve"}.isdisjoint(imports(tree))
    called = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    assert called.isdisjoint({"eval", "exec", "compile", "os.system"})
    switches = {
        keyword.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if ast.unparse(keyword.value) != "False"
    }
    assert switches.isdisjoint({"shell", "allow_pickle"})


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_a_test_file_says_what_it_tests(path):
    assert ast.get_docstring(tree_of(path))


def test_every_package_is_a_room_and_known_to_every_tool():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {"core", "data", "models", "optim", "tasks", "train"} <= packages
    assert packages <= set(ROOMS)
    setup, linters = configparser.ConfigParser(), ROOT / "pyproject.toml"
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    tools = tomllib.loads(linters.read_text(encoding="utf-8"))["tool"]
    assert packages <= set(setup["importlinter"]["root_packages"].split())
    assert packages <= set(setup["tool:pytest"]["testpaths"].split())
    assert packages <= set(tools["ruff"]["lint"]["isort"]["known-first-party"])
    assert packages - {"experiments"} <= set(tools["pyright"]["include"])
    found = setup["options.packages.find"]["include"].split()
    assert {f"{package}*" for package in packages} <= set(found)


WRONG = """
out_BLD = jnp.einsum("BLD,DF->BLF", x_BLD, in_DF)
out_BLF = jnp.einsum("BLD,DF->BLF", x_BMD, in_DF.astype(x))
out_BLF = jnp.einsum("BLD,DF->BLF", x_BLD, kernel)
"""


def test_the_einsum_check_finds_a_wrong_name_on_either_side():
    faults = list(einsum_faults(ast.parse(WRONG)))
    assert faults == ["line 2: out_BLD is not BLF", "line 3: x_BMD is not BLD"]


def test_the_length_check_counts_from_def_to_the_last_line():
    body = "def f():\n" + "    x = 1\n" * 59
    assert long_functions(ast.parse(body)) == ["f: 60 lines"]
    assert long_functions(ast.parse(body.replace("    x = 1\n", "", 1))) == []
