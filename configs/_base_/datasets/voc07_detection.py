# Photographs of VOC2007's test set, split anew by tools/split_voc07.py: 20
# classes, longest side 320 pixels.
_base_ = './lite_detection.py'
data_root = 'data/voc07/'
images = dict(img='images/')
metainfo = dict(
    classes=('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car',
             'cat', 'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike',
             'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor'))
scale = (320, 320)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].scale = scale
test_pipeline[1].scale = scale
voc07 = dict(data_root=data_root, metainfo=metainfo, data_prefix=images)
train_dataloader = dict(
    batch_sampler=None,
    dataset=dict(voc07, ann_file='train.json', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    dataset=dict(voc07, ann_file='val.json', pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=8,
    dataset=dict(voc07, ann_file='test.json', pipeline=test_pipeline))
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = dict(ann_file=data_root + 'test.json')
