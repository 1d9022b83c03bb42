"""The floors of the design, read off the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import quintet

ROOT = Path(quintet.__file__).parent
FLOORS = {
    "core": 0, "nets": 1, "families": 2, "codecs": 2, "training": 3, "evaluation": 3, "data": 3,
    "registry": 4, "config": 4, "runs": 4, "outputs": 4, "inputs": 4, "session": 4, "live": 4, "card": 4, "spelling": 4,
    "containers": 4, "progress": 4,
    "api": 5, "model": 5, "writing": 5, "comparison": 5, "bench": 5, "recommend": 5, "learnt": 5, "nearest": 5,
    "cost": 5, "tasks": 5, "apps": 6, "__main__": 7,
}  # fmt: skip
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of what is imported, `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(source: str, module: tuple[str, ...]) -> list[str]:
    """Imports of quintet.* that do not lie on a lower floor, or in the same package."""
    package, bad = module[0], []
    for name in imports(ast.parse(source)):
        parts = name.split(".")
        if parts[0] != "quintet" or len(parts) < 2 or parts[1] not in FLOORS:
            continue
        sideways = parts[1] == package and package not in ("families", "codecs")
        same_floor_modules = FLOORS[package] in (4, 5, 6) and FLOORS[parts[1]] == FLOORS[package]
        if not (FLOORS[parts[1]] < FLOORS[package] or sideways or same_floor_modules):
            bad.append(f"{'.'.join(module)} imports {name}")
    return bad


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    assert violations(path.read_text(), path.relative_to(ROOT).with_suffix("").parts) == []


def test_the_floor_test_notices_a_violation() -> None:
    assert violations("from quintet.families.vae import VAE", ("families", "gan"))
    assert violations("from quintet import api", ("core", "family"))
    assert violations("import quintet.data.loader", ("training", "trainer"))
    assert not violations("from quintet.core.family import Family", ("families", "gan"))


def test_every_module_has_a_floor() -> None:
    assert {path.relative_to(ROOT).with_suffix("").parts[0] for path in FILES} <= set(FLOORS)


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
    assert quintet.__all__ == ["Model", "QuintetError", "__version__", "compare", "load", "resume", "train"]
    for name in quintet.__all__:
        assert getattr(quintet, name) is not None
