"""How long a network takes for a large photo on a device: measured, or reckoned from what was measured.

The time of a network does not depend on its weights: where they are not on this computer, random ones do.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from deblur_cli.arrays import Pixels
from deblur_cli.catalogue.download import locate
from deblur_cli.catalogue.entries import MODEL_TYPES, Entry
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import Device, choose, fit_to_network, move_network
from deblur_cli.engine.memory import choose_tile
from deblur_cli.engine.restore import Restored, restore
from deblur_cli.engine.tiles import plan_tiles
from deblur_cli.evaluation.timings import HEIGHT_PX, WIDTH_PX, Timing, this_machine
from deblur_cli.networks.contract import Architecture, Model, SingleModel
from deblur_cli.networks.papers.local_pooling import apply_local_pooling
from deblur_cli.networks.registry import architecture
from deblur_cli.progress import SILENT, Progress

RUNS = 3
"""Of one tile, after one to warm up; the least counts, since other programs only ever add."""
WHOLE_WITHIN_S = 10.0
"""Where the whole picture should take no longer, it is run instead of reckoned."""
SEED = 0


def model_of(entry: Entry[Any], progress: Progress = SILENT) -> Model:
    """Returns the entry's model with its weights where they are on this computer, else with random ones."""
    if locate(entry.source).path is not None:
        model: Model = load(entry, progress)
        return model
    random = random_model(entry.name, architecture(entry.architecture), entry.config)
    if entry.traits.pooling is not None:
        apply_local_pooling(random.network, entry.traits.pooling)
    return type(random)(random.name, random.network, entry.traits)


def random_model(name: str, line: Architecture, config: Any) -> Model:
    """Returns a model of the registry with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = line.build(config)
    traits = line.default_traits(config)
    if traits.pooling is not None:
        apply_local_pooling(network, traits.pooling)
    model: Model = MODEL_TYPES[line.kind](name, network.requires_grad_(False).eval(), traits)
    return model


def measure_speed(model: Model, device: str = "auto", precision: str = "auto", progress: Progress = SILENT) -> Timing:
    """Returns the seconds that the network takes for a photo of 24 megapixels on the device, tiles and all.

    One tile is timed and multiplied by their number, unless the whole picture is quick: then that is run. Reading,
    judging and writing are not counted. Raises DeviceError, OutOfMemoryError.
    """
    fitted = fit_to_network(choose(device, precision), model.name, model.traits)
    with torch.inference_mode():
        move_network(model.network, fitted)
        tile_px = choose_tile(model, fitted).tile_px
    plan = plan_tiles(
        HEIGHT_PX,
        WIDTH_PX,
        tile_px=tile_px,
        overlap_px=model.traits.overlap_px,
        multiple=model.traits.size_multiple,
    )
    progress.detail(f"timing {model.name}: a tile of {plan.shape[1]} × {plan.shape[0]} px, of {plan.count}.")
    seconds = plan.count * _least_seconds(model, fitted, *plan.shape, tile_px)
    measured = seconds <= WHOLE_WITHIN_S
    if measured:
        seconds = _run(model, fitted, HEIGHT_PX, WIDTH_PX, tile_px).network_seconds
    return Timing(seconds, measured, str(fitted.torch_device), fitted.dtype_name, this_machine())


def _least_seconds(model: Model, device: Device, height: int, width: int, tile_px: int) -> float:
    least = math.inf
    for _ in range(1 + RUNS):
        seconds = _run(model, device, height, width, tile_px).network_seconds
        least = min(least, seconds)
        if seconds > WHOLE_WITHIN_S:
            break  # nothing to warm up matters then
    return least


def _run(model: Model, device: Device, height: int, width: int, tile_px: int) -> Restored:
    inputs = [_picture(height, width)] * (1 if isinstance(model, SingleModel) else 2)
    return restore(model, device, inputs, tile_px=tile_px)


def _picture(height: int, width: int) -> Pixels:
    """Returns a picture with something to see everywhere: zeros may be quicker than photos."""
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    wave = 0.5 + 0.2 * np.sin(rows / 7) * np.sin(columns / 11)
    return np.repeat(wave[..., None], 3, axis=2)
