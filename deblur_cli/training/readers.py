"""Folders of training pictures as they are published, read as pairs or as sharp photographs.

A layout is recognised by its folders or said by name; nothing is decoded here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from deblur_cli.errors import DatasetError, UsageError

Split = Literal["train", "test"]
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})
BLURRY_FOLDERS = frozenset({"blur", "blur_gamma", "blurry", "input", "train_blur", "train_blur_comp"})
PLAIN_NAMES = (("blur", "sharp"), ("blur", "gt"), ("blurry", "sharp"), ("input", "target"), ("input", "gt"))


class Layout(StrEnum):
    """How a folder of training pictures is laid out."""

    GOPRO = "gopro"
    GOPRO_GAMMA = "gopro-gamma"
    REDS = "reds"
    REALBLUR = "realblur"
    HIDE = "hide"
    PAIRS = "pairs"
    PHOTOS = "photos"


def layout_named(name: str | None) -> Layout | None:
    """Returns the layout of that name; None stands for: find out. Raises UsageError for an unknown name."""
    if name is None:
        return None
    if name not in list(Layout):
        raise UsageError(f"There is no layout called {name!r}. Choose one of {', '.join(Layout)}.")
    return Layout(name)


@dataclass(frozen=True)
class Pair:
    """A blurry picture, its sharp truth of the same size, and the scene that both show."""

    blurry: Path
    sharp: Path
    scene: str


@dataclass(frozen=True)
class Dataset:
    """One folder, read: pairs, or sharp photographs for the virtual shutter. Natural order; one of both is empty."""

    root: Path
    layout: Layout
    pairs: tuple[Pair, ...] = ()
    photos: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Reader:
    layout: Layout
    looks_for: str
    read: Callable[[Path, Split], tuple[Pair, ...]]


def read_dataset(root: Path, layout: Layout | None = None, split: Split = "train") -> Dataset:
    """Returns the pictures under `root`, by the layout named or the first that fits.

    `split` chooses the training or the test part where a layout has both. Raises DatasetError that names what was
    looked for and what was found, and for a blurry picture without its sharp one.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder. Give the folder that holds the training pictures.")
    if layout is Layout.PHOTOS:
        return _photos(root, sure=True)
    for reader in READERS:
        if layout in (None, reader.layout):
            pairs = reader.read(root, split)
            if pairs:
                return Dataset(root, reader.layout, pairs=pairs)
    if layout is not None:
        wanted = next(reader.looks_for for reader in READERS if reader.layout is layout)
        raise DatasetError(f"{root}: layout {layout} was named, but there is no {wanted}. {_found(root)}")
    return _photos(root, sure=False)


def read_pairs(root: Path, layout: Layout | None = None, split: Split = "train") -> tuple[Pair, ...]:
    """Returns the pairs under `root`. Raises DatasetError as `read_dataset`, and where there are photos alone."""
    dataset = read_dataset(root, layout, split)
    if not dataset.pairs:
        wanted = "; ".join(f"{reader.layout}: {reader.looks_for}" for reader in READERS)
        raise DatasetError(f"{root} holds no pairs of blurry and sharp pictures. Looked for {wanted}. {_found(root)}")
    return dataset.pairs


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Returns a sort key by which 9 comes before 10."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def pictures_in(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Returns the pictures of a folder in natural order; hidden ones and other files are left out."""
    if not folder.is_dir():
        return []
    found = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        (p for p in found if p.suffix.lower() in PICTURES and not p.name.startswith(".") and p.is_file()),
        key=natural_key,
    )


def _photos(root: Path, *, sure: bool) -> Dataset:
    """Returns a folder of sharp photographs; unless `sure`, refuses one that seems to hold blurry pictures."""
    photos = tuple(pictures_in(root, recursive=True))
    if not photos:
        wanted = "; ".join(f"{reader.layout}: {reader.looks_for}" for reader in READERS)
        raise DatasetError(
            f"{root} holds no training pictures. Looked for {wanted}; photos: pictures in any folder. {_found(root)}"
        )
    blurry = next((p for p in photos if BLURRY_FOLDERS.intersection(p.relative_to(root).parts)), None)
    if blurry is not None and not sure:
        raise DatasetError(
            f"{root}: {blurry.parent} seems to hold blurry pictures, but no sharp ones were found. "
            f"{_found(root)} Give the dataset's own folder, or --layout photos if these pictures are sharp."
        )
    return Dataset(root, Layout.PHOTOS, photos=photos)


def _found(root: Path) -> str:
    names = sorted(item.name + ("/" if item.is_dir() else "") for item in root.iterdir() if item.name[0] != ".")
    if not names:
        return "The folder is empty."
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"Found {', '.join(names[:6])}{more}."


def _folders(root: Path) -> list[Path]:
    return sorted((item for item in root.iterdir() if item.is_dir()), key=natural_key) if root.is_dir() else []


