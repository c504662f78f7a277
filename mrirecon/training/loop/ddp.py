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
        """They are there."""
        return True

    @property
    def main_address(self) -> str:
        """Of the first process; not used, for the group is joined."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """Of the first process; not used either."""
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        """Only where it is asked for."""
        return False

    def world_size(self) -> int:
        """Processes on all nodes."""
        return ranks.world_size()

    def set_world_size(self, size: int) -> None:
        """It is what it is."""

    def global_rank(self) -> int:
        """Number of this process."""
        return ranks.rank()

    def set_global_rank(self, rank: int) -> None:
        """It is what it is; Lightning prints on the first one."""
        rank_zero_only.rank = ranks.rank()  # type: ignore[attr-defined]

    def local_rank(self) -> int:
        """Number of this process on its node."""
        return int(os.environ.get("LOCAL_RANK", ranks.rank() % self.n_local))

    def node_rank(self) -> int:
        """Number of this node."""
        return ranks.rank() // self.n_local


class JoinedDDP(DDPStrategy):
    """Without a launcher: Lightning's would start processes, end them on Ctrl-C and choose a number of threads."""

    def _configure_launcher(self) -> None:
        self._launcher: Any = None


def strategy(n_local: int) -> JoinedDDP | str:
    """For `Trainer(strategy=...)`: data-parallel in a group, else Lightning's choice for one process."""
    return JoinedDDP(cluster_environment=JoinedGroup(n_local)) if ranks.world_size() > 1 else "auto"
