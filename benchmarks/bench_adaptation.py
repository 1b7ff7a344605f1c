"""What a camera profile gives on two simulated cameras: PSNR and SSIM on scenes that training never saw.

    python benchmarks/bench_adaptation.py PHOTOS --camera night|action --work FOLDER [--minutes 30]
        [--cases bundled finetune finetune-half translate translate-known translate-public ceiling] [--model NAME]

`simulated_cameras.py` says what the cameras do. The photographs that `deblur-single` held back are the paired test
set; the others are split into scenes that are shot blurry, sharp, and blurry but held back (unpaired, disjoint).
Shots, states and results stay in FOLDER: a run that was interrupted goes on, and a case that is done is not repeated.
`ceiling` fine-tunes on the true pairs of the blurry scenes for the same time. `--known FOLDER` gives the pairs of
`translate-known`; without it they are made by the virtual shutter. The merit that chose the checkpoint is printed
beside the PSNR that it could not see.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from simulated_cameras import CAMERAS, Bytes, Camera, shoot, shoot_sharp

from deblur_cli.adaptation.adapt import adapt
from deblur_cli.adaptation.contract import (
    LAPTOP,
    Adapted,
    AdaptSettings,
    AdaptStep,
    FinetuneSettings,
    Shots,
    TranslateSettings,
)
from deblur_cli.adaptation.translate import Translator
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.catalogue.weight_file import save_model
from deblur_cli.convert import stack_bytes
from deblur_cli.datasets.draw import generator_for, seed_for, share_of
from deblur_cli.datasets.readers import Layout
from deblur_cli.engine.device import choose
from deblur_cli.engine.restore import restore
from deblur_cli.measure.fidelity import psnr, ssim
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.papers.mimo_unet import ARCHITECTURE as MIMO_UNET
from deblur_cli.networks.papers.mimo_unet import MimoUNetConfig
from deblur_cli.networks.registry import architecture
from deblur_cli.progress import SILENT
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.checkpoint import load_record
from deblur_cli.training.config import DataConfig, LossConfig, NetworkConfig, OptimiserConfig, RunConfig, TrainConfig
from deblur_cli.training.distributed import World
from deblur_cli.training.job import TrainJob, train
from deblur_cli.training.start import adopt

LONG_SIDE_PX = 768
TEST_SHARE = 0.1
"""`training.data.hold_back` keeps these names from the training of the bundled network."""
HELD_BACK = 14
TRACED = 8
"""Test photos that a trace looks at."""
BLURRY_SHARE = 0.6
CASES = (
    "bundled", "finetune", "finetune-half", "translate", "translate-known", "translate-public", "translate-half",
    "ceiling",
)  # fmt: skip
PUBLIC = replace(
    LAPTOP, adversarial="hinge", critic_scales="all", instance_norm=True, feature_norm=False, curriculum=False
)
DEVICE = choose("auto", "auto")


@dataclass(frozen=True)
class Result:
    """One row of the table; PSNR in dB, means over the test photos. `worse`: than the input, by more than 0.1 dB."""

    case: str
    psnr: float
    ssim: float
    worst_gain: float
    worse: int
    photos: int
    minutes: float = 0.0
    steps: int = 0
    helps: bool | None = None
    note: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--camera", choices=sorted(CAMERAS), required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES[:4]))
    parser.add_argument("--model", default="deblur-single")
    parser.add_argument("--known", type=Path)
    parser.add_argument("--trace", action="store_true", help="score every judged checkpoint against the truth")
    parser.add_argument("--shots", type=int, help="blurry and sharp shots together; all without it")
    arguments = parser.parse_args()
    folder = arguments.work / arguments.camera
    prepare(arguments.photos, CAMERAS[arguments.camera], folder)
    model = load(find(arguments.model, SingleModel))
    results = folder / f"results-{arguments.minutes:g}.jsonl"
    done = read_results(results)
    for case in ["input", *arguments.cases]:
        if case not in done:
            done[case] = run_case(case, folder, model, arguments)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(done[case])) + "\n")
        print_table(arguments.camera, list(done.values()))


def prepare(photos: Path, camera: Camera, folder: Path) -> None:
    """Shoots every scene once, into FOLDER/{blurry,sharp,held_back,test/blur,test/sharp} and the truth of `blurry`."""
    if (folder / "ready").exists():
        return
    scenes = sorted(photos.glob("*.jpg"), key=lambda path: share_of(path.stem))
    test = [path for path in scenes if share_of(path.stem) < TEST_SHARE]
    rest = scenes[len(test) :]
    held, rest = rest[:HELD_BACK], rest[HELD_BACK:]
    blurry = round(BLURRY_SHARE * len(rest))
    for path in scenes:
        rng = np.random.default_rng(seed_for(camera.name, path.stem))
        photo = shrunken(path)
        if path in test or path in held or path in rest[:blurry]:
            shot, truth = shoot(camera, photo, rng)
            part = "test" if path in test else "held_back" if path in held else "pairs"
            write(shot, folder / part / "blur" / f"{path.stem}.png")
            write(truth, folder / part / "sharp" / f"{path.stem}.png")
        else:
            write(shoot_sharp(camera, photo, rng), folder / "sharp" / f"{path.stem}.png")
    (folder / "ready").touch()


def run_case(case: str, folder: Path, model: SingleModel, arguments: argparse.Namespace) -> Result:
    """Trains what the case needs, and scores it on the test photos."""
    if case == "input":
        return score(case, folder, ())
    if case == "bundled":
        return score(case, folder, (model,))
    if case == "ceiling":
        return score_ceiling(folder, model, arguments)
    share = 0.5 if case.endswith("-half") else 1.0
    shots = read_shots(folder, share, arguments.shots)
    settings = settings_of(case, folder, arguments)
    print(f"{case}: {len(shots.blurry)} blurry, {len(shots.sharp)} sharp, {len(shots.held_back)} held back", flush=True)
    out = folder / f"{case}-{arguments.minutes:g}"
    out.mkdir(exist_ok=True)
    trace = Trace(folder, out, model, settings) if arguments.trace else None

    def observe(step: AdaptStep) -> None:
        show(step, out)
        if trace is not None:
            trace.follow(step)

    adapted = adapt(shots, model, settings, state=out / "state.pt", observe=observe, stop=lambda: False, device=DEVICE)
    save_model(
        out / "weights.safetensors", adapted.architecture, adapted.config, adapted.weights, traits=adapted.traits
    )
    made = built(adapted)
    row = score(case, folder, (made, model) if adapted.method == "translate" else (made,))
    note = adapted.recipe
    if adapted.method == "translate":
        note += f" Table 6: {check(shots, model, settings, out / 'state.pt')}"
    return replace(row, minutes=adapted.seconds / 60, steps=adapted.steps, helps=adapted.helps, note=note)


def check(shots: Shots, model: SingleModel, settings: AdaptSettings, state: Path) -> str:
    """Returns the figures of Table 6 in words, of the critic and translator at the end of the training."""
    learner = Translator(shots, model, settings, DEVICE, World(), SILENT)
    record = load_record(state)
    learner.restore(record["learner"], record["step"])
    found = learner.check()
    learner.close()
    return (
        f"known blur says the critic of {found.critic_input:.0%} of inputs and {found.critic_translated:.0%} of "
        f"translations, a classifier of {found.classifier_input:.0%} and {found.classifier_translated:.0%} (right on "
        f"{found.known_right:.0%} of unseen known blur and {found.blurry_right:.0%} of unseen inputs)."
    )


class Trace:
    """Scores every judged checkpoint against the truth too, to see how well the merit follows it; decides nothing."""

    def __init__(self, folder: Path, out: Path, model: SingleModel, settings: AdaptSettings) -> None:
        self._folder, self._out, self._model, self._settings = folder, out, model, settings
        self._pending: AdaptStep | None = None

    def follow(self, step: AdaptStep) -> None:
        """Scores the state that was saved after the last judgement, once it is there."""
        if step.scores:
            self._pending = step
            return
        if self._pending is None:
            return
        judged, self._pending = self._pending, None
        record = load_record(self._out / "state.pt")
        if record["step"] != judged.step:
            return
        line = {"step": judged.step, "scores": judged.scores, "psnr": self._score(record["learner"])}
        with (self._out / "trace.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _score(self, learner: Mapping[str, Any]) -> float:
        if self._settings.method == "finetune":
            network = copy.deepcopy(self._model.network)
            network.load_state_dict(learner["averaged"])
            return score("trace", self._folder, (replace(self._model, network=network),), TRACED).psnr
        config = MimoUNetConfig(self._settings.translate.blocks, self._settings.translate.width)
        translator = MIMO_UNET.build(config)
        translator.load_state_dict(learner["network"])
        model = SingleModel("translator", translator.requires_grad_(False).eval(), MIMO_UNET.default_traits(config))
        return score("trace", self._folder, (model, self._model), TRACED).psnr


def settings_of(case: str, folder: Path, arguments: argparse.Namespace) -> AdaptSettings:
    """Returns the settings of a case."""
    if case.startswith("finetune"):
        return AdaptSettings("finetune", minutes=arguments.minutes, finetune=FinetuneSettings(), judge_every=100)
    known = None
    if case == "translate-known":
        known = arguments.known or make_known(arguments.photos, folder.parent / "known")
    translate: TranslateSettings = PUBLIC if case == "translate-public" else LAPTOP
    return AdaptSettings("translate", minutes=arguments.minutes, translate=translate, known_blur=known, judge_every=100)


def make_known(photos: Path, folder: Path) -> Path:
    """Returns a folder of pairs by the virtual shutter, of the photographs that are no test scenes."""
    if not (folder / "ready").exists():
        for path in sorted(photos.glob("*.jpg")):
            if share_of(path.stem) < TEST_SHARE:
                continue
            picture = stack_bytes([shrunken(path)]).float() / 255
            generator = generator_for("cpu", "known", path.stem)
            made = make_pairs(picture, ShutterSettings(), generator)
            for part, tensor in (("blur", finish(made.blurry, ShutterSettings(), generator)), ("sharp", made.sharp)):
                write(as_bytes(tensor), folder / part / f"{path.stem}.png")
        (folder / "ready").touch()
    return folder


def score_ceiling(folder: Path, model: SingleModel, arguments: argparse.Namespace) -> Result:
    """Fine-tunes on the true pairs of the blurry scenes, as `finetune` does on its own, and scores that."""
    out = folder / f"ceiling-{arguments.minutes:g}"
    finetune = FinetuneSettings()
    multiple = model.traits.size_multiple
    patch_px = -(-finetune.crop_px // multiple) * multiple
    config = TrainConfig(
        network=NetworkConfig(),
        data=DataConfig(patch_px=patch_px, batch=finetune.batch, slack_px=16, ring_pairs=384, reuse=4, workers=0),
        optimiser=OptimiserConfig(
            name="adamw",
            rate=finetune.rate,
            final_rate=finetune.final_rate,
            betas=(0.9, 0.95),
            ema_decay=finetune.average,
        ),
        loss=LossConfig(charbonnier=0.0, frequency=0.0, psnr=1.0),
        run=RunConfig(minutes=arguments.minutes, validate_every=100),
    )
    resume = (out / "last.pt").exists()
    job = TrainJob(
        config, (folder / "pairs",), out, Layout.PAIRS, resume=resume, init=None if resume else arguments.model
    )
    if resume:
        job = replace(job, config=adopt(config, arguments.model, SILENT))
    result = train(job)
    made = load(find(str(result.model), SingleModel))
    row = score("ceiling", folder, (made,))
    return replace(row, minutes=result.elapsed_s / 60, steps=result.step)


def score(case: str, folder: Path, stages: Sequence[SingleModel], most: int | None = None) -> Result:
    """Returns the row of networks that the test photos, or the first so many, go through one after the other."""
    before, after, alike = [], [], []
    for path in sorted((folder / "test" / "blur").glob("*.png"))[:most]:
        shot, truth = read(path), read(folder / "test" / "sharp" / path.name)
        pixels = shot.astype(np.float32) / 255
        for stage in stages:
            pixels = restore(stage, DEVICE, [pixels], tile_px=512).pixels
        result = np.rint(pixels * 255).astype(np.uint8)
        before.append(psnr(shot, truth))
        after.append(psnr(result, truth))
        alike.append(ssim(result, truth))
    gains = np.array(after) - np.array(before)
    worse = int((gains < -0.1).sum())
    return Result(case, float(np.mean(after)), float(np.mean(alike)), float(gains.min()), worse, len(after))


def built(adapted: Adapted) -> SingleModel:
    """Returns the adapted weights as a network."""
    network = architecture(adapted.architecture).build(adapted.config)
    network.load_state_dict(dict(adapted.weights))
    return SingleModel(adapted.method, network.requires_grad_(False).eval(), adapted.traits)


def show(step: AdaptStep, out: Path) -> None:
    """Appends a line to the log; keeps the latest strip."""
    record = {
        "step": step.step,
        "share": step.share,
        "losses": dict(step.losses),
        "accuracy": step.discriminator_accuracy,
    }
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**record, "scores": step.scores, "time": time.time()}) + "\n")
    if step.strip is not None:
        Image.fromarray(step.strip).save(out / "strip.png")


def read_shots(folder: Path, share: float, most: int | None) -> Shots:
    """Returns the camera's shots; a share of them where asked for."""

    def part(name: str, count_share: float) -> tuple[Bytes, ...]:
        paths = sorted((folder / name).glob("*.png"))
        count = round(share * len(paths))
        if most is not None:
            count = min(count, round(most * count_share))
        return tuple(read(path) for path in paths[:count])

    held_back = tuple(read(path) for path in sorted((folder / "held_back" / "blur").glob("*.png")))
    return Shots(part("pairs/blur", BLURRY_SHARE), part("sharp", 1 - BLURRY_SHARE), held_back)


