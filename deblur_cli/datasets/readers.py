"""Folders of training pictures as they are published, read as pairs, sequences or sharp photographs.

A layout is recognised by its folders or said by name; nothing is decoded here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Sequence as Series
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal

from deblur_cli.datasets.photos import Picture
from deblur_cli.datasets.video import VIDEOS, Frame, measure_clip
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
    GOPRO_ALL = "gopro-all"
    VIEWS = "views"
    VIDEO = "video"
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
    """A blurry picture, its sharp truth of the same size, and the scene that both show.

    `reference` is another picture of the scene, where the folder holds one.
    """

    blurry: Path
    sharp: Path
    scene: str
    reference: Path | None = None


@dataclass(frozen=True)
class Sequence:
    """Sharp pictures of one scene in the order they were taken, so that each can be a reference of its neighbours.

    `high_rate` ones follow each other so fast that the average of some is a motion blur. `spacing` is how many frames
    of the original are between two of these.
    """

    scene: str
    frames: tuple[Picture, ...]
    high_rate: bool = False
    spacing: int = 1


@dataclass(frozen=True)
class Dataset:
    """One folder, read: pairs, sequences, or sharp photographs for the virtual shutter. Natural order.

    Only one of the three has members.
    """

    root: Path
    layout: Layout
    pairs: tuple[Pair, ...] = ()
    photos: tuple[Path, ...] = ()
    sequences: tuple[Sequence, ...] = ()

    @property
    def every_picture(self) -> tuple[Picture, ...]:
        """All pictures, each once."""
        of_pairs = (p for pair in self.pairs for p in (pair.blurry, pair.sharp, pair.reference) if p is not None)
        frames = (frame for sequence in self.sequences for frame in sequence.frames)
        return tuple(dict.fromkeys((*self.photos, *of_pairs, *frames)))


@dataclass(frozen=True)
class _Reader:
    layout: Layout
    looks_for: str
    read: Callable[[Path, Split], tuple[Pair, ...]]


@dataclass(frozen=True)
class _SequenceReader:
    layout: Layout
    looks_for: str
    read: Callable[[Path, Split], tuple[Sequence, ...]]
    only_related: bool = False


def read_dataset(root: Path, layout: Layout | None = None, split: Split = "train", *, related: bool = False) -> Dataset:
    """Returns the pictures under `root`, by the layout named or the first that fits.

    `split` chooses the training or the test part where a layout has both. With `related`, several pictures of a scene
    are wanted: folders of photographs are taken for views of one scene each. Raises DatasetError that names what was
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
    for sequence_reader in SEQUENCE_READERS:
        if layout is sequence_reader.layout or (layout is None and (related or not sequence_reader.only_related)):
            sequences = sequence_reader.read(root, split)
            if sequences:
                return Dataset(root, sequence_reader.layout, sequences=sequences)
    if layout is not None:
        wanted = next(reader.looks_for for reader in (*READERS, *SEQUENCE_READERS) if reader.layout is layout)
        raise DatasetError(f"{root}: layout {layout} was named, but there is no {wanted}. {_found(root)}")
    return _photos(root, sure=False)


def read_pairs(root: Path, layout: Layout | None = None, split: Split = "train") -> tuple[Pair, ...]:
    """Returns the pairs under `root`. Raises DatasetError as `read_dataset`, and where there are photos alone."""
    return pairs_of(read_dataset(root, layout, split))


def pairs_of(dataset: Dataset) -> tuple[Pair, ...]:
    """Returns the dataset's pairs. Raises DatasetError, which says what was looked for, where there are none."""
    if not dataset.pairs:
        root, wanted = dataset.root, "; ".join(f"{reader.layout}: {reader.looks_for}" for reader in READERS)
        raise DatasetError(f"{root} holds no pairs of blurry and sharp pictures. Looked for {wanted}. {_found(root)}")
    return dataset.pairs


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Returns a sort key by which 9 comes before 10."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def pictures_in(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Returns the pictures of a folder in natural order; hidden ones and other files are left out."""
    return _files_in(folder, PICTURES, recursive=recursive) if folder.is_dir() else []


