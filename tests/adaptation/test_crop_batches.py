from __future__ import annotations

from dataclasses import replace

import torch

from deblur_cli.adaptation import exposures
from deblur_cli.adaptation.crop_batches import CropBatches
from deblur_cli.adaptation.exposures import recipe_for, shutter_crop_px
from deblur_cli.adaptation.frames import store_of
from deblur_cli.catalogue.recognise import recognise
from deblur_cli.progress import SILENT
from deblur_cli.shutter.settings import ShutterSettings

FITTED = ShutterSettings(path_px=(7.0, 9.0))


def test_a_share_of_the_exposures_keeps_the_usual_paths(shots, model, finetune, monkeypatch):
    """However wrong the fit is, the network goes on seeing what it knew."""
    monkeypatch.setattr(exposures, "RING_PAIRS", 16)
    drawn = []
    original = exposures.make_pairs

    def made(crops, shutter, generator):
        drawn.append(shutter.path_px)
        return original(crops, shutter, generator)

    monkeypatch.setattr(exposures, "make_pairs", made)
    shapes = {name: tuple(value.shape) for name, value in model.network.state_dict().items()}

    def paths(unfitted_share: float) -> list[tuple[float, float]]:
        settings = replace(finetune, finetune=replace(finetune.finetune, fit=True, unfitted_share=unfitted_share))
        config = recipe_for(settings, recognise(shapes, where="test"), 2, FITTED, room_px=150)
        sharp = store_of(shots.sharp, shutter_crop_px(config), torch.device("cpu"), "sharp")
        batches = CropBatches(sharp, config, ((), 0.0), settings, torch.device("cpu"), 0, SILENT)
        drawn.clear()
        assert batches.begin(first=True)
        for number in range(40):
            batches.batch(number)
        batches.close()
        return list(drawn)

    assert set(paths(0.0)) == {(7.0, 9.0)}
    seen = paths(0.5)
    assert 0.1 < seen.count(ShutterSettings().path_px) / len(seen) < 0.9
