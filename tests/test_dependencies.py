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
