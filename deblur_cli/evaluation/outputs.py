"""Finds the picture that was made of a photo, in a folder of finished outputs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.datasets.readers import PICTURES
from deblur_cli.errors import DatasetError, UnreadablePhotoError
from deblur_cli.pipelines.outputs import side_files


@dataclass(frozen=True)
class Outputs:
    """The pictures below a folder, by stem. An output is named as its photo, with or without `_something` after it."""

    root: Path
    by_stem: dict[str, tuple[Path, ...]]

    def of(self, photo: Path) -> Path:
        """Returns the output of a photo; of several with its name, the one whose folders agree best.

        Raises UnreadablePhotoError where there is none, DatasetError where two fit equally.
        """
        hits = self.by_stem.get(photo.stem, ())
        if not hits:
            raise UnreadablePhotoError(photo, f"has no output in {self.root}. Restore it first, or leave it out.")
        ranked = sorted(hits, key=lambda hit: _agreement(hit, photo), reverse=True)
        if len(ranked) > 1 and _agreement(ranked[0], photo) == _agreement(ranked[1], photo):
            raise DatasetError(f"{photo} has two outputs, {ranked[0]} and {ranked[1]}. Keep one of them in the folder.")
        return ranked[0]


def list_outputs(root: Path) -> Outputs:
    """Returns the pictures below a folder of outputs. Raises DatasetError where there is none.

    What `deblur` writes beside its results (comparisons, confidence maps, translations) is no output.
    """
    by_stem: defaultdict[str, list[Path]] = defaultdict(list)
    pictures = sorted(path for path in root.rglob("*") if path.suffix.lower() in PICTURES and path.name[0] != ".")
    beside = side_files(pictures)
    for path in (path for path in pictures if path not in beside):
        for stem in _stems(path.stem):
            by_stem[stem].append(path)
    if not by_stem:
        raise DatasetError(f"{root} holds no pictures. Give the folder with the restored photos.")
    return Outputs(root, {stem: tuple(paths) for stem, paths in by_stem.items()})


def _stems(stem: str) -> list[str]:
    """Returns every name of a photo that a file of this stem could be the output of: s01_a_b of s01, s01_a, s01_a_b."""
    words = stem.split("_")
    return ["_".join(words[:count]) for count in range(1, len(words) + 1)]


def _agreement(output: Path, photo: Path) -> tuple[bool, int]:
    """Returns how well an output fits a photo: its very name first, then the number of folders shared."""
    return output.stem == photo.stem, len(set(output.parts[:-1]) & set(photo.parts[:-1]))
