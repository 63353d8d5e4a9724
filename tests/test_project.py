"""The project's own promises: what is installed, declared, documented, and never written down."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import napari_cellclf

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "napari_cellclf"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

# Where the name to import is not the name to install.
DISTRIBUTIONS = {
    "docstring_parser": "docstring-parser",
    "PIL": "pillow",
    "google": "protobuf",
    "botocore": "boto3",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
QT_BINDINGS = {"pyqt5", "pyqt6", "pyside2", "pyside6"}
# Front ends may use these where napari is there; napari brings them.
WITH_NAPARI = {"napari", "vispy"}
# An extra is imported by the part that it is the door of, inside functions, and nowhere else.
WITH_EXTRAS = {
    "cluster": "distributed",
    "io/remote/object_store.py": "s3",
    "models/architectures/keras_hub.py": "hub",
    "models/export": "export",
    "server": "server",
}

PUBLIC = sorted(set(napari_cellclf.__all__) - {"__version__"})


def _tracked() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    names = listed.stdout.decode().split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return match.group().lower()


def _dependencies() -> dict[str, str]:
    return {_name(line): line for line in PROJECT["project"]["dependencies"]}


def _extra(name: str) -> set[str]:
    return {_name(line) for line in PROJECT["project"]["optional-dependencies"][name]}


def test_installing_cannot_break_napari() -> None:
    assert not QT_BINDINGS & _dependencies().keys()
    assert "napari" not in _dependencies()
    assert _name(PROJECT["project"]["optional-dependencies"]["all"][0]) == "napari"


def test_dependency_groups_ask_for_the_same_versions() -> None:
    for group, lines in PROJECT["dependency-groups"].items():
        for line in lines:
            if isinstance(line, str) and _name(line) in _dependencies():
                assert line == _dependencies()[_name(line)], group


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.split(".")[0] for name in found}


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_what_is_imported_is_declared(path: Path) -> None:
    known = {*sys.stdlib_module_names, "napari_cellclf"}
    if "plugin" in path.relative_to(SOURCE).parts:
        known |= WITH_NAPARI
    for part, extra in WITH_EXTRAS.items():
        if path.relative_to(SOURCE).as_posix().startswith(part):
            known |= {name.partition(".")[0].replace("-", "_") for name in _extra(extra)}
    imported = {DISTRIBUTIONS.get(name, name) for name in _imported(path)}
    assert imported - known <= _dependencies().keys()


def _names_in(module: str) -> set[str]:
    """Return the names at the top of one of our modules, or of what lies in a package."""
    path = SOURCE.joinpath(*module.split(".")[1:])
    file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    found = {inside.stem for inside in path.iterdir()} if path.is_dir() else set()
    if module == "napari_cellclf":
        found |= set(napari_cellclf.__all__)
    statements = list(ast.parse(file.read_text(encoding="utf-8")).body)
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        else:
            statements += getattr(node, "body", []) + getattr(node, "orelse", [])
            stored = (one for one in ast.walk(node) if isinstance(one, ast.Name))
            found |= {one.id for one in stored if isinstance(one.ctx, ast.Store)}
    return found


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")]),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_what_benchmarks_and_tools_import_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("napari_cellclf"):
            missing = {alias.name for alias in node.names} - _names_in(str(node.module))
            assert not missing, f"{node.module} has no {missing}"


def _lines_of_dependencies() -> list[str]:
    """Return the lines of pyproject.toml that declare what is installed with the package."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = text.split("dependencies = [", 1)[1].split("[dependency-groups]", 1)[0]
    return [line.strip() for line in declared.splitlines()]


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            _name(line)
            for lines in [
                PROJECT["project"]["dependencies"],
                *PROJECT["project"]["optional-dependencies"].values(),
            ]
            for line in lines
        }
        - {"napari", "napari-cellclf"}
    ),
)
def test_a_declared_dependency_is_used_or_says_why(name: str) -> None:
    """It is imported, loaded by its name, or has a comment right above it."""
    module = {v: k for k, v in DISTRIBUTIONS.items()}.get(name, name).replace("-", "_")
    used = re.compile(rf"(?:import|from) {module}\b|[\"']{module}\b")
    lines = _lines_of_dependencies()
    explained = any(
        line.startswith(f'"{name}') and above.startswith("#") for above, line in pairwise(lines)
    )
    assert explained or any(
        used.search(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")
    )


def test_every_file_of_the_package_is_installed() -> None:
    installed = files("napari_cellclf")
    ours = [path.relative_to(SOURCE) for path in _tracked() if path.is_relative_to(SOURCE)]
    missing = [str(path) for path in ours if not installed.joinpath(*path.parts).is_file()]
    assert not missing
    assert {Path("py.typed"), Path("napari.yaml")} <= set(ours)


def test_entry_points() -> None:
    assert [point.value for point in entry_points(group="console_scripts", name="cellclf")] == [
        "napari_cellclf.cli:program"
    ]
    assert [
        point.value for point in entry_points(group="napari.manifest", name="napari-cellclf")
    ] == ["napari_cellclf:napari.yaml"]


def test_version_is_that_of_the_installed_package() -> None:
    assert napari_cellclf.__version__ == version("napari-cellclf")
    assert re.match(r"\d+\.\d+", napari_cellclf.__version__)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_in_the_reference(name: str) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md")]
    assert any(f"::: napari_cellclf.{name}\n" in page for page in pages)


def _modules() -> list[str]:
    paths = [path for path in SOURCE.rglob("*.py") if path.name != "__main__.py"]
    parts = [path.relative_to(SOURCE.parent).with_suffix("").parts for path in sorted(paths)]
    return [".".join(part for part in names if part != "__init__") for names in parts]


def _documented_parameters(docstring: str) -> set[str]:
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", docstring, re.M | re.S)
    if section is None:
        return set()
    names = re.findall(r"^(\*{0,2}\w[\w, *]*?)(?: : [^\n]*)?$", section.group(1), re.M)
    return {name.strip(" *") for line in names for name in line.split(",")}


@pytest.mark.parametrize("module", _modules())
def test_documented_parameters_exist(module: str) -> None:
    for name, value in vars(importlib.import_module(module)).items():
        ours = getattr(value, "__module__", None) == module
        if (
            ours
            and not name.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))
        ):
            documented = _documented_parameters(inspect.getdoc(value) or "")
            taken = set(inspect.signature(value).parameters) if documented else set()
            assert documented <= taken, f"{module}.{name}"


