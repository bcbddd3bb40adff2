"""Files that come with this package, found from any folder: recipes, experiments, launchers' configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from factuality_harness.harness.errors import HarnessError

TRAINING = Path(__file__).parent
Kind = Literal["recipes", "experiments"]


def shipped(name: str | Path, kind: Kind = "recipes") -> Path:
    """The file `name` as it is, where there is one from the working folder; else the package's own.

    The package's own are known by their path in a checkout (`training/recipes/world/dpo.yaml`) and by what follows
    `kind` (`world/dpo.yaml`). A name that is neither comes back unchanged, for the caller's error to show.
    """
    path = Path(name)
    own = [TRAINING / kind / path]
    if path.parts[:2] in (("training", "recipes"), ("training", "experiments")):
        own.append(TRAINING.joinpath(*path.parts[1:]))
    return next((file for file in (path, *own) if file.is_file()), path)


def find_shipped(name: str | Path, kind: Kind = "recipes") -> Path:
    """As `shipped`, for a file that must be there. Raises HarnessError listing what comes with the package."""
    path = shipped(name, kind)
    if path.exists():
        return path
    own = [file.relative_to(TRAINING / kind) for file in sorted((TRAINING / kind).glob("*/*.yaml"))]
    names = ", ".join(p.as_posix() for p in own if not p.name.startswith("_") and p.parts[0] != "accelerate")
    raise HarnessError(f"{name}: no such {kind[:-1]} file; shipped {kind} are {names}")
