"""Finds the picture that was made of a photo, in a folder of finished outputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.datasets.readers import PICTURES
from deblur_cli.errors import DatasetError, UnreadablePhotoError
from deblur_cli.pipelines.outputs import side_files


@dataclass(frozen=True)
class Outputs:
    """The pictures below a folder, by the stem of the photo that they were made of."""

    root: Path
    by_stem: Mapping[str, Sequence[Path]]

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


def list_outputs(root: Path, photos: Iterable[Path]) -> Outputs:
    """Returns the pictures below a folder that these photos became. Raises DatasetError where there is no picture.

    An output is named as its photo, with or without `_something` after it; s1_a_deblurred is of s1_a where there is
    such a photo, else of s1. What `deblur` writes beside its results (comparisons, confidence maps, translations) is no
    output.
    """
    stems = {photo.stem for photo in photos}
    by_stem: defaultdict[str, list[Path]] = defaultdict(list)
    pictures = sorted(path for path in root.rglob("*") if path.suffix.lower() in PICTURES and path.name[0] != ".")
    beside = side_files(pictures)
    outputs = [path for path in pictures if path not in beside]
    if not outputs:
        raise DatasetError(f"{root} holds no pictures. Give the folder with the restored photos.")
    for path in outputs:
        words = path.stem.split("_")
        names = ("_".join(words[:count]) for count in range(len(words), 0, -1))
        by_stem[next((name for name in names if name in stems), path.stem)].append(path)
    return Outputs(root, by_stem)


def _agreement(output: Path, photo: Path) -> tuple[bool, int]:
    """Returns how well an output fits a photo: its very name first, then the number of folders shared."""
    return output.stem == photo.stem, len(set(output.parts[:-1]) & set(photo.parts[:-1]))
