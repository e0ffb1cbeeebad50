"""Sizes that tell little: what is encrypted is filled up with zeros first.

Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019,
algorithm 1): of a size only O(log log n) bits are told, and at most 12 % are added.
"""


def padded_bytes(size: int, least: int) -> int:
    """The size to which `size` bytes are filled up: `least` at least, which is 2 or more."""
    size = max(size, least)
    exponent = size.bit_length() - 1
    loose = exponent - exponent.bit_length()
    mask = (1 << loose) - 1
    return (size + mask) & ~mask
