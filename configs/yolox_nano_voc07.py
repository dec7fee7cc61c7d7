# Float twin of tern_yolox_nano_voc07.py. It begins from a detector trained on
# COCO whose class layers were cut to the 20 classes of VOC.
_base_ = [
    './_base_/models/yolox_nano.py', './_base_/datasets/voc07_detection.py',
    './_base_/schedules/voc07_4e.py'
]
scale = (320, 320)
pad = dict(type='Pad', size=scale, pad_val=dict(img=(114, 114, 114)))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=[(256, 256), scale], keep_ratio=True), pad,
    dict(type='PackDetInputs')
]
test_pipeline = _base_.test_pipeline
test_pipeline.insert(2, pad)
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
load_from = 'data/weights/yolox_nano_voc20.pth'
