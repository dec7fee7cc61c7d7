"""What is measured where a GPU is at hand for minutes."""
import time
from typing import Iterator, Sequence, Tuple

from .measure import Mode

CASES = ('retinanet-r50-800-batch2', 'faster-rcnn-r50-800-batch2')

# The first ones matter most.
MODES = (
    Mode('ternary'),
    Mode('ternary', 'float16'),
    Mode('approach'),
    Mode('ternary', 'bfloat16'),
    Mode('ternary', 'float16', channels_last=True),
    Mode('inference'),
    Mode('ternary', way='codes'),
    Mode('approach', 'float16'),
)


def until(end: float, cases: Sequence[str]) -> Iterator[Tuple[str, Mode]]:
    """Cases and modes, until ``time.perf_counter()`` reaches ``end``."""
    for mode in MODES:
        for case in cases:
            if time.perf_counter() < end:
                yield case, mode
            else:
                print(f'no time left for {case}, {mode}')
