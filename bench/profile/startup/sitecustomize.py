"""Imported by each Python process whose PYTHONPATH has this directory: it starts the sampler in it."""

from __future__ import annotations

import os
from pathlib import Path

from bench.profile.sampler import FOLDER_VARIABLE, start

if FOLDER_VARIABLE in os.environ:
    start(Path(os.environ[FOLDER_VARIABLE]))
