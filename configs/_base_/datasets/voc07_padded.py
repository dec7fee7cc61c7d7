# Photographs of voc07_detection.py as YOLOX takes them: brought to 256 to 320
# pixels in training, padded with 114, batches of 16.
_base_ = './voc07_detection.py'
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
