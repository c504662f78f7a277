"""A worker does hundreds of trainings; nothing of a finished one may stay."""

import gc
import signal

from torch import Tensor

from mrirecon.ablation.work.worker import Setting, execute
from mrirecon.models.unet import UNet


def alive(kind):
    gc.collect()
    return sum(issubclass(type(item), kind) for item in gc.get_objects())  # isinstance would wake lazy objects


def test_networks_and_graphs_are_freed_and_signals_handed_back(undisturbed, study_data, tmp_path):
    spec = undisturbed.folder.open().plan.runs({})[0]
    setting, before = Setting(str(study_data)), signal.getsignal(signal.SIGTERM)
    counts = []
    for i in range(3):
        execute(spec, setting, tmp_path / str(i), None, False)
        counts.append((alive(UNet), alive(Tensor)))
    assert counts[1] == counts[2]
    assert counts[2][0] == 0
    assert signal.getsignal(signal.SIGTERM) == before
