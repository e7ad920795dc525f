"""Importing perfit is cheap, every module stands alone, and every public name is there."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import perfit

MODULES = sorted(module.name for module in pkgutil.walk_packages(perfit.__path__, "perfit."))
HEAVY = ("torch", "transformers", "numpy", "safetensors", "sklearn", "pyarrow", "huggingface_hub")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "act",
    [
        "import perfit; dir(perfit)",
        "from typer.testing import CliRunner; from perfit.cli.main import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "assert CliRunner().invoke(app, ['train', '--help']).exit_code == 0",
        "from perfit import read_dataset, get_task, PerFitConfig; get_task('LaMP_2N'); PerFitConfig()",
    ],
    ids=["import perfit", "perfit --help", "data, tasks and settings"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(act: str) -> None:
    assert python(f"{act}; import sys; print(*[n for n in {HEAVY!r} if n in sys.modules])") == ""


def test_every_module_imports() -> None:
    # In any order: test_rooms.py holds that no circle of modules is there, so that all a module needs is whole before it.
    assert len(MODULES) > 50
    for name in MODULES:
        importlib.import_module(name)


@pytest.mark.parametrize("name", perfit.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(perfit, name) is not None
    assert name in dir(perfit)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Perfit'"):
        perfit.Perfit  # type: ignore[attr-defined] # noqa: B018


def test_the_names_for_type_checkers_are_the_names_at_run_time() -> None:
    import ast
    from pathlib import Path

    tree = ast.parse(Path(perfit.__file__).read_text(encoding="utf-8"))
    checked = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("perfit")
        for alias in node.names
    }
    assert checked == set(perfit.__all__)
