"""A training of the command line loads no library that it does not use, and takes none away from who does."""

import subprocess
import sys

BEGIN = """
import sys
from mrirecon.cli.lazy_libraries import import_torchmetrics
import_torchmetrics()
{between}
from mrirecon.workflows.train import train
"""


def _said(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_training_loads_neither_scipy_signal_nor_torchvision():
    """They are not even there as forwarding modules, once torchmetrics is imported whole."""
    words = (
        "'scipy.signal', 'scipy.stats', 'scipy.interpolate', 'torchvision', 'torchvision.models', 'fastmri', 'skimage'"
    )
    program = (
        f"{BEGIN.format(between='')}\nprint('torchmetrics' in sys.modules, [n for n in ({words}) if n in sys.modules])"
    )
    assert _said(program) == "True []"


def test_what_is_used_later_is_the_real_library():
    """torchmetrics' networks of torchvision, scipy.signal and torchvision itself work as without the forwarding."""
    use = """
import torchmetrics
arniqa, dists = (sys.modules[f'torchmetrics.functional.image.{name}'] for name in ('arniqa', 'dists'))
before = 'torchvision' in sys.modules
encoder = arniqa.resnet50()
import torch, torchvision, scipy.signal, torchmetrics
from torchvision.models import resnet50, VGG16_Weights
print(before, type(encoder) is type(resnet50()), dists.VGG16_Weights.DEFAULT is VGG16_Weights.DEFAULT,
      arniqa.transforms.Resize is torchvision.transforms.Resize, scipy.signal.windows.hamming(3)[1],
      type(scipy.signal).__name__, type(torchvision).__name__, bool(arniqa._TORCHVISION_AVAILABLE))
"""
    assert _said(BEGIN.format(between=use)) == "False True True True 1.0 module module True"


def test_a_torchmetrics_that_asks_for_more_is_imported_as_it_is():
    """A name that is not forwarded later loads the real library at once; so does a module inside it."""
    program = """
import sys
from mrirecon.cli import lazy_libraries as later
later.FORWARDED["torchvision.models"] = ()
later.import_torchmetrics()
import torchmetrics
arniqa = sys.modules['torchmetrics.functional.image.arniqa']
import torchvision.models
print(arniqa.resnet50 is torchvision.models.resnet50, type(torchvision).__name__)
"""
    assert _said(program) == "True module"
