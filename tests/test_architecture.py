"""The rules of layout, read from the source with `ast`: nothing is imported or run."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted(
    path.relative_to(REPOSITORY)
    for package in ("rere_env", "agents")
    for path in (REPOSITORY / package).rglob("*.py")
)

EXAMPLES = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / "examples").glob("*.py"))

MAX_LINES_PER_FILE = 320
MAX_LINES_PER_FUNCTION = 70

# Lower layers first. Every module lies in a layer, by its own name or its package's; it may
# import its own layer and those before it.
CORE_LAYERS = (
    "types ragged",
    "tokenizer rewards metrics confidence",
    "catalogue",
    "filters prompts games",
    "trie",
    "data",
    "task",
    "worlds dynamics",
    "render",
    "envs",
    "wrappers offline",
    "testing",
)
AGENT_LAYERS = (
    "types budget files randomness processes evaluation",
    "trees losses advantages runs baselines reporting env_recommender",
    "language_model",
    "policy",
    "search scoring rewards",
    "rere lm_recommender",
    "algorithms registry adapters bench",
    "training",
    "experiment comparison testing play",
    "commands",
    "cli",
)
LAYER = {
    f"{package}.{name}": level
    for package, layers in (("rere_env", CORE_LAYERS), ("agents", AGENT_LAYERS))
    for level, names in enumerate(layers)
    for name in names.split()
}
ONLY_TYPES = ("rere_env.rewards", "rere_env.metrics")

CORE = {"rere_env", "numpy", "gymnasium", *sys.stdlib_module_names}
# Extras that a file of rere_env may import inside a function.
LAZY_EXTRAS = {
    "tokenizer": {"transformers", "tokenizers"},
    "data/tables": {"polars"},
    "render/raster": {"PIL"},
    "offline/minari": {"minari"},
}
# A compiled kernel needs numba at its top; test_imports.py sees to it that only use loads it.
KERNEL_MARK = "numba"

RL_LIBRARIES = {
    "stable_baselines3": "sb3",
    "sb3_contrib": "sb3",
    "tianshou": "tianshou",
    "trl": "trl",
}
GLOBAL_GENERATORS = {
    *("random.seed", "random.setstate", "np.random.seed", "np.random.set_state"),
    *(
        "torch.manual_seed",
        "torch.set_rng_state",
        "torch.random.fork_rng",
        "torch.random.manual_seed",
    ),
    "torch.default_generator",
}
NAMED_COLUMNS = {
    "BATCH_COLUMNS": {"user", "history", "target", "target_title"},
    "OBSERVATION_KEYS": {"history", "slate", "prefix"},
}
UNSAFE_MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
}


TESTS = sorted(
    path.relative_to(REPOSITORY)
    for package in ("rere_env", "agents")
    for path in (REPOSITORY / "tests" / package).rglob("*.py")
    if path.name not in {"conftest.py", "__init__.py"}
)
# Guard what no one module can promise by itself; tests/mutants/table.py names them.
PROMISES = {
    Path("tests", "agents", "test_protocol.py"),
    Path("tests", "agents", "policy", "test_remote_code.py"),
    Path("tests", "agents", "rere", "test_precision.py"),
}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module (or name of a module), and where it stands."""

    name: str
    line: int
    in_function: bool

    @property
    def top_level(self) -> str:
        """The part before the first dot."""
        return self.name.partition(".")[0]


def module_name(file: Path) -> str:
    """`rere_env/trie.py` -> `rere_env.trie`; a package is its `__init__.py`."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def parse(file: Path) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse((REPOSITORY / file).read_text(encoding="utf-8"), str(file))


def imports_of(tree: ast.Module, file: Path) -> Iterator[Import]:
    """Every import, also inside functions and `if TYPE_CHECKING`; relative ones made absolute.

    `from package import name` counts as `package.name` where that is one of our modules.
    """
    package = file.parent.parts
    nested = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) in nested)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                name = submodule if submodule in MODULES else source
                yield Import(name, node.lineno, id(node) in nested)


@cache
def import_graph() -> dict[str, set[str]]:
    """Our modules and those of ours that each imports, lazily or not."""
    return {
        module: {found.name for found in imports_of(parse(file), file)} & MODULES.keys() - {module}
        for module, file in MODULES.items()
    }


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Every module that `start` leads to."""
    seen: set[str] = set()
    frontier = [start]
    while frontier:
        new = graph.get(frontier.pop(), set()) - seen
        seen |= new
        frontier.extend(new)
    return seen