def _files_in(folder: Path, suffixes: frozenset[str], *, recursive: bool = False) -> list[Path]:
    found = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        (p for p in found if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()),
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
    blurry: Series[Path], sharp: Series[Path], *, key: Callable[[Path], str], scene: Callable[[Path], str]
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
    # Names are bytes on most systems, and lists come from everywhere.
    for number, line in enumerate(listing.read_text("utf-8", "surrogateescape").splitlines(), start=1):
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
                return tuple(_with_references(_match(blurry, truth, key=key, scene=key), base / "ref"))
    return ()


def _with_references(pairs: list[Pair], folder: Path) -> list[Pair]:
    """Returns the pairs with the pictures of `folder` whose paths below it are those of their scenes."""
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in pictures_in(folder, recursive=True)}
    return [replace(pair, reference=known.get(pair.scene)) for pair in pairs]


def _gopro_all(root: Path, split: Split) -> tuple[Sequence, ...]:
    """Returns the high-rate sequences of <train|test>/<scene>/<number>.png, as GOPRO_Large_all has them."""
    if not (root / split).is_dir():
        return ()
    found = []
    for scene in _folders(root / split):
        frames = [path for path in pictures_in(scene) if path.stem.isdigit()]
        if len(frames) >= LEAST_HIGH_RATE:
            found.append(Sequence(scene.name, tuple(frames), high_rate=True))
    return tuple(found)


def _views(root: Path, split: Split) -> tuple[Sequence, ...]:
    """Returns the pictures of every folder below `root` that holds at least two, as views of one scene."""
    folders = {path.parent for path in pictures_in(root, recursive=True)} - {root}
    views = [(folder, pictures_in(folder)) for folder in sorted(folders, key=natural_key)]
    return tuple(
        Sequence(folder.relative_to(root).as_posix(), tuple(pictures))
        for folder, pictures in views
        if len(pictures) > 1 and not BLURRY_FOLDERS.intersection(folder.relative_to(root).parts)
    )


def _video(root: Path, split: Split) -> tuple[Sequence, ...]:
    """Returns the clips in a folder of clips alone, each one scene."""
    if pictures_in(root):
        return ()
    counts = ((clip, measure_clip(clip).frames - 1) for clip in _files_in(root, VIDEOS))
    return tuple(
        Sequence(
            clip.stem, tuple(Frame(clip, index) for index in range(0, count, VIDEO_SPACING)), spacing=VIDEO_SPACING
        )
        for clip, count in counts
    )


READERS = (
    _Reader(Layout.GOPRO, "train|test/<scene>/blur and sharp", _gopro("blur")),
    _Reader(Layout.GOPRO_GAMMA, "train|test/<scene>/blur_gamma and sharp", _gopro("blur_gamma")),
    _Reader(Layout.REDS, "train_blur[_comp]/<scene> and train_sharp/<scene>", _reds),
    _Reader(Layout.REALBLUR, "RealBlur_*_train_list.txt or <scene>/blur and gt", _realblur),
    _Reader(Layout.HIDE, "train or test, and GT", _hide),
    _Reader(Layout.PAIRS, "blur and sharp (or input and target)", _plain),
)
"""Tried in this order. GoPro's `blur` comes before `blur_gamma`: published figures (MPRNet, NAFNet) are on `blur`."""

VIDEO_SPACING = 3
"""Frames of a clip that are taken: its neighbours hardly differ, to find one costs a third of a second, and a third of
them fit into the memory that holds decoded pictures."""

LEAST_HIGH_RATE = 20
"""Fewer frames than this are no sequence: an average of 13, the frame left out and a neighbour need more."""

SEQUENCE_READERS = (
    _SequenceReader(Layout.GOPRO_ALL, "train|test/<scene>/<number>.png, high-rate frames", _gopro_all),
    _SequenceReader(Layout.VIDEO, "video clips", _video),
    _SequenceReader(Layout.VIEWS, "<scene>/ with at least two photos of it", _views, only_related=True),
)
"""Tried after the pairs, in this order."""