def read_results(path: Path) -> dict[str, Result]:
    """Returns the rows that are there already."""
    if not path.exists():
        return {}
    rows = [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row.case: row for row in rows}


def print_table(camera: str, rows: Sequence[Result]) -> None:
    """Prints the table, gains over `bundled` beside it."""
    base = next((row.psnr for row in rows if row.case == "bundled"), float("nan"))
    print(f"\n| {camera} | PSNR | SSIM | over bundled | worst against input | worse | steps | minutes | helps |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        helps = "" if row.helps is None else "yes" if row.helps else "no"
        minutes = f"{row.minutes:.0f}" if row.minutes else ""
        print(
            f"| {row.case} | {row.psnr:.2f} | {row.ssim:.4f} | {row.psnr - base:+.2f} | {row.worst_gain:+.2f} | "
            f"{row.worse} of {row.photos} | {row.steps or ''} | {minutes} | {helps} |"
        )
    for row in rows:
        if row.note:
            print(f"{row.case}: {row.note}")
    print(flush=True)


def shrunken(path: Path) -> Bytes:
    """Returns a photograph with a long side of at most 768 px."""
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def read(path: Path) -> Bytes:
    return np.asarray(Image.open(path).convert("RGB"))


def write(picture: Bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def as_bytes(picture: torch.Tensor) -> Bytes:
    return np.rint(picture[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)


if __name__ == "__main__":
    main()