def _nav_pages(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    children = entry.values() if isinstance(entry, dict) else entry
    return [page for child in children for page in _nav_pages(child)]


def test_navigation_lists_every_page() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with napari's manifest reader")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    assert set(_nav_pages(settings["nav"])) == pages


def test_nothing_is_fetched_by_a_reader_of_the_documentation() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in settings
    assert "analytics:" not in settings


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_to_files_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (ROOT / target).exists()] == []


def test_readme_commands_are_what_is_checked() -> None:
    commands = re.findall(r"^python3 tools/make_venv\.py .*$", README, re.M)
    assert len(commands) == 2
    assert commands[0].endswith("cellclf demo")
    assert commands[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_changelog_keeps_its_form() -> None:
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.M)
    assert headings[0] == "[Unreleased]"
    form = re.compile(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}")
    assert all(form.fullmatch(heading) for heading in headings[1:])
    kinds = set(re.findall(r"^### (.*)$", CHANGELOG, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_versions_named_for_users_are_those_required() -> None:
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"Python {oldest}" in README
    minors = [f"3.{minor}" for minor in (11, 12, 13)]
    classifiers = PROJECT["project"]["classifiers"]
    assert all(f"Programming Language :: Python :: {minor}" in classifiers for minor in minors)
    released = re.findall(r"^## \[(\d[^\]]*)\]", CHANGELOG, re.M)
    tags = subprocess.run(["git", "tag"], cwd=ROOT, capture_output=True, check=False)
    known = tags.stdout.decode().split()
    # A shallow clone has no tags to compare with.
    assert [number for number in released if known and f"v{number}" not in known] == []


def test_nothing_tracked_names_a_registry_or_a_machine() -> None:
    # In pieces, so that this file does not name them either.
    hosts = ["pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "deb.debian" + ".org"]
    places = [r"(?<![\w./~-])/" + name + r"/\w" for name in ("work", "root", r"home/\w+")]
    unwanted = re.compile("|".join([*map(re.escape, hosts), *places]))
    found = []
    for path in _tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in unwanted.finditer(text)]
    assert found == []


def test_no_file_is_large() -> None:
    large = [str(path.relative_to(ROOT)) for path in _tracked() if path.stat().st_size > 10_000_000]
    assert large == []


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", text))
    assert len(named) > 40
    missing = [
        name for name in sorted(named) if not any(p.exists() for p in (SOURCE / name, ROOT / name))
    ]
    assert missing == []


def test_every_included_file_is_included() -> None:
    """A damaged marker is shown to the reader as it stands, and no check of the pages minds."""
    for page in (ROOT / "docs").rglob("*.md"):
        for line in page.read_text(encoding="utf-8").splitlines():
            if "--8" in line:
                assert re.fullmatch(r'--8<-- "[\w./-]+"', line), f"{page.name}: {line}"
