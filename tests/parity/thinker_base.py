"""Random tiny thinkers: every size varies with the seed, and no weight is at its default."""

import copy
import json
import math

import packages

torch = packages.load_torch()

from safetensors.torch import save_file
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

SPECIAL = ["audio_token_index", "image_token_index", "video_token_index", "audio_start_token_id",
           "audio_end_token_id", "vision_start_token_id", "vision_end_token_id", "pad_token_id",
           "bos_token_id", "eos_token_id"]

# Modules in memory, and as they are published.
TOWERS = [("model.audio_tower.", "audio_tower."), ("model.visual.", "visual.")]
LANGUAGE_MODEL = ("model.language_model.", "model.")


def published(name):
    for in_memory, public in [LANGUAGE_MODEL, *TOWERS]:
        if name.startswith(in_memory):
            return public + name.removeprefix(in_memory)
    return name


def parts(rng, total):
    """Three whole numbers that add up to the total."""
    cuts = sorted(rng.randint(0, total) for _ in range(2))
    return [cuts[0], cuts[1] - cuts[0], total - cuts[1]]


def text_config(rng, vocabulary, widest):
    kv_heads, group, head_dim = rng.randint(1, 3), rng.randint(1, 3), rng.choice([4, 6, 8, 12])
    heads = kv_heads * group
    config = {
        "model_type": "qwen2_5_omni_text",
        "vocab_size": vocabulary,
        "hidden_size": heads * head_dim,
        "intermediate_size": rng.randint(6, widest),
        "num_hidden_layers": rng.randint(1, 4),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": rng.choice([1e-6, 1e-5, 1e-3]),
        "tie_word_embeddings": rng.random() < 0.5,  # has no meaning here: the thinker's own counts
    }
    if rng.random() < 0.5 or heads * head_dim > widest:
        config["head_dim"] = head_dim
        config["hidden_size"] = rng.randint(8, min(30, widest))
    theta, section = rng.choice([1e2, 1e4, 1e6]), parts(rng, head_dim // 2)
    if rng.random() < 0.5:
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": theta,
                                     "mrope_section": section}
    else:
        config["rope_theta"] = theta
        config["rope_scaling"] = {"type": "default", "rope_type": "default",
                                  "mrope_section": section}
    return config


def vision_config(rng, out, widest):
    heads, head_dim, depth = rng.randint(1, 3), rng.choice([4, 8, 12]), rng.randint(2, 4)
    patch, merge = rng.choice([2, 3, 4]), rng.choice([1, 2, 2, 3])
    side = patch * merge
    return {
        "model_type": "qwen2_5_omni_vision_encoder",
        "depth": depth,
        "hidden_size": heads * head_dim,
        "intermediate_size": rng.randint(6, widest),
        "num_heads": heads,
        "patch_size": patch,
        "temporal_patch_size": rng.choice([1, 2, 2, 3]),
        "spatial_merge_size": merge,
        "window_size": side * rng.randint(1, 2) + rng.randrange(side),
        "out_hidden_size": out,
        "fullatt_block_indexes": sorted(rng.sample(range(depth), rng.randint(1, depth - 1))),
    }


def audio_config(rng, out, widest):
    heads, n_window = rng.randint(1, 3), rng.randint(2, 9)
    return {
        "model_type": "qwen2_5_omni_audio_encoder",
        "num_mel_bins": rng.randint(4, 16),
        "encoder_layers": rng.randint(1, 3),
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": rng.randint(6, widest),
        "d_model": heads * rng.choice([4, 6, 10]),
        "n_window": n_window,
        "max_source_positions": n_window + rng.randint(0, 20),
        "output_dim": out,
    }


def random_config(rng, widest):
    """A thinker's config.json as a mapping; most widths are at most `widest`."""
    vocabulary = rng.randint(40, 100)
    text = text_config(rng, vocabulary, widest)
    hidden = text["hidden_size"]
    return {
        "model_type": "qwen2_5_omni_thinker",
        "text_config": text,
        "vision_config": vision_config(rng, hidden, widest),
        "audio_config": audio_config(rng, hidden, widest),
        "position_id_per_seconds": rng.choice([25, 25, 13, 40]),
        "tie_word_embeddings": rng.random() < 0.5,
        **dict(zip(SPECIAL, rng.sample(range(vocabulary), len(SPECIAL)))),
    }


def random_weights(model, rng):
    """Gives every weight a scale of its own, at which a mistake in its use shows."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    # Small patches, so that the epsilon of the norm behind them counts.
    scales = {"model.visual.patch_embed.proj.weight": math.exp(rng.uniform(-7, -1))}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            std = scales.get(name, math.exp(rng.uniform(math.log(0.05), math.log(0.3))))
            is_norm = name.endswith("weight") and weight.dim() == 1
            weight.normal_(1 if is_norm else 0, std, generator=generator)


def make_model(config):
    parsed = Qwen2_5OmniThinkerConfig.from_dict(copy.deepcopy(config))
    model = Qwen2_5OmniThinkerForConditionalGeneration._from_config(
        parsed, attn_implementation="eager", dtype=torch.float32)
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == config["tie_word_embeddings"]
    return model.eval().requires_grad_(False)


def copy_of(model, config):
    copied = make_model(config)
    copied.load_state_dict(model.state_dict())
    return copied


def random_model(rng, widest):
    config = random_config(rng, widest)
    model = make_model(config)
    random_weights(model, rng)
    return config, model


def write_base(folder, config, model, rng):
    """The folder as a published base: sharded or not, the whole model's config or the thinker's."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {"thinker." + published(name): tensor.clone()
               for name, tensor in model.state_dict().items()}
    if config["tie_word_embeddings"] and rng.random() < 0.5:
        del weights["thinker.lm_head.weight"]
    nested = {"model_type": "qwen2_5_omni", "thinker_config": config}
    written = nested if rng.random() < 0.5 else config
    (folder / "config.json").write_text(json.dumps(written, indent=1) + "\n")
    if rng.random() < 0.5:
        return save_file(weights, str(folder / "model.safetensors"), {"format": "pt"})
    names = sorted(weights)
    shards = [names[: len(names) // 3], names[len(names) // 3 :]]
    index = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        save_file({name: weights[name] for name in shard}, str(folder / file), {"format": "pt"})
        index.update(dict.fromkeys(shard, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}) + "\n")
