"""The benchmarks are beside the package, not in it: where a wheel is tested, they have to be found."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
