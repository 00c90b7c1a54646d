"""Adapters by their definitions, head by head, for autograd to differentiate.

I-LoRA and what Crab's first version has (arXiv 2603.04128 and 2503.13068), LoRA (arXiv 2106.09685).
"""

import math

import dropout_mask
import packages
import thinker_base

torch = packages.load_torch()

HIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Dropping:
    """What the adapters of one model drop: nothing, or what the key of a pass says.

    A mask is of the tokens in a row, without padding: the layout of the layers of the text model.
    """

    def __init__(self):
        self.rate, self.key, self.tokens = 0.0, 0, None

    def of_pass(self, rate, key, tokens):
        self.rate, self.key, self.tokens = rate, key, tokens.bool()

    def drop(self, x, module, head=None):
        if self.rate == 0:
            return x
        key = dropout_mask.combine_key(self.key, dropout_mask.name_key(module))
        if head is not None:
            key = dropout_mask.combine_key(key, head)
        packed = (int(self.tokens.sum()), x.shape[-1])
        mask = torch.ones_like(x)
        mask[self.tokens] = torch.from_numpy(dropout_mask.mask(packed, self.rate, key))
        return x * mask


class Adapted(torch.nn.Module):
    def __init__(self, linear, name, parameters, scale, dropping):
        super().__init__()
        self.linear, self.name, self.scale, self.dropping = linear, name, scale, dropping
        self.own = torch.nn.ParameterList(parameters)

    def forward(self, x):
        return self.linear(x) + self.scale * self.added(x)


class Lora(Adapted):
    """B A drop(x)"""

    @staticmethod
    def parts(heads):
        return ["A", "B"]

    def added(self, x):
        A, B = self.own
        return self.dropping.drop(x, self.name) @ A.T @ B.T


class ILora(Adapted):
    """sum_i p_i(x) * B_i A drop(x), with p = softmax(R x) in float32"""

    @staticmethod
    def parts(heads):
        return ["A", *[f"B{i}" for i in range(heads)], "route"]

    def dropped(self, x, head):
        return self.dropping.drop(x, self.name)

    def added(self, x):
        A, *B, route = self.own
        p = torch.softmax((x @ route.T).float(), dim=-1).to(x.dtype)
        return sum(p[..., i : i + 1] * (self.dropped(x, i) @ A.T @ B[i].T) for i in range(len(B)))


class CrabV1(ILora):
    """A mask for each head."""

    def dropped(self, x, head):
        return self.dropping.drop(x, self.name, head)


KINDS = {"ilora": ILora, "lora": Lora, "crab_v1": CrabV1}


def hit_modules(model, scope):
    towers = () if scope == "all" else tuple(tower for tower, _ in thinker_base.TOWERS)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name.endswith(HIT):
            if not towers or not name.startswith(towers):
                yield name, module


def random_spec(rng):
    return {"rank": rng.randint(1, 5), "heads": rng.randint(1, 4), "alpha": rng.uniform(1, 8)}


def published_module(module):
    return "base_model.model." + thinker_base.published(module)


def published_names(module, kind, heads):
    return [f"{published_module(module)}.lora_{part}.weight" for part in KINDS[kind].parts(heads)]


def random_values(model, spec, rng):
    """Tensors of I-LoRA for all modules, by their published names."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    rank, heads = spec["rank"], spec["heads"]
    values = {}
    for name, linear in hit_modules(model, "all"):
        out, inputs = linear.weight.shape
        shapes = [(rank, inputs), *[(out, rank)] * heads, (heads, inputs)]
        for published, shape in zip(published_names(name, "ilora", heads), shapes):
            std = math.exp(rng.uniform(math.log(0.05), math.log(0.4)))
            values[published] = torch.randn(shape, generator=generator) * std
    return values


def lora_values(values):
    """Those of LoRA: A, and of the heads the first."""
    return {name.replace(".lora_B0.", ".lora_B."): value for name, value in values.items()
            if ".lora_A." in name or ".lora_B0." in name}


def attach(model, scope, spec, values, kind="ilora", dropping=None):
    """Puts adapters into the model; returns its trained parameters by their published names."""
    parameters = {}
    for name, linear in hit_modules(model, scope):
        names = published_names(name, kind, spec["heads"])
        own = [torch.nn.Parameter(values[n].clone()) for n in names]
        parameters.update(zip(names, own))
        parent, _, last = name.rpartition(".")
        adapted = KINDS[kind](linear, published_module(name), own, spec["alpha"] / spec["rank"],
                              dropping or Dropping())
        setattr(model.get_submodule(parent), last, adapted)
    return parameters


def all_weights(model):
    """Makes the model's own parameters trained; returns them by their published names."""
    model.requires_grad_(True)
    return {"thinker." + thinker_base.published(name): parameter
            for name, parameter in model.named_parameters()}
