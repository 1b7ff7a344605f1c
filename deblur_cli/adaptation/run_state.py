"""The file that an adaptation goes on from, whatever interrupted it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from deblur_cli.adaptation.contract import AdaptSettings
from deblur_cli.adaptation.judge import Judgement
from deblur_cli.errors import CheckpointError
from deblur_cli.training.checkpoint import load_record, save_record

KIND, VERSION = "deblur camera adaptation", 2
MAY_CHANGE = frozenset({"steps", "minutes", "save_every_s", "show_every"})
"""Settings that may differ when an adaptation is resumed: the budget, and what changes no figure."""


@dataclass
class RunState:
    """An adaptation after `step` steps; `elapsed_s` counts all parts of it. `best_weights` are on the CPU."""

    step: int = 0
    elapsed_s: float = 0.0
    best: Judgement | None = None
    best_weights: Mapping[str, Tensor] = field(default_factory=dict)


def save_state(state: RunState, learner: Mapping[str, Any], settings: AdaptSettings, shots: str, path: Path) -> None:
    """Writes the state, whole or not at all. `shots` is a digest of shots and network. Raises CannotWriteError."""
    record = {
        "kind": KIND,
        "version": VERSION,
        "settings": as_text(settings),
        "shots": shots,
        "step": state.step,
        "elapsed_s": state.elapsed_s,
        "best": None if state.best is None else state.best.to_record(),
        "best_weights": dict(state.best_weights),
        "learner": dict(learner),
    }
    save_record(record, path)


def load_state(path: Path, settings: AdaptSettings, shots: str) -> tuple[RunState, Mapping[str, Any]]:
    """Returns the state of a file, and the learner's record.

    Raises CheckpointError for a damaged or foreign file, or one of other settings, shots or network.
    """
    record = load_record(path)
    if not isinstance(record, dict) or record.get("kind") != KIND or record.get("version") != VERSION:
        raise CheckpointError(f"{path} is no state of an adaptation that this version made. Start with another --out.")
    changed = _changed(record["settings"], as_text(settings))
    if changed:
        raise CheckpointError(
            f"{path} was made with other settings: {', '.join(changed)} differ. Resume with the old ones, or start "
            "again with another --out."
        )
    if record["shots"] != shots:
        raise CheckpointError(
            f"{path} was made with other shots, or for another network. Name the same folders and --model, or start "
            "again with another --out."
        )
    best = None if record["best"] is None else Judgement.from_record(record["best"])
    return RunState(record["step"], record["elapsed_s"], best, record["best_weights"]), record["learner"]


def as_text(settings: AdaptSettings) -> str:
    """Returns what decides the numbers of an adaptation, as JSON: settings of the other method don't."""
    decisive = {key: value for key, value in asdict(settings).items() if key not in MAY_CHANGE}
    decisive.pop("finetune" if settings.method == "translate" else "translate")
    return json.dumps(decisive, default=str, sort_keys=True)


def _changed(old: str, new: str) -> list[str]:
    before, after = json.loads(old), json.loads(new)
    names = []
    for key in sorted(before.keys() | after.keys()):
        first, second = before.get(key), after.get(key)
        if isinstance(first, dict) and isinstance(second, dict):
            names += [
                f"{key}.{name}" for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)
            ]
        elif first != second:
            names.append(key)
    return names
