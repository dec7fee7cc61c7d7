import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

pytest.importorskip('matplotlib')

REPOSITORY = Path(__file__).parent.parent.parent
SHOWN = 'tools/results/method.png'


def test_the_figure_of_the_readme_is_drawn_from_nothing(tmp_path):
    out = tmp_path / 'method.png'
    result = subprocess.run([sys.executable, 'tools/draw_method.py',
                             str(out)],
                            cwd=REPOSITORY,
                            env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
                            capture_output=True,
                            text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    picture = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert picture.shape == cv2.imread(
        str(REPOSITORY / SHOWN), cv2.IMREAD_UNCHANGED).shape
    # Opaque white, for GitHub's dark theme.
    assert (picture[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    assert f'({SHOWN})' in (REPOSITORY / 'README.md').read_text()
