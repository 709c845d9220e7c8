"""Where the tests find what they read."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "weights/camvid_demo.pt"
EXAMPLES = ROOT / "service/static/examples"
SHARED = Path(os.environ.get("UPSNET_SHARED", ROOT.parent / "shared"))
"""What is not part of the repository: tests that read it are skipped where it is absent."""
