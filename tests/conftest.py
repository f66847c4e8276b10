"""What all tests share: the helper modules beside them can be imported, and hypothesis sets no deadlines.

Compiling a kernel takes seconds the first time, so a deadline per example would fail for no reason.
"""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.append(str(Path(__file__).parent))

settings.register_profile("impactrl", deadline=None, max_examples=60)
settings.load_profile("impactrl")
