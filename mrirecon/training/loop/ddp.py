"""Lightning's data-parallel training in a group of processes that was joined before."""

import os
from typing import Any

from pytorch_lightning.plugins.environments import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from mrirecon import ranks


class JoinedGroup(ClusterEnvironment):
    """Tells Lightning the numbers of the group; it starts no process and joins nothing.

    Args:
        n_local: Processes on this node.
    """

    def __init__(self, n_local: int) -> None:
        super().__init__()
        self.n_local = n_local

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return ranks.world_size()

    def set_world_size(self, size: int) -> None:
        return  # the group has its size

    def global_rank(self) -> int:
        return ranks.rank()

    def set_global_rank(self, rank: int) -> None:
        rank_zero_only.rank = ranks.rank()  # type: ignore[attr-defined]  # Lightning prints on the first one

    def local_rank(self) -> int:
        return int(os.environ.get("LOCAL_RANK", ranks.rank() % self.n_local))

    def node_rank(self) -> int:
        return ranks.rank() // self.n_local


class JoinedDDP(DDPStrategy):
    """Lightning's DDP without its launcher, which would start processes, end them on Ctrl-C and set threads."""

    def _configure_launcher(self) -> None:
        self._launcher: Any = None


def strategy(n_local: int) -> JoinedDDP | str:
    """Return a strategy for `Trainer(strategy=...)`: data-parallel in a group, else Lightning's for one process."""
    return JoinedDDP(cluster_environment=JoinedGroup(n_local)) if ranks.world_size() > 1 else "auto"
