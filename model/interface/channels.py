"""What the maps of a network hold. A pixel of them has a byte: 255 values beside void."""

VALUES = 255
"""Values 0..254 of a pixel; 255 is void."""
MOST_INSTANCES = 100
"""Instances that a network looks for in an image, where its map has room for them (Xiong et al. 2019, section 4)."""


def check_classes(stuff: int, things: int) -> None:
    """Refuse classes that a network cannot tell apart.

    The semantic map has a value for each class. The panoptic map has one for each class of stuff and for each instance.

    Raises:
        ValueError: there are none of stuff, none of things, or more than the maps have values.
    """
    kinds = f"{stuff} classes of stuff and {things} of things"
    if stuff + things > VALUES:
        raise ValueError(f"{kinds}: a map holds {VALUES} classes. Merge some, or leave some out.")
    if stuff < 1 or things < 1:
        raise ValueError(f"{kinds}: a network needs both kinds. Add a class.")


def room_for_instances(stuff: int) -> int:
    """Most instances in an image that the panoptic map has values for, beside so many classes of stuff."""
    return VALUES - stuff
