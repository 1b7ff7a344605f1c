"""A module imports only from rows below its own; siblings do not import each other (DESIGN 2)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "deblur_cli"
LAYERS = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("adaptation", "evaluation", "reporting", "diagnosis"),
    ("pipelines", "training"),
    ("engine", "catalogue", "datasets"),
    ("geometry",),
    ("networks", "deconvolution", "shutter", "measure", "imaging"),
    ("errors", "progress", "convert", "files"),
    ("arrays",),
)
"""Top row first. Names in one row are siblings."""
TABLE = "\n".join(" · ".join(row) for row in LAYERS)
ROW = {name: number for number, row in enumerate(LAYERS) for name in row}

ALLOWED_IN = {
    "typer": ("cli", "commands"),
    "rich": ("cli", "commands"),
    "rawpy": ("imaging",),
    "PIL": ("imaging",),
    "tifffile": ("imaging",),
    "safetensors": ("catalogue", "training.checkpoint"),
    "huggingface_hub": ("catalogue",),
    "jinja2": ("reporting",),
    "pickle": ("catalogue", "training.checkpoint"),
}
"""Libraries that only some places may import."""
FORBIDDEN_IN = (("imaging", "torch"), ("measure.sharpness", "torch"))


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Returns the module's name below the package: "imaging.read"; "" is the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(source: str) -> Iterator[str]:
    """Yields every module that a source imports, also inside functions and `if TYPE_CHECKING`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            if node.module == "deblur_cli":
                yield from (f"deblur_cli.{alias.name}" for alias in node.names)


def violations(module: str, source: str) -> list[str]:
    """Returns what a module imports and may not, as sentences."""
    place = module.partition(".")[0]
    found = []
    for imported in imports(source):
        library, _, rest = imported.partition(".")
        below = rest.partition(".")[0]
        if library == "deblur_cli" and below in ROW and place in ROW and below != place and ROW[below] <= ROW[place]:
            found.append(f"{module} imports {imported}, which is not below it")
        if library in ALLOWED_IN and not _within(module, ALLOWED_IN[library]):
            found.append(f"{module} imports {library}, which belongs in {', '.join(ALLOWED_IN[library]) or 'no place'}")
        found += [
            f"{module} imports {name}" for where, name in FORBIDDEN_IN if _within(module, (where,)) and library == name
        ]
    return found


def _within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def test_every_module_keeps_to_its_layer() -> None:
    found = [line for path in modules() for line in violations(name_of(path), path.read_text(encoding="utf-8"))]
    assert not found, "\n".join((*found, "", "A module imports only from rows below its own:", TABLE))


def test_every_module_has_a_row() -> None:
    places = {name_of(path).partition(".")[0] for path in modules()} - {""}
    assert places <= set(ROW), f"no row for {sorted(places - set(ROW))}"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("engine.tiles", "from deblur_cli.pipelines.jobs import SingleJob"),
        ("engine.tiles", "import deblur_cli.catalogue.find"),
        ("imaging.read", "from deblur_cli import commands"),
        ("imaging.read", "def f():\n    import torch"),
        ("imaging.read", "from deblur_cli.measure.noise import estimate_noise"),
        ("errors", "from deblur_cli.progress import SILENT"),
        ("pipelines.single", "import rich.progress"),
        ("engine.restore", "from PIL import Image"),
        ("training.loop", "from safetensors.torch import save_file"),
    ],
)
def test_the_rule_itself_can_fail(module: str, source: str) -> None:
    assert violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("commands.single", "from deblur_cli.pipelines.jobs import SingleJob\nimport typer"),
        ("engine.tiles", "from deblur_cli.engine.memory import free\nfrom deblur_cli.networks.contract import Traits"),
        ("training.checkpoint", "from safetensors.torch import save_file"),
        ("measure.fidelity", "import torch"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert not violations(module, source)
