"""Ternary detectors as ONNX: export, and a runner that decodes boxes."""
from .detector import OnnxDetector
from .export import save_onnx
from .packages import check_onnx_packages

__all__ = ['OnnxDetector', 'check_onnx_packages', 'save_onnx']
