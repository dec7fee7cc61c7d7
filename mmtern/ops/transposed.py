"""The filters of transposed convolutions: their weight with the output
channels first, and back."""
from torch import Tensor


def filters_of(weight: Tensor, groups: int) -> Tensor:
    """Return the filters of a weight, output channels first.

    Args:
        weight (Tensor): Of a transposed convolution, shape (C_in,
            C_out/groups, kH, kW), or of any other layer, (C_out, ...).
        groups (int): Of the transposed convolution; 0 for other layers.

    Returns:
        Tensor: Shape (C_out, C_in/groups, kH, kW), a view where there is one
        group; ``weight`` itself for other layers.
    """
    return _swap(weight, groups)


def weight_of(filters: Tensor, groups: int) -> Tensor:
    """Return the inverse of :func:`filters_of`.

    Args:
        filters (Tensor): Shape (C_out, C_in/groups, kH, kW), or (C_out, ...).
        groups (int): As of :func:`filters_of`.

    Raises:
        ValueError: If the groups do not divide the filters.
    """
    if groups < 0 or groups and (filters.dim() < 2 or len(filters) % groups):
        raise ValueError(f'{len(filters)} filters cannot be divided into '
                         f'{groups} groups')
    return _swap(filters, groups)


def _swap(tensor: Tensor, groups: int) -> Tensor:
    if groups == 0:
        return tensor
    if groups == 1:
        return tensor.transpose(0, 1)
    # Within each group the channels change places; so this is its own
    # inverse.
    parts = tensor.unflatten(0, (groups, -1)).transpose(1, 2)
    return parts.flatten(0, 1)
