"""Filters that real and awkward networks hold, as rows."""
import torch

D = 288


def awkward_rows(dtype=torch.float32) -> dict:
    """Name to rows (C_out, d): Gaussian to heavy-tailed, and degenerate."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(16, D, generator=generator)
    uniform = torch.rand(16, D, generator=generator) - 0.5
    chi2 = torch.randn(16, D, 2, generator=generator).square().sum(-1)
    return {
        'gaussian': normal,
        'laplace': -uniform.sign() * torch.log1p(-2 * uniform.abs()),
        'student_t2': normal / (chi2 / 2).sqrt(),
        'constant': torch.full((4, 9), -0.3),
        'one_weight': torch.tensor([[0.7], [-2.0], [1e-20]]),
        'zero': torch.zeros(3, 9),
        'one_zero_row': torch.cat([torch.zeros(1, D), normal[:2]]),
        'tiny': normal * 1e-12,
    }


ROWS = {name: rows for name, rows in awkward_rows().items()}
