"""The directions of import, the public surface, and what `--help` may cost."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import elbound

ROOT = Path(__file__).parents[1]
FLOORS = {
    "elbound": (
        "errors", "torch_graph", "schema", "data", "files", "model", "views", "scores", "device", "detector", "engines",
        "bundle", "calibration", "diagnostics", "scorer", "explain", "fit", "estimator", "evaluation", "cli",
        "__main__",
    ),
    "service": (
        "settings", "threads", "errors", "memory", "http", "access", "queue", "scoring", "answers", "monitoring",
        "models", "v2", "uploads", "score", "state", "page", "routes", "app", "server", "commands",
    ),
    "training": (
        "options", "interrupt", "console", "config", "inputs", "report", "score", "explain", "bundles", "train", "demo",
        "commands",
    ),
}  # fmt: skip
"""The folders and loose modules of each package, from the ground up: each imports only from those before it."""
NOT_IN_THE_LIBRARY = {"fastapi", "starlette", "uvicorn", "prometheus_client", "ray", "orjson_http"}
TRAIN_EXTRA = {"sklearn", "matplotlib", "httpx", "python_calamine"}
MAY_NEED_THE_EXTRA = {
    "elbound/files/workbooks.py", "elbound/estimator.py", "elbound/evaluation.py", "training/demo/demo.py",
    "training/demo/data.py", "training/report/pictures.py",
}  # fmt: skip


def imports(file: Path) -> set[str]:
    """Every module that `file` imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the direction"
            found.add(node.module or "")
    return found


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("elbound", ("training", "service")), ("training", ("service",)), ("service", ("training",))],
)
def test_packages_import_in_one_direction(package: str, forbidden: tuple[str, ...]) -> None:
    for file in files(package):
        wrong = {name for name in imports(file) if name.split(".")[0] in forbidden}
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


def test_the_library_knows_nothing_of_http() -> None:
    for file in files("elbound"):
        wrong = {name for name in imports(file) if name.split(".")[0] in NOT_IN_THE_LIBRARY}
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("package", FLOORS)
def test_inside_a_package_imports_point_down(package: str) -> None:
    floors = FLOORS[package]
    for file in files(package):
        own = file.relative_to(ROOT / package).with_suffix("").parts[0]
        if own == "__init__":
            continue
        assert own in floors, f"{file.relative_to(ROOT)} stands on no floor"
        for name in imports(file):
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1 and parts[1] in floors:
                above = floors.index(parts[1]) > floors.index(own)
                assert not above, f"{file.relative_to(ROOT)} imports {name}, which stands above it"


@pytest.mark.parametrize("package", FLOORS)
def test_no_module_imports_itself_in_a_circle(package: str) -> None:
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): imports(file) for file in files(package)}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for name in sorted(modules[module]):
                if name in modules:
                    visit(name, (*path, module))
            done.add(module)

    for module in modules:
        visit(module, ())


def test_only_these_files_need_the_train_extra() -> None:
    for package in ("elbound", "training", "service"):
        for file in files(package):
            needed = {name.split(".")[0] for name in imports(file)} & TRAIN_EXTRA
            assert not needed or str(file.relative_to(ROOT)) in MAY_NEED_THE_EXTRA, f"{file} needs {needed}"


def test_only_one_file_knows_ray() -> None:
    for package in ("elbound", "training", "service"):
        for file in files(package):
            if str(file.relative_to(ROOT)) != "training/score/cluster.py":
                assert "ray" not in {name.split(".")[0] for name in imports(file)}, file
                assert "training.score.cluster" not in imports(file) or file.name == "command.py", file


def test_no_file_is_longer_than_five_hundred_lines() -> None:
    for package in ("elbound", "training", "service"):
        for file in files(package):
            assert len(file.read_text().splitlines()) <= 500, file


def test_nothing_is_pickled() -> None:
    """But between the server and its own decoder processes, over a socket that nobody else has."""
    for package in ("elbound", "training", "service"):
        for file in files(package):
            if file.parent.name != "decoding":
                names = {name.split(".")[0] for name in imports(file)}
                assert not names & {"pickle", "joblib", "dill", "cloudpickle"}, file
            unsafe = r"(?<!safetensors\.)torch\.load\((?!.*weights_only=True)"
            assert not re.search(unsafe, file.read_text()), file


OTHERS = {"torch", "uvicorn", "fastapi", "starlette", "httptools", "prometheus_client", "pyarrow", "PIL"}
KNOWS_PRIVATE_NAMES = {"elbound/engines/torch_private.py"}
"""Each is guarded: where a release does not have the names, the product works and is slower."""
KNOWS_UVICORN = {"service/http/protocol.py", "service/http/bounds.py"}
"""They stand around its HTTP protocol, so pyproject.toml bounds its version from above."""


def private_names(file: Path) -> set[str]:
    """What `file` uses of `OTHERS` whose name begins with one underscore."""
    tree, bound, found = ast.parse(file.read_text()), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OTHERS:
            bound |= {alias.asname or alias.name for alias in node.names}
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if re.search(r"\._[^_]", name)}
        elif isinstance(node, ast.Import):
            bound |= {a.asname or a.name.split(".")[0] for a in node.names if a.name.split(".")[0] in OTHERS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if re.fullmatch(r"[\w.]+", text) and text.split(".")[0] in bound and re.search(r"\._[^_]", text):
                found.add(text)
    return found


def test_private_names_of_others_are_used_in_one_guarded_place() -> None:
    used = {}
    for package in ("elbound", "training", "service"):
        for file in files(package):
            place = str(file.relative_to(ROOT))
            if names := private_names(file):
                used[place] = names
            if any(name.startswith("uvicorn.protocols") for name in imports(file)):
                assert place in KNOWS_UVICORN
    assert set(used) == KNOWS_PRIVATE_NAMES, used


GONE = """
import logging, sys
import torch, torch.jit._trace
del torch.jit._trace._get_trace_graph, torch._C._jit_pass_constant_propagation
import elbound, elbound.scorer
from elbound.engines.engine import choose_engine, with_small_batches
logging.basicConfig(level="INFO", stream=sys.stdout)
scorer = elbound.Scorer.from_bundle(sys.argv[1], device="cpu")
before = scorer.raw_scores(scorer.golden[:3])
scorer.hasten_small_batches()
assert (scorer.raw_scores(scorer.golden[:3]) == before).all()
print(scorer.engine.reason)
"""


def test_without_private_names_of_torch_a_model_scores_and_says_that_it_is_slower(table_bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GONE, str(table_bundle)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "no trace of the detector" in done.stdout
    assert "trace" not in done.stdout.splitlines()[-1]


def test_public_names_are_there_and_nothing_else_is_public() -> None:
    assert dir(elbound) == sorted(elbound.__all__)
    for name in elbound.__all__:
        assert getattr(elbound, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = elbound.nonsense


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_command_line_does_not_import_torch() -> None:
    code = (
        "import sys; from elbound.cli import build_app; build_app();"
        "print('torch' in sys.modules, 'fastapi' in sys.modules)"
    )
    assert run_python(code) == "False False\n"


def test_importing_the_library_changes_no_global_state() -> None:
    code = (
        "import torch, warnings; before = (torch.get_num_threads(), torch.get_default_dtype(), list(warnings.filters));"
        "import elbound.scorer;"
        "print(before == (torch.get_num_threads(), torch.get_default_dtype(), list(warnings.filters)))"
    )
    assert run_python(code) == "True\n"
