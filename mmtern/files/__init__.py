"""Small files: a detector as packed safetensors, written and read."""
from .errors import TernaryFileError
from .load import load_detector, load_from_packed, refuse_other_files
from .packed import PackedFile, read_packed, save_packed
from .sizes import SizeTable

__all__ = [
    'PackedFile', 'SizeTable', 'TernaryFileError', 'load_detector',
    'load_from_packed', 'read_packed', 'refuse_other_files', 'save_packed'
]
