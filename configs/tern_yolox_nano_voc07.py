# Ternary YOLOX-Nano, fine-tuned from the float start of its twin.
_base_ = ['./yolox_nano_voc07.py', './_base_/ternary.py']
model = dict(type='TernDetector', wrapped='YOLOX')
