"""Training pictures decoded once: held as bytes, as many as a budget allows, and kept as files of plain bytes.

A 720p PNG takes some 30 ms to decode, however small the crop that is wanted of it. A file of plain bytes is mapped, so
that a crop reads its own rows alone, and all processes share what the system keeps of it in memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblur_cli.arrays import Bytes
from deblur_cli.convert import stack_bytes
from deblur_cli.datasets.video import VIDEOS, Frame, measure_clip, read_frame
from deblur_cli.errors import CannotWriteError
from deblur_cli.files import whole_file
from deblur_cli.imaging.read import read_photo, read_size
from deblur_cli.progress import Progress

Picture = Path | Frame
"""A picture to train on: a file, or a frame of a clip."""


def size_of(picture: Picture) -> tuple[int, int]:
    """Returns height and width, upright, of a picture or clip, without decoding it.

    Raises UnreadablePhotoError and its kin, and DatasetError for clips.
    """
    path = _file(picture)
    if path.suffix.lower() in VIDEOS:
        clip = measure_clip(path)
        return clip.height, clip.width
    return read_size(path)


def _file(picture: Picture) -> Path:
    return picture.video if isinstance(picture, Frame) else picture


def _pixels(picture: Picture) -> Bytes:
    if isinstance(picture, Frame):
        return read_frame(picture)
    return np.rint(read_photo(picture).pixels * 255).astype(np.uint8)


def decoded_file(picture: Picture, folder: Path) -> Path:
    """Returns the file in `folder` that holds a picture decoded: another one once the picture's file has changed."""
    path = _file(picture)
    facts = path.stat()
    name = (
        f"{path.resolve()}\0{picture.index if isinstance(picture, Frame) else ''}\0{facts.st_size}\0{facts.st_mtime_ns}"
    )
    return folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.npy"


def keep_decoded(pictures: Iterable[Picture], folder: Path, progress: Progress) -> bool:
    """Decodes what `folder` does not hold yet, on all processors, and returns whether it then holds all.

    False, with a note, where the disk has too little room: nothing is written then. Any number of processes may fill
    one folder. Raises UnreadablePhotoError and its kin, DatasetError for clips, CannotWriteError.
    """
    missing = {target: picture for picture in pictures if not (target := decoded_file(picture, folder)).exists()}
    if not missing:
        return True
    sizes = {path: size_of(path) for path in {_file(picture) for picture in missing.values()}}
    needed = sum(3 * height * width for height, width in (sizes[_file(picture)] for picture in missing.values()))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(
            folder, f"decoded pictures cannot be kept there: {error}. Name another --cache."
        ) from error
    if shutil.disk_usage(folder).free < 1.05 * needed:
        progress.note(
            f"{folder} has too little room for {needed / 1e9:.1f} GB of decoded pictures: each is decoded when it is "
            "wanted. Another --cache would be faster."
        )
        return False
    progress.note(f"{len(missing)} pictures are decoded once and kept in {folder}: {needed / 1e9:.1f} GB.")

    def decode(job: tuple[Path, Picture]) -> None:
        _write_decoded(*job)

    with progress.stage("Decoding", len(missing), "pictures") as stage, ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(decode, missing.items()):
            stage.advance()
    return True


def _write_decoded(target: Path, picture: Picture) -> None:
    pixels = np.ascontiguousarray(_pixels(picture).transpose(2, 0, 1))
    try:
        with whole_file(target) as temporary, temporary.open("wb") as file:
            np.save(file, pixels)
    except OSError as error:
        raise CannotWriteError(target, f"a decoded picture cannot be kept: {error}. Name another --cache.") from error


class PhotoStore:
    """Decoded pictures on one device, the least recently used dropped when the budget is full.

    What it returns depends on the file alone, never on what was read before. `decoded` is a folder that `keep_decoded`
    filled: pictures are mapped from it, so that on a processor only what is cut out of one is read.
    """

    def __init__(self, device: torch.device, budget_bytes: int, decoded: Path | None = None) -> None:
        self._device = device
        self._budget = budget_bytes
        self._decoded = decoded
        self._held: OrderedDict[Picture, Tensor] = OrderedDict()
        self._bytes = 0

    def get(self, path: Picture) -> Tensor:
        """Returns a picture as (3, H, W) uint8, upright, on the store's device.

        16-bit files are rounded to 8: a shutter's noise is coarser. Raises UnreadablePhotoError and its kin.
        """
        held = self._held.get(path)
        if held is not None:
            self._held.move_to_end(path)
            return held
        picture = self._read(path).to(self._device)
        self._held[path] = picture
        self._bytes += picture.numel()
        while self._bytes > self._budget and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].numel()
        return picture

    def _read(self, picture: Picture) -> Tensor:
        if self._decoded is not None and (file := decoded_file(picture, self._decoded)).exists():
            # Copy on write: torch warns of memory that may not be written to.
            return torch.from_numpy(np.load(file, mmap_mode="c"))
        return stack_bytes([_pixels(picture)])[0]
