"""A campaign as a table: how many cases of each class ended how."""

import re

from fuzz_case import Outcome


def table(outcomes: list[Outcome]) -> str:
    """Counts by class: cases, exits with 0, 2 and (allowed) 1, different refusals, faults."""
    lines = [f"{'kind':<11} {'mutation':<22} cases exit 0 exit 2 exit 1 texts faults"]
    classes = dict.fromkeys((outcome.case.kind, outcome.case.mutation) for outcome in outcomes)
    rows = [(*key, [o for o in outcomes if (o.case.kind, o.case.mutation) == key]) for key in classes]
    for kind, mutation, of_class in [*rows, ("all", "", outcomes)]:
        codes = [o.code for o in of_class if not o.fault]
        texts = len({_without_names(o.said) for o in of_class if o.code == 2})
        counts = f"{len(of_class):>5} {codes.count(0):>6} {codes.count(2):>6} {codes.count(1):>6}"
        lines.append(f"{kind:<11} {mutation:<22} {counts} {texts:>5} {len(of_class) - len(codes):>6}")
    return "\n".join(lines)


def _without_names(text: str) -> str:
    """A refusal without folders and numbers, which differ from case to case."""
    return re.sub(r"/\S+|\d+", "", text)