def offences(file: Path, found: list[tuple[int, str]]) -> str:
    """One clickable line per offence."""
    return "\n".join(f"{file}:{line}: {message}" for line, message in sorted(found))


each_file = pytest.mark.parametrize("file", FILES, ids=str)
each_core_file = pytest.mark.parametrize(
    "file", [file for file in FILES if file.parts[0] == "rere_env"], ids=str
)


@each_core_file
def test_core_imports_numpy_and_gymnasium_only(file: Path) -> None:
    """rere_env never imports torch or agents, and of the extras only those listed, lazily."""
    lazy = LAZY_EXTRAS.get("/".join(file.with_suffix("").parts[1:]), set())
    kernel = {"numba"} if KERNEL_MARK in file.stem else set()
    wrong = [
        (found.line, f"imports {found.name}")
        for found in imports_of(parse(file), file)
        if found.top_level not in CORE | kernel | (lazy if found.in_function else set())
    ]
    assert not wrong, offences(file, wrong)


def room_of(module: str) -> str:
    """`agents.search.beam` -> `agents.search`; the packages' own faces are rooms of their own."""
    return ".".join(module.split(".")[:2])


def test_every_module_lies_in_a_layer() -> None:
    """Both tuples name every room of both packages, and no other."""
    assert {room_of(module) for module in MODULES} - {"rere_env", "agents"} == LAYER.keys()


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"rere_env", "agents"}))
def test_layers_point_downwards(module: str) -> None:
    """A module imports nothing of a higher layer."""
    package, room = module.partition(".")[0], room_of(module)
    higher = {
        other
        for other in import_graph()[module]
        if other.partition(".")[0] == package
        and (other == package or LAYER[room_of(other)] > LAYER[room])
    }
    assert not higher, f"{module} imports {sorted(higher)}, which lie above it"


def test_rooms_of_a_layer_form_no_circle() -> None:
    """Packages of one layer may import each other one way only."""
    graph: dict[str, set[str]] = {}
    for module, found in import_graph().items():
        graph.setdefault(room_of(module), set()).update(map(room_of, found))
    for room, others in graph.items():
        others.discard(room)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", sorted(set(ONLY_TYPES) & MODULES.keys()))
def test_rewards_and_metrics_import_only_types(module: str) -> None:
    """A reward or a metric is a function of integer arrays: of ours it knows only the types."""
    assert import_graph()[module] <= {"rere_env.types"}


def test_no_import_cycles() -> None:
    """No module imports itself through others, not even lazily."""
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def may_import(file: Path, library: str) -> bool:
    """`agents/adapters/LIBRARY/`, and the peer of the benchmarks that bears its name."""
    in_adapter = file.parts[:3] == ("agents", "adapters", library)
    return in_adapter or file == Path("agents", "bench", "env", f"peer_{library}.py")


@each_file
def test_rl_libraries_stay_in_their_adapters(file: Path) -> None:
    """A third-party RL library is imported only in the package that bears its name."""
    wrong = [
        (found.line, f"imports {found.name}, which belongs in agents/adapters")
        for found in imports_of(parse(file), file)
        if found.top_level in RL_LIBRARIES and not may_import(file, RL_LIBRARIES[found.top_level])
    ]
    assert not wrong, offences(file, wrong)


