"""The floors of the design, read off the syntax trees."""

from __future__ import annotations

import ast
import importlib
from contextlib import suppress
from pathlib import Path

import house
import pytest
from house import FILES, ROOT, imports, module_of

import quintet

REPOSITORY = Path(__file__).parents[1]
ORDER = (
    "core", "data", "nets", "families", "metrics", "modalities", "registry", "sources", "training", "runs", "model",
    "fit", "evaluation", "comparison", "api", "operations", "server", "studio", "cli", "__main__",
)  # fmt: skip
"""Packages and modules of the root, the lowest first: each imports only those before it."""
FLOORS = {name: floor for floor, name in enumerate(ORDER)}


def violations(source: str, module: tuple[str, ...]) -> list[str]:
    """Imports of quintet.* that lie on a higher floor, or on one that is not listed."""
    package, bad = module[0], []
    for name in imports(ast.parse(source)):
        parts = name.split(".")
        if parts[0] != "quintet" or len(parts) < 2 or parts[1] in ("__version__",):
            continue
        if FLOORS.get(parts[1], len(ORDER)) > FLOORS[package]:
            bad.append(f"{'.'.join(module)} imports {name}")
    return bad


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    assert violations(path.read_text(), module_of(path)) == []


def lacking(source: str) -> list[str]:
    """What a source imports from quintet and does not find there."""

    def there(module: str, name: str) -> bool:
        with suppress(ImportError):
            return hasattr(importlib.import_module(module), name) or bool(importlib.import_module(f"{module}.{name}"))
        return False

    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    names = [(node.module, alias.name) for node in found if node.module for alias in node.names]
    return [f"{module}.{name}" for module, name in names if module.startswith("quintet") and not there(module, name)]


def test_scripts_beside_the_package_find_what_they_import() -> None:
    """Nothing else runs all of them, so that a new name would go unnoticed."""
    scripts = [path for folder in ("benchmarks", "docs", "examples") for path in (REPOSITORY / folder).rglob("*.py")]
    assert len(scripts) > 30
    assert {path.name: lacking(path.read_text()) for path in scripts} == {path.name: [] for path in scripts}
    assert lacking("from quintet.core.spaces import Space, Gone") == ["quintet.core.spaces.Gone"]


def test_the_floor_test_notices_a_violation() -> None:
    assert violations("from quintet.families.vae import VAE", ("nets", "mlp"))
    assert violations("from quintet import registry", ("core", "family"))
    assert violations("import quintet.training.trainer", ("data", "loader"))
    assert violations("from quintet import anything", ("cli", "main"))
    assert not violations("from quintet.core.family import Family", ("families", "gan"))


def test_every_module_has_a_floor() -> None:
    assert {module_of(path)[0] for path in FILES} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_families_do_not_know_each_other(path: Path) -> None:
    module = module_of(path)
    if module[0] == "families":
        assert not [name for name in imports(ast.parse(path.read_text())) if name.startswith("quintet.families.")]


