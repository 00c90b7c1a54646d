"""How far transformers in bfloat16 is from itself in float32, with the same weights and inputs.

Weights, adapters and media are numbers that bfloat16 can hold, so all that differs is the arithmetic.
"""

import copy

import packages
import thinker_base
import thinker_adapter

torch = packages.load_torch()


def rounded(tensor):
    return tensor.bfloat16().float() if tensor.is_floating_point() else tensor


def make_models(config, base, scope, spec, values):
    """The thinker in float32 and in bfloat16; without an adapter where there is no scope."""
    state = {name: rounded(tensor) for name, tensor in base.state_dict().items()}
    for dtype in [torch.float32, torch.bfloat16]:
        model = thinker_base.make_model(config)
        model.load_state_dict(state)
        model.to(dtype)
        if scope:
            kept = {name: rounded(value).to(dtype) for name, value in values.items()}
            thinker_adapter.attach(model, scope, spec, kept)
        yield model


def round_media(batch):
    batch = copy.deepcopy(batch)
    for medium in batch.media:
        medium.values = rounded(medium.values)
    return batch
