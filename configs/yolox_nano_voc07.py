# Float twin of tern_yolox_nano_voc07.py. It begins from a detector trained on
# COCO whose class layers were cut to the 20 classes of VOC.
_base_ = [
    './_base_/models/yolox_nano.py', './_base_/datasets/voc07_padded.py',
    './_base_/schedules/voc07_4e.py'
]
load_from = _base_.checkpoint
