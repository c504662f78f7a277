"""Made-up studies of other folders serve here too."""

import sys
from pathlib import Path

for _folder in ("report", "ablation"):
    sys.path.append(str(Path(__file__).parents[1] / _folder))
