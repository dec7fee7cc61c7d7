import pytest
from mmcv.cnn.bricks import ConvWS2d
from mmcv.cnn.bricks.wrappers import Conv2d, Linear
from torch import nn

from mmtern import Scope

CONV, LINEAR = nn.Conv2d(8, 8, 3), nn.Linear(8, 8)


@pytest.mark.parametrize('name', [
    'bbox_head.retina_cls', 'bbox_head.retina_reg', 'rpn_head.rpn_reg',
    'bbox_head.conv_centerness', 'bbox_head.multi_level_conv_obj.0',
    'bbox_head.cls_branches.3', 'bbox_head.atss_iou',
    'roi_head.mask_head.conv_logits', 'neck.conv_offset',
    'encoder.layers.0.attn.sampling_offsets', 'bbox_head.wh_head.2',
    'bbox_head.cls_convs.5.0', 'bbox_head.tl_heat.0.1.conv',
    'bbox_head.reppoints_pts_refine_out', 'mask_head.conv_mask_list_x.3',
    'bbox_head.rtm_kernel.0', 'bbox_head.controller', 'bbox_head.conv_coeff'
])
def test_prediction_layers_stay(name):
    assert Scope().reason_to_leave(name, CONV) == 'prediction'
    assert Scope(predictions=True).reason_to_leave(name, CONV) is None


@pytest.mark.parametrize('name', [
    'backbone.layer1.0.conv1', 'bbox_head.cls_convs.0.conv',
    'bbox_head.reg_convs.3.conv', 'rpn_head.rpn_conv', 'neck.fpn_convs.2.conv',
    'bbox_head.kernel_convs.0.1.conv', 'bbox_head.cls_convs.0.1.conv',
    'bbox_head.reppoints_pts_init_conv', 'mask_head.protonet.4',
    'bbox_head.vfnet_reg_conv.conv'
])
def test_towers_become_ternary(name):
    assert Scope().reason_to_leave(name, CONV) is None


@pytest.mark.parametrize(
    'name',
    ['roi_head.bbox_head.shared_fcs.0', 'roi_head.bbox_head.1.cls_fcs.0'])
def test_fully_connected_layers_of_roi_heads_become_ternary(name):
    assert Scope().reason_to_leave(name, LINEAR) is None


@pytest.mark.parametrize('name', [
    'backbone.stages.0.blocks.0.ffn.layers.1',
    'backbone.stages.0.blocks.0.attn.w_msa.qkv',
    'backbone.stages.0.downsample.reduction',
    'encoder.layers.0.self_attn.value_proj',
    'encoder.layers.0.self_attn.output_proj',
    'bbox_head.reg_ffn.layers.0.0',
    'bbox_head.reg_ffn.layers.1',
    'roi_head.bbox_head.0.instance_interactive_conv.dynamic_layer',
])
def test_linears_of_transformers_become_ternary(name):
    assert Scope().reason_to_leave(name, LINEAR) is None


@pytest.mark.parametrize('name', [
    'encoder.layers.0.self_attn.attention_weights', 'reference_points_fc',
    'decoder.ref_point_head.layers.1', 'bbox_head.fc_reg.layers.2',
    'bbox_head.reg_branches.0.2', 'panoptic_head.mask_embed.4',
    'panoptic_head.cls_embed', 'roi_head.glbctx_head.fc'
])
def test_what_transformers_predict_stays(name):
    assert Scope().reason_to_leave(name, LINEAR) == 'prediction'
    assert Scope(predictions=True).reason_to_leave(name, LINEAR) is None


def test_language_models_are_asked_for():
    name = 'language_model.language_backbone.body.encoder.layer.0.dense'
    assert Scope().reason_to_leave(name, LINEAR) == 'language model'
    assert Scope(include=['lang']).reason_to_leave(name, LINEAR) is None


def test_a_weight_that_another_layer_reads_stays():
    name = 'bbox_head.cls_decomp.reduction_conv.conv'
    assert Scope().reason_to_leave(name, CONV) == 'read elsewhere'


def test_the_backbone_only_is_one_line():
    scope = Scope(include=['^backbone'])
    name = 'stages.0.blocks.0.attn.w_msa.qkv'
    assert scope.reason_to_leave(f'backbone.{name}', LINEAR) is None
    assert scope.reason_to_leave('neck.conv', CONV) == 'not included'


@pytest.mark.parametrize('layer, scope, reason', [
    (nn.Conv2d(8, 8, 3, groups=8), Scope(), 'depthwise'),
    (nn.Conv2d(8, 8, 3, groups=8), Scope(depthwise=True), None),
    (nn.Conv2d(8, 8, 3, groups=2), Scope(), None),
    (nn.ConvTranspose2d(8, 8, 2), Scope(), None),
    (nn.ConvTranspose2d(8, 8, 2, groups=8), Scope(), 'depthwise'),
    (ConvWS2d(8, 8, 3), Scope(), None),
    (nn.Conv3d(8, 8, 3), Scope(), 'Conv3d'),
    (nn.Embedding(8, 8), Scope(include=['layer']), 'Embedding'),
    (Conv2d(8, 8, 3), Scope(), None),
    (Linear(8, 8), Scope(include=['layer']), None),
    (CONV, Scope(exclude=['^layer$']), 'excluded'),
    (CONV, Scope(include=['head']), 'not included'),
])
def test_reasons(layer, scope, reason):
    assert scope.reason_to_leave('layer', layer) == reason


def test_layers_that_read_the_image():
    assert Scope().reason_to_leave('layer', CONV, reads_image=True) == 'stem'
    scope = Scope(stem=True)
    assert scope.reason_to_leave('layer', CONV, reads_image=True) is None


@pytest.mark.parametrize('kwargs, message', [
    (dict(include='head'), "include.*list of patterns.*'head'"),
    (dict(exclude='head'), "exclude.*list of patterns.*'head'"),
    (dict(include=['(']), r"include holds '\('.*no regular expression"),
    (dict(include=[3]), 'include holds 3,.*no regular expression'),
    (dict(exclude=None), 'exclude.*list of patterns.*None'),
    (dict(stem='no'), "stem must be True or False, but got 'no'"),
])
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Scope(**kwargs)
