"""What is known of every network without opening weights, counted once and kept: telling it does not wait for PyTorch.

Parameters and MACs come from tracing each network, which takes seconds for all of them. They are kept in the user's
cache under a digest of everything they depend on: the networks' and the catalogue's own files, and PyTorch's version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblur_cli.catalogue.download import PACKAGE, Bundled, Copy, Hub, Score, Source, cache_dir
from deblur_cli.files import write_whole
from deblur_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from deblur_cli.catalogue.entries import Entry, Untrained

MACS_AT_PX = 256
DEPENDS_ON = ("networks/**/*.py", "catalogue/*.py", "catalogue/*.toml")
"""Files of the package that decide what is listed."""


@dataclass(frozen=True)
class Listed:
    """One network. `kind`: which photos it needs; `network`: the architecture with its hyper-parameters.

    `macs` are for pictures of MACS_AT_PX squared, None where they cannot be counted. `source` is None where nobody
    offers weights; so are `size_bytes` and `sha256` where they are not known.
    """

    name: str
    kind: str
    network: str
    task: str
    parameters: int
    macs: int | None
    licence: str = "–"
    trained_on: str = "–"
    notes: str = ""
    scores: tuple[Score, ...] = ()
    source: Source | None = None
    size_bytes: int | None = None
    sha256: str | None = None


def list_models(progress: Progress = SILENT) -> tuple[Listed, ...]:
    """Returns all networks known by name: the catalogue's, then those yet to be trained. Kept from the first time on.

    A cache that cannot be read or written only costs the time to count again.
    """
    digest, kept = _digest(), cache_dir() / "listing.json"
    known = _recall(kept, digest)
    if known is None:
        known = _counted(progress)
        _keep(kept, digest, known, progress)
    return known


def list_entry(entry: Entry[Any], progress: Progress = SILENT) -> Listed:
    """Returns what is known of one entry; its computation is taken from the listing where the network is the same."""
    from deblur_cli.catalogue.load import ForeignConfig

    known = list_models(progress)
    for item in known:
        if (item.name, item.source) == (entry.name, entry.source):
            return item
    network = _network(entry.architecture, entry.config)
    if isinstance(entry.config, ForeignConfig):
        return _listed(entry, network, entry.config.parameters, None)
    same = next((item for item in known if item.network == network), None)
    if same is not None:
        return _listed(entry, network, same.parameters, same.macs)
    return _listed(entry, network, *_complexity(entry.architecture, entry.config))


def _counted(progress: Progress) -> tuple[Listed, ...]:
    from deblur_cli.catalogue.entries import entries, untrained

    known, missing = entries(), untrained()
    networks = [(entry.architecture, entry.config) for entry in known]
    networks += [(item.architecture.name, item.config) for item in missing]
    counted = {}
    with progress.stage("Counting parameters and computation", len(networks), "networks") as stage:
        for name, config in networks:
            if (name, config) not in counted:
                counted[name, config] = _complexity(name, config)
            stage.advance()
    listed = [
        _listed(entry, _network(entry.architecture, entry.config), *counted[entry.architecture, entry.config])
        for entry in known
    ]
    return (*listed, *(_listed_untrained(item, *counted[item.architecture.name, item.config]) for item in missing))


def _listed(entry: Entry[Any], network: str, parameters: int, macs: int | None) -> Listed:
    return Listed(
        name=entry.name,
        kind=entry.kind.value,
        network=network,
        task=entry.task,
        parameters=parameters,
        macs=macs,
        licence=entry.licence,
        trained_on=entry.trained_on,
        notes=entry.notes,
        scores=entry.scores,
        source=entry.source,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
    )


def _listed_untrained(item: Untrained, parameters: int, macs: int) -> Listed:
    network = _network(item.architecture.name, item.config)
    return Listed(item.name, item.architecture.kind.value, network, "motion blur", parameters, macs, notes=item.remedy)


def _network(architecture: str, config: Any) -> str:
    from deblur_cli.catalogue.weight_file import settings_of

    return f"{architecture} {settings_of(config)}"


def _complexity(architecture: str, config: Any) -> tuple[int, int]:
    """Returns the number of parameters, and the MACs for pictures of MACS_AT_PX squared."""
    from deblur_cli.networks import registry
    from deblur_cli.networks.contract import InputKind
    from deblur_cli.networks.shapes import count, skip_init

    line = registry.architecture(architecture)
    with skip_init():
        network = line.build(config)
    complexity = count(network, MACS_AT_PX, pictures=1 if line.kind is InputKind.SINGLE else 2)
    return complexity.parameters, complexity.macs


def _digest() -> str:
    """Returns a digest of all that the listing depends on."""
    digest = hashlib.sha256(metadata.version("torch").encode())
    for path in sorted(path for pattern in DEPENDS_ON for path in PACKAGE.glob(pattern)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _recall(kept: Path, digest: str) -> tuple[Listed, ...] | None:
    """Returns what was kept under the digest; None where nothing was, or nothing that can be read."""
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        return tuple(_from_plain(item) for item in content["models"]) if content["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(kept: Path, digest: str, known: tuple[Listed, ...], progress: Progress) -> None:
    text = json.dumps({"digest": digest, "models": [_as_plain(item) for item in known]}, ensure_ascii=False, indent=1)
    try:
        write_whole(kept, text)
    except OSError as error:
        progress.detail(f"what was counted cannot be kept in {kept.parent}: {error.strerror or error}.")


def _as_plain(item: Listed) -> dict[str, Any]:
    return {**asdict(item), "source": None if item.source is None else asdict(item.source)}


def _from_plain(values: dict[str, Any]) -> Listed:
    scores = tuple(Score(**score) for score in values["scores"])
    return Listed(**{**values, "scores": scores, "source": _source_from_plain(values["source"])})


def _source_from_plain(values: dict[str, Any] | None) -> Source | None:
    if values is None:
        return None
    if "copies" in values:
        return Hub(values["file"], tuple(Copy(**copy) for copy in values["copies"]))
    return Bundled(values["file"])
