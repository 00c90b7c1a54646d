"""Adapters as Crab+ and the package peft write them."""

import collections

import packages
import thinker_adapter

torch = packages.load_torch()

import peft

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def write_crab_plus(file, values, rng):
    """A state dict by torch.save; any of the types that adapters are published in."""
    container, dtype = rng.choice([dict, collections.OrderedDict]), rng.choice(TYPES)
    torch.save(container((name, value.to(dtype)) for name, value in values.items()), file)


def write_peft(folder, model, spec, values, batches):
    """A LoRA as peft saves it; returns its logits of all tokens for each batch."""
    config = peft.LoraConfig(r=spec["rank"], lora_alpha=spec["alpha"], lora_dropout=0.05,
                             target_modules=list(thinker_adapter.HIT))
    adapted = peft.get_peft_model(model, config).eval()
    state = peft.get_peft_model_state_dict(adapted)
    for name in state:
        module, _, part = name.removeprefix("base_model.model.").rpartition(".lora_")
        state[name] = values[f"{thinker_adapter.published_module(module)}.lora_{part}"]
    peft.set_peft_model_state_dict(adapted, state)
    adapted.save_pretrained(str(folder))
    return logits(adapted, batches)


def logits(model, batches):
    with torch.no_grad():
        return {name: model(**batch.arguments(), use_cache=False).logits[batch.mask().bool()]
                for name, batch in batches.items()}