def test_the_trainer_knows_no_family() -> None:
    """No family's name, as a word or a string, and no branch on a type of family."""
    source = (ROOT / "training" / "trainer.py").read_text()
    tree = ast.parse(source)
    words = {node.id.lower() for node in ast.walk(tree) if isinstance(node, ast.Name)}
    words |= {
        node.value.lower() for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    words |= {node.attr.lower() for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    from quintet.registry import FAMILIES

    assert not words & {*FAMILIES, "generator", "critic", "isinstance", "discriminator"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_and_no_other_trainer(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = set(imports(tree))
    assert not any(
        name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"} for name in names
    )
    assert not any(name.split(".")[0] in {"torchvision", "torchaudio", "lightning"} for name in names)
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert "torch.load" not in calls
    assert "torch.save" not in calls
    distributed = any(name.startswith("torch.distributed") for name in names)
    assert not distributed or path.name == "engine.py"


def test_one_function_warns() -> None:
    """`core.errors.warn`, which finds the line of the user's program: no place counts frames of its own."""
    for path in FILES:
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert "warnings.warn" not in calls, path
        assert "warnings.warn_explicit" not in calls or path.name == "errors.py", path


def test_classes_are_abstract_or_final() -> None:
    """No class inherits from a concrete class of ours."""
    concrete, bases = set(), {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                names = {ast.unparse(base).split(".")[-1] for base in node.bases}
                bases[node.name] = names
                if not names & {"ABC", "Protocol"}:
                    concrete.add(node.name)
    open_to_inheritance = {"Settings", "QuintetError", "UsageError", "Family", "Codec"}
    for name, parents in bases.items():
        assert not parents & (concrete - open_to_inheritance), f"{name} inherits from {parents}"


def test_public_names() -> None:
    assert quintet.__all__ == ["Model", "QuintetError", "__version__", "compare", "distil", "load", "resume", "train"]
    for name in quintet.__all__:
        assert getattr(quintet, name) is not None


# -- nobody asks what kind of data this is, or which family ----------------------------------------------------------


def test_kinds_of_data_and_families_are_named_nowhere_else() -> None:
    """Modalities, families and the registry know them; all others ask the modality or the family itself."""
    assert house.asking() == {}


@pytest.mark.parametrize(
    ("source", "module", "count"),
    [
        ('if codec.name == "image": pass', "fit.session", 1),
        ('SIZES = {"vae": 1, "flow": 2}', "runs.config", 2),
        ("from quintet.modalities.text.codec import TextCodec\nx = TextCodec()", "model.writing", 2),
        ("from quintet.modalities import table", "evaluation.bench", 1),
        ("from quintet.families.vae import VAE as A\nisinstance(f, A)", "runs.folder", 2),
        ("import quintet.families.gan", "fit.fitting", 1),
        ('kind = "image"', "families.vae", 1),
        ('family = "vae"', "modalities.latent", 1),
        ('kind = "image"', "modalities.image.codec", 0),
        ('family = "vae"', "families.vae", 0),
        ('"the text of an image"; f(text, image)', "cli.main", 0),
        ("from quintet.modalities.protocol import Modality\nx = Modality", "cli.main", 0),
        ('kinds = ["text", "vae"]', "registry", 0),
    ],
)
def test_the_count_of_names_notices_each_way_to_ask(source: str, module: str, count: int) -> None:
    assert len(house.asks(source, tuple(module.split(".")))) == count


# -- circles ---------------------------------------------------------------------------------------------------------


def test_no_packages_and_no_modules_import_each_other() -> None:
    assert house.circles(house.importing(1)) == []
    assert house.circles(house.importing()) == []


def test_circles_are_found() -> None:
    assert house.circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}}) == [["b", "c"]]


# -- the table of CONTRIBUTING.md ------------------------------------------------------------------------------------

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"


def with_floors(document: str) -> str:
    """The document with the table of floors, the highest first, each with what its package says of itself."""
    begin, end = "<!-- floors -->\n", "<!-- /floors -->"
    head, tail = document.split(begin)[0], document.split(end)[1]
    rows = [f"| {floor} | `{name}` | {purpose(name)} |" for floor, name in reversed(list(enumerate(ORDER)))]
    return (
        "\n".join([head + begin.strip(), "| floor | module | what it is |", "| --- | --- | --- |", *rows, end]) + tail
    )


def purpose(name: str) -> str:
    """The first line of a package's or module's docstring."""
    path = ROOT / name / "__init__.py" if (ROOT / name).is_dir() else ROOT / f"{name}.py"
    return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]


def test_the_table_of_floors_is_fresh() -> None:
    """`python tests/test_architecture.py` writes it."""
    text = CONTRIBUTING.read_text()
    assert text == with_floors(text)
    assert all(purpose(name) for name in ORDER)


if __name__ == "__main__":
    CONTRIBUTING.write_text(with_floors(CONTRIBUTING.read_text()))
