"""A SAM that is as small as it can be, and knows nothing."""

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel, Sam3TrackerVideoConfig, Sam3TrackerVideoModel

SIZES = {
    "mask_decoder_config": {"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
    "num_maskmem": 3,
    "max_object_pointers_in_encoder": 5,
    "memory_attention_hidden_size": 128,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 32,
    "memory_attention_rope_feat_sizes": [8, 8],
    "memory_encoder_hidden_size": 128,
    "memory_encoder_output_channels": 64,
    "mask_downsampler_embed_dim": 128,
    "memory_fuser_embed_dim": 128,
    "memory_fuser_intermediate_dim": 32,
}
NECK = {"fpn_hidden_size": 128, "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}
HIERA = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 12,
    "num_attention_heads": 1,
    "image_size": [128, 128],
    "blocks_per_stage": [1, 1, 1, 1],
    "embed_dim_per_stage": [12, 24, 48, 96],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "window_size_per_stage": [8, 4, 4, 4],
    "global_attention_blocks": [],
}
VIT = {
    "model_type": "sam3_vit_model",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 112,
    "pretrain_image_size": 56,
    "window_size": 4,
    "global_attn_indexes": [1],
}


def make_sam2() -> Sam2VideoModel:
    torch.manual_seed(0)
    vision = {"model_type": "sam2_vision_model", "backbone_config": HIERA, "backbone_channel_list": [96, 48, 24, 12]}
    prompts = {"hidden_size": 128, "image_size": 128}
    config = Sam2VideoConfig(vision_config=vision | NECK, prompt_encoder_config=prompts, image_size=128, **SIZES)
    return _make_lively(Sam2VideoModel(config))


def make_sam3() -> Sam3TrackerVideoModel:
    torch.manual_seed(0)
    vision = {"model_type": "sam3_vision_model", "backbone_config": VIT, "fpn_hidden_size": 128}
    prompts = {"hidden_size": 128}
    config = Sam3TrackerVideoConfig(vision_config=vision, prompt_encoder_config=prompts, image_size=112, **SIZES)
    return _make_lively(Sam3TrackerVideoModel(config))


def _make_lively(model):
    """Make the weights, which are small in a new model, so large that masks differ from frame to frame."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model.eval()
