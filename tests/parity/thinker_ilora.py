"""I-LoRA by its definition (Crab+, arXiv 2603.04128), head by head, for autograd to differentiate."""

import math

import packages
import thinker_base

torch = packages.load_torch()

HIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class ILoraLinear(torch.nn.Module):
    """W x + b + (alpha / r) * sum_i p_i(x) * B_i A x, with p = softmax(R x) in float32."""

    def __init__(self, linear, parameters, scale):
        super().__init__()
        self.linear, self.scale = linear, scale
        self.A, *self.B, self.route = parameters

    def forward(self, x):
        p = torch.softmax((x @ self.route.T).float(), dim=-1).to(x.dtype)
        z = x @ self.A.T
        added = sum(p[..., i : i + 1] * (z @ B.T) for i, B in enumerate(self.B))
        return self.linear(x) + self.scale * added


def hit_modules(model, scope):
    towers = () if scope == "all" else tuple(tower for tower, _ in thinker_base.TOWERS)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name.endswith(HIT):
            if not towers or not name.startswith(towers):
                yield name, module


def random_spec(rng):
    return {"rank": rng.randint(1, 5), "heads": rng.randint(1, 4), "alpha": rng.uniform(1, 8)}


def published_names(module, heads):
    prefix = "base_model.model." + thinker_base.published(module)
    return [f"{prefix}.lora_{part}.weight"
            for part in ["A", *[f"B{i}" for i in range(heads)], "route"]]


def random_values(model, spec, rng):
    """Tensors for all modules, by their published names."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    rank, heads = spec["rank"], spec["heads"]
    values = {}
    for name, linear in hit_modules(model, "all"):
        out, inputs = linear.weight.shape
        shapes = [(rank, inputs), *[(out, rank)] * heads, (heads, inputs)]
        for published, shape in zip(published_names(name, heads), shapes):
            std = math.exp(rng.uniform(math.log(0.05), math.log(0.4)))
            values[published] = torch.randn(shape, generator=generator) * std
    return values


def attach(model, scope, spec, values):
    """Puts adapters into the model; returns its trained parameters by their published names."""
    parameters = {}
    for name, linear in hit_modules(model, scope):
        names = published_names(name, spec["heads"])
        own = [torch.nn.Parameter(values[n].clone()) for n in names]
        parameters.update(zip(names, own))
        parent, _, last = name.rpartition(".")
        adapted = ILoraLinear(linear, own, spec["alpha"] / spec["rank"])
        setattr(model.get_submodule(parent), last, adapted)
    return parameters