@each_file
def test_nothing_is_evaluated_or_unpickled(file: Path) -> None:
    """Data is parsed, never run: no eval, no exec, no pickle."""
    tree = parse(file)
    wrong = [
        (found.line, f"imports {found.name}")
        for found in imports_of(tree, file)
        if found.top_level in UNSAFE_MODULES
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
            wrong.append((node.lineno, f"calls {node.func.id}"))
        wrong += [
            (node.lineno, "allows pickled arrays")
            for keyword in node.keywords
            if keyword.arg == "allow_pickle"
            and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        ]
    assert not wrong, offences(file, wrong)


@each_file
def test_global_generators_are_lent_in_one_place(file: Path) -> None:
    """Only agents/randomness.py forks or seeds the generators that belong to the whole process.

    (`accelerate.utils.set_seed`, by which a run seeds its own process for good, is another matter.)
    """
    if file == Path("agents", "randomness.py"):
        return
    wrong = [
        (node.lineno, f"{ast.unparse(node)}: use `own_generators`")
        for node in ast.walk(parse(file))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in GLOBAL_GENERATORS
    ]
    assert not wrong, offences(file, wrong)


@each_file
def test_columns_are_spelled_out_once(file: Path) -> None:
    """Those of a batch and of an observation are named tuples of rere_env.types."""
    wrong = [
        (node.lineno, f"spells out {name}")
        for node in ast.walk(parse(file))
        if isinstance(node, ast.Tuple | ast.List | ast.Set)
        for name, columns in NAMED_COLUMNS.items()
        if {each.value for each in node.elts if isinstance(each, ast.Constant)} == columns
    ]
    assert not wrong, offences(file, wrong)


@each_file
def test_no_broad_except(file: Path) -> None:
    """An except clause names what it expects."""
    wrong = []
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.ExceptHandler):
            caught = (
                {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
                if node.type
                else set()
            )
            if node.type is None or caught & {"Exception", "BaseException"}:
                wrong.append((node.lineno, "catches everything"))
    assert not wrong, offences(file, wrong)


@each_file
def test_files_and_functions_stay_short(file: Path) -> None:
    """Long? Find the missing noun."""
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    wrong = []
    if (lines := text.count("\n")) > MAX_LINES_PER_FILE:
        wrong.append((1, f"{lines} lines, more than {MAX_LINES_PER_FILE}"))
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_LINES_PER_FUNCTION:
                wrong.append(
                    (
                        node.lineno,
                        f"{node.name} has {length} lines, more than {MAX_LINES_PER_FUNCTION}",
                    )
                )
    assert not wrong, offences(file, wrong)


def public_modules() -> set[str]:
    """What a user imports from: top-level modules, packages and the adapters' packages."""
    deep = {f"agents.adapters.{library}" for library in set(RL_LIBRARIES.values())}
    return {module for module in MODULES if module.count(".") <= 1} | deep


@pytest.mark.parametrize("file", EXAMPLES, ids=str)
def test_examples_import_what_is_public(file: Path) -> None:
    """They are copied, so they must not reach into the modules behind a package's face."""
    wrong = [
        (found.line, f"imports from {found.name}")
        for found in imports_of(parse(file), file)
        if found.top_level in {"agents", "rere_env"} and found.name not in public_modules()
    ]
    assert not wrong, offences(file, wrong)


def arguments_of(tree: ast.Module) -> Iterator[tuple[int, set[str]]]:
    """The line and the argument names of every function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            listed = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            yield node.lineno, {argument.arg for argument in listed}


HOLD_PARTS_OF_A_POLICY = (("agents", "policy"), ("agents", "trees"))
HOLD_HIDDEN_TITLES = ("filters.py", "prompts.py", "shown.py", "trie.py")


@each_file
def test_values_travel_whole(file: Path) -> None:
    """A `Policy`, not a model and a trie; `Prompts`, not what is hidden from them beside them."""
    wrong = []
    for line, names in arguments_of(parse(file)):
        if {"lm", "trie"} <= names and file.parts[:2] not in HOLD_PARTS_OF_A_POLICY:
            wrong.append((line, "takes `lm` and `trie`; take a Policy"))
        if "hidden" in names and file.name not in HOLD_HIDDEN_TITLES:
            wrong.append((line, "takes `hidden`; take Prompts"))
    assert not wrong, offences(file, wrong)


def test_one_noun_means_one_thing() -> None:
    """A public class has a name of its own; agents of libraries are called as in those."""
    homes: dict[str, set[str]] = {}
    for module, file in MODULES.items():
        for node in parse(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(module)
    twice = {
        name: sorted(modules)
        for name, modules in homes.items()
        if len(modules) > 1 and not all(module.startswith("agents.adapters.") for module in modules)
    }
    assert not twice


def test_package_data_exist() -> None:
    """What pyproject.toml ships beside the modules is there."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        shipped = tomllib.load(file)["tool"]["setuptools"]["package-data"]
    for package, patterns in shipped.items():
        for pattern in patterns:
            assert list((REPOSITORY / package).glob(pattern)), f"{package}: no file is {pattern}"


@pytest.mark.parametrize("file", [file for file in TESTS if file not in PROMISES], ids=str)
def test_tests_mirror_the_tree(file: Path) -> None:
    """`agents/X/Y.py` is tested in `tests/agents/X/test_Y.py`, the package X in `.../test_X.py`."""
    folder, name = file.parts[1:-1], file.stem.removeprefix("test_")
    tested = {".".join((*folder, name)), *([".".join(folder)] if folder[-1] == name else [])}
    assert tested & MODULES.keys(), f"{file} is named after nothing that exists: {sorted(tested)}"


def test_promises_are_tests() -> None:
    """No exception outlives its file."""
    assert set(TESTS) >= PROMISES