def _match(
    blurry: Sequence[Path], sharp: Sequence[Path], *, key: Callable[[Path], str], scene: Callable[[Path], str]
) -> list[Pair]:
    """Returns the pairs of equal keys. Raises DatasetError for a blurry picture whose sharp one is missing."""
    truth = {key(path): path for path in sharp}
    missing = [path for path in blurry if key(path) not in truth]
    if missing:
        where = sharp[0].parent if sharp else "the sharp folder, which is missing or empty"
        raise DatasetError(
            f"{len(missing)} of {len(blurry)} blurry pictures in {missing[0].parent} have no sharp one in {where}: "
            f"{', '.join(path.name for path in missing[:3])}. Copy the dataset again, or remove them."
        )
    return [Pair(path, truth[key(path)], scene(path)) for path in blurry]


def _stem(path: Path) -> str:
    return path.stem


def _folder(path: Path) -> str:
    """Returns the scene of <scene>/<blur>/<picture>."""
    return path.parent.parent.name


def _number(path: Path) -> str:
    """Returns the number that ends a name, as RealBlur counts: gt_3 and blur_3 belong together."""
    return path.stem.rsplit("_", 1)[-1]


def _part(root: Path, split: Split) -> Path:
    """Returns the split's own folder where there is one, else the folder itself."""
    return root / split if (root / split).is_dir() else root


def _gopro(blur: str) -> Callable[[Path, Split], tuple[Pair, ...]]:
    def read(root: Path, split: Split) -> tuple[Pair, ...]:
        pairs: list[Pair] = []
        for scene in _folders(_part(root, split)):
            blurry = pictures_in(scene / blur)
            if blurry and (scene / "sharp").is_dir():
                pairs += _match(blurry, pictures_in(scene / "sharp"), key=_stem, scene=_folder)
        return tuple(pairs)

    return read


def _reds(root: Path, split: Split) -> tuple[Pair, ...]:
    part = "train" if split == "train" else "val"
    pairs: list[Pair] = []
    for base in (root, root / part):
        for blur in (f"{part}_blur", f"{part}_blur_comp"):
            blurry = {scene.name: scene for scene in _folders(base / blur)}
            if pairs or not blurry:
                continue
            for name, scene in blurry.items():
                truth = pictures_in(base / f"{part}_sharp" / name)
                pairs += _match(pictures_in(scene), truth, key=_stem, scene=lambda path: path.parent.name)
    return tuple(pairs)


def _realblur(root: Path, split: Split) -> tuple[Pair, ...]:
    lists = sorted(root.glob(f"RealBlur*_{split}_list.txt"))
    if lists:
        return tuple(pair for listing in lists for pair in _listed(root, listing))
    pairs: list[Pair] = []
    for scene in _folders(_part(root, split)):
        blurry, truth = pictures_in(scene / "blur"), pictures_in(scene / "gt")
        if blurry and (scene / "gt").is_dir():
            pairs += _match(blurry, truth, key=_number, scene=_folder)
    return tuple(pairs)


def _listed(root: Path, listing: Path) -> list[Pair]:
    """Returns the pairs of a RealBlur list file, whose lines name the truth and then the blurry picture."""
    pairs = []
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        words = line.split()
        if len(words) < 2:
            raise DatasetError(
                f"{listing.name}, line {number}: expected two paths (sharp, then blurry), found {line.strip()!r}. "
                "Download the list again."
            )
        sharp, blurry = root / words[0], root / words[1]
        for path in (sharp, blurry):
            if not path.is_file():
                raise DatasetError(
                    f"{listing.name}, line {number} names {path}, which is not there. Unpack the dataset beside its "
                    "lists, or remove the list to read the folders."
                )
        pairs.append(Pair(blurry, sharp, _folder(blurry)))
    return pairs


def _hide(root: Path, split: Split) -> tuple[Pair, ...]:
    truth = pictures_in(root / "GT")
    if not truth or not (root / split).is_dir():
        return ()
    blurry = pictures_in(root / split, recursive=True)
    # Names are <number>from<video>: pictures of one video show one scene.
    return tuple(_match(blurry, truth, key=_stem, scene=lambda path: path.stem.rpartition("from")[2]))


def _plain(root: Path, split: Split) -> tuple[Pair, ...]:
    for base in dict.fromkeys((root, _part(root, split))):
        for names in PLAIN_NAMES:
            blur, sharp = (base / name for name in names)
            if blur.is_dir() and sharp.is_dir():

                def key(path: Path, homes: tuple[Path, ...] = (blur, sharp)) -> str:
                    home = next(home for home in homes if path.is_relative_to(home))
                    return path.relative_to(home).with_suffix("").as_posix()

                blurry, truth = (pictures_in(folder, recursive=True) for folder in (blur, sharp))
                return tuple(_match(blurry, truth, key=key, scene=key))
    return ()


READERS = (
    _Reader(Layout.GOPRO, "train|test/<scene>/blur and sharp", _gopro("blur")),
    _Reader(Layout.GOPRO_GAMMA, "train|test/<scene>/blur_gamma and sharp", _gopro("blur_gamma")),
    _Reader(Layout.REDS, "train_blur[_comp]/<scene> and train_sharp/<scene>", _reds),
    _Reader(Layout.REALBLUR, "RealBlur_*_train_list.txt or <scene>/blur and gt", _realblur),
    _Reader(Layout.HIDE, "train or test, and GT", _hide),
    _Reader(Layout.PAIRS, "blur and sharp (or input and target)", _plain),
)
"""Tried in this order. GoPro's `blur` comes before `blur_gamma`: published figures (MPRNet, NAFNet) are on `blur`."""
