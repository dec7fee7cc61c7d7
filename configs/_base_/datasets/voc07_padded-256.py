# The photographs of voc07_padded.py at 208 to 256 pixels, for heads that cost
# more than YOLOX-Nano's.
_base_ = './voc07_padded.py'
scale = (256, 256)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[3].scale = [(208, 208), scale]
train_pipeline[4].size = scale
test_pipeline[1].scale = scale
test_pipeline[2].size = scale
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
