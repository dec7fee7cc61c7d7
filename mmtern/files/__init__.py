"""Small files: packed safetensors for PyTorch, ONNX for the rest."""
from .errors import TernaryFileError
from .load import load_detector, load_from_packed, refuse_other_files
from .read import PackedFile, read_packed
from .save import save_packed
from .sizes import SizeTable

__all__ = [
    'PackedFile', 'SizeTable', 'TernaryFileError', 'load_detector',
    'load_from_packed', 'read_packed', 'refuse_other_files', 'save_packed'
]
