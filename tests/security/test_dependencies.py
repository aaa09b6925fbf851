"""What is installed with the package: nothing but what Airflow brings, and nothing is imported that is not declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import airflow_claude_batch

PACKAGE = Path(airflow_claude_batch.__file__).parent
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: Airflow's own parts, which come with the one requirement `apache-airflow`.
AIRFLOW = {"apache-airflow-core": "apache-airflow", "apache-airflow-task-sdk": "apache-airflow"}
#: Imported inside functions that are called only where it is there.
WHERE_PRESENT = {
    "openlineage": "the OpenLineage provider asks for it",
    "wtforms": "the connection form of Airflow 3.0 and 3.1",
    "pytest": "it loads the plugin for users' tests",
}

#: Not installed with the tests, and imported as a part of Airflow's own package.
NOT_INSTALLED = {"apache-airflow-providers-amazon": "airflow.providers.amazon"}


def name_of(requirement: str) -> str:
    return canonical(Requirement(requirement).name)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(distribution: str) -> set[str]:
    """Everything that is installed with a distribution, without extras."""
    found: set[str] = set()
    pending = [distribution]
    while pending:
        name = canonical(pending.pop())
        if name in found:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        found.add(name)
        needed = (Requirement(each) for each in requires)
        pending += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def declared(*, extras: bool = True, own: bool = True) -> set[str]:
    """The names of our requirements, as this checkout declares them."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    groups = [project["dependencies"]] if own else []
    groups += project["optional-dependencies"].values() if extras else []
    return {name_of(each) for group in groups for each in group}


def imported() -> dict[str, set[str]]:
    """Every top-level module that the package imports, anywhere in its code, and the files that do."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(str(path.relative_to(PACKAGE)))
    return found


def test_requirements_are_exactly_what_airflow_brings() -> None:
    brought = closure("apache-airflow")
    own = declared(extras=False)

    assert {"httpx", "apache-airflow"} <= own
    assert own <= brought, f"not brought by Airflow: {own - brought}"


def test_extras_are_the_only_requirements_that_airflow_does_not_bring() -> None:
    assert declared(own=False) == {
        "apache-airflow-providers-amazon",
        "apache-airflow-providers-common-sql",
        "botocore",
        "google-auth",
        "pyarrow",
    }


def test_nothing_is_imported_that_is_not_declared() -> None:
    distributions = metadata.packages_distributions()
    known = declared()
    undeclared = {}
    for module, files in imported().items():
        if module in sys.stdlib_module_names or module == "airflow_claude_batch":
            continue
        names = {AIRFLOW.get(name := canonical(each), name) for each in distributions.get(module, [module])}
        if module not in WHERE_PRESENT and not names & known:
            undeclared[module] = sorted(files)

    assert undeclared == {}


def test_every_requirement_is_imported() -> None:
    distributions = metadata.packages_distributions()
    used = {
        AIRFLOW.get(name := canonical(each), name)
        for module in imported()
        for each in distributions.get(module, [module])
    }
    texts = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    used |= {name for name, module in NOT_INSTALLED.items() if f"from {module}." in texts}

    assert declared() <= used


def test_what_may_be_missing_is_imported_by_no_module_as_a_whole() -> None:
    plugin = PACKAGE / "simulator" / "pytest.py"
    for path in {*PACKAGE.rglob("*.py")} - {plugin}:
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {*WHERE_PRESENT, "botocore", "google", "pyarrow"}, (
                path
            )


@pytest.mark.parametrize("word", ["pickle", "marshal", "eval(", "exec(", "shell=True", "yaml.load("])
def test_package_evaluates_no_text_as_code(word: str) -> None:
    users = [
        str(path) for path in PACKAGE.rglob("*.py") if re.search(rf"(?<![\w.]){re.escape(word)}", path.read_text())
    ]

    assert users == []
