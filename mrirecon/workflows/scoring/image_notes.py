"""Word what a reader of scores has to know of the images: other units, mirrored, out of order, copied."""

from collections.abc import Callable, Sequence

from mrirecon.evaluation.resemblance import Resemblance, swapped

_FACTOR = 3.0  # zero-filled images of noisy, 8-fold undersampled k-space are up to 1.7 times darker than their targets
_SPREAD = 2.0  # between the scales of a volume's slices; up to 1.5 in such images
_UNEQUAL = 1.1  # between the scales of volumes in the same units
_NEGATIVE = 0.01  # share of the energy; the background of a network's images has far less
_Found = Sequence[tuple[str, Resemblance]]


def notes_of_images(names: Sequence[str], found: Sequence[Resemblance]) -> list[str]:
    """Notes on the predictions of a set of volumes; none where they lie against their targets as they should.

    Args:
        names: Of the volumes.
        found: How each volume's predictions lie against its targets.
    """
    notes, pairs = [], swapped(found)
    if pairs:
        image, target = pairs[0]
        notes.append(
            f"{len(pairs)} of {len(found)} volumes have the predictions of another one ({names[target]} has those of "
            f"{names[image]}): give each file the name of its target"
        )
    elsewhere = {target for _, target in pairs}
    volumes = [(name, one) for i, (name, one) in enumerate(zip(names, found, strict=True)) if i not in elsewhere]
    for holds, describe in _KINDS:
        if chosen := [(name, one) for name, one in volumes if holds(one)]:
            first = f"{chosen[0][0]}{', ...' * (len(chosen) > 1)}"
            notes.append(f"in {len(chosen)} of {len(found)} volumes ({first}) the predictions {describe(chosen)}")
    return notes


def _units(chosen: _Found) -> str:
    scales = [one.scale for _, one in chosen]
    low, high = min(scales), max(scales)
    if high <= _UNEQUAL * low:
        scale = sorted(scales)[len(scales) // 2]
        return (
            f"are {1 / scale:.3g} times as bright as their targets, and are scored as they are: "
            f"multiply them by {scale:.3g}"
        )
    return (
        f"are {1 / high:.3g} to {1 / low:.3g} times as bright as their targets, and are scored as they are: they are "
        f"not in one unit; give each volume in that of its target (multiply {chosen[0][0]} by {scales[0]:.3g})"
    )


def _slice_units(chosen: _Found) -> str:
    low, high = chosen[0][1].slice_scales
    return (
        f"have other units in each slice (they lack factors of {low:.3g} to {high:.3g}): "
        "undo the normalisation of single slices"
    )


def _placement(chosen: _Found) -> str:
    """The commonest; images may lie wrongly in more than one way."""
    ways = [(one.orientation.name, one.orientation.remedy, one.order) for _, one in chosen]
    turned, remedy, order = max(ways, key=ways.count)
    words = [f"are {turned}"] * bool(turned) + [f"have their slices {order}"] * bool(order)
    remedies = [f"x = {remedy}"] * bool(turned) + ["sort the slices as those of the targets are"] * bool(order)
    others = len(ways) - ways.count((turned, remedy, order))
    return f"{' and '.join(words)}{f' ({others} otherwise)' * bool(others)}: {', then '.join(remedies)}"


def _shift(chosen: _Found) -> str:
    shifts = [one.shift for _, one in chosen]
    down, right = max(shifts, key=shifts.count)
    ways = [(down, "down", "up"), (right, "to the right", "to the left")]
    words = [f"{abs(by)} pixel{'s' * (abs(by) > 1)} {plus if by > 0 else minus}" for by, plus, minus in ways if by]
    return f"lie {' and '.join(words)} of their targets: cut out what the targets show, or undo an fftshift"


def _negative(chosen: _Found) -> str:
    share = max(one.negative for _, one in chosen)
    return (
        f"have up to {share:.0%} of their energy below zero, which magnitudes have not: "
        "give abs() of complex images, and undo a normalisation"
    )


def _constant(chosen: _Found) -> str:
    return f"are of one value in {sum(one.n_constant for _, one in chosen)} slices whose targets are not"


def _copies(_chosen: _Found) -> str:
    return "equal their targets but for a factor and rounding: copies, or made from fully sampled k-space"


_KINDS: tuple[tuple[Callable[[Resemblance], bool], Callable[[_Found], str]], ...] = (
    (lambda one: not 1 / _FACTOR <= one.scale <= _FACTOR and one.scale > 0, _units),
    (lambda one: one.slice_scales[1] > _SPREAD * one.slice_scales[0], _slice_units),
    (lambda one: bool(one.orientation.name or one.order), _placement),
    (lambda one: one.shift != (0, 0), _shift),
    (lambda one: one.negative > _NEGATIVE, _negative),
    (lambda one: one.n_constant > 0, _constant),
    (lambda one: one.is_copy, _copies),
)
