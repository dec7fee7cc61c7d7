"""Ternary detectors as ONNX: one small file that puts out boxes."""
from .calibration import calibration_images
from .detector import OnnxDetector
from .export import save_onnx
from .packages import check_onnx_packages

__all__ = [
    'OnnxDetector', 'calibration_images', 'check_onnx_packages', 'save_onnx'
]
