"""Settings of the studies' methods that were tuned beforehand, from tuned.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

TUNED: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "tuned.yaml").read_text(encoding="utf-8"))
"""Settings by study; each study documents their layout."""
