"""What a study means by keys that its grid does not set: the defaults of when it was begun, whatever they are today.

A new study notes the number of today's defaults (`defaults`) in its grid; the first studies noted none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIRST_STUDIES, TODAY = 1, 2
_OPEN = (None, "auto")  # values that leave a key to the method


@dataclass(frozen=True)
class Defaults:
    """The defaults of a time, as far as those of today are others."""

    base: Mapping[str, Any] = field(default_factory=dict)  # of configuration keys that identify a run
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # optimizer -> what it made of open keys
    spaces: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)  # optimizer -> its ranges

    def decided(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys that a run's settings leave open and that its method decided otherwise, with their values."""
        method = self.methods.get(str(settings["optimizer.name"]), {})
        return {key: value for key, value in method.items() if settings[key] in _OPEN}


# A default that changes makes a new number: the value of before is entered here for all numbers before it.
DEFAULTS = {
    FIRST_STUDIES: Defaults(
        base={"optimizer.name": "adamw", "model.residual": False, "batch_size": 2},
        methods={"muon": {"optimizer.momentum": 0.95, "schedule.name": "onecycle"}},
        spaces={"muon": {"one_minus_beta1": (1e-2, 0.2)}},
    ),
    TODAY: Defaults(),
}
