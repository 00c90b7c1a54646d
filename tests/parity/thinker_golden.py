"""Writes what transformers makes of random tiny thinkers, for tests/parity to compare.

    python3 tests/parity/thinker_golden.py FOLDER SEED...             every kind of batch
    python3 tests/parity/thinker_golden.py --small FOLDER SEED...     the files of the repository

Makes FOLDER/seed_N for each seed: a base (config.json and safetensors), adapter.safetensors (I-LoRA
without dropout), adapter_KIND.safetensors (every kind, with dropout), finetune_weights.bin and peft/
(the same I-LoRA as Crab+ has it in a file, and a LoRA as peft does), BATCH.safetensors for each batch,
and media.safetensors of random sound, pictures and videos. Eager attention, float32, on a CPU. Needs
what thinker_parity.py installs.
"""

import argparse
import pathlib
import random
import shutil

import packages

torch = packages.load_torch()

from safetensors.torch import save_file

import adapter_files
import dropout_mask
import media_golden
import thinker_adapter
import thinker_base
import thinker_batch

SCOPES = ["all", "language_model"]
KINDS = [*thinker_adapter.KINDS, "full"]
STEPS = 3
NEW_TOKENS = 6


def kinds_of_batches(rng, small):
    mixed = list(thinker_batch.KINDS)
    rng.shuffle(mixed)
    if small:
        return {"video_audio": ["video_audio", "picture"], "text": ["text"]}
    alone = {kind: [kind] * rng.randint(1, 3) for kind in thinker_batch.KINDS}
    return {**alone, "mixed": mixed}


def positions(model, batch):
    arguments = batch.arguments()
    frames = arguments.get("feature_attention_mask")
    return model.model.get_rope_index(
        arguments["input_ids"], arguments.get("image_grid_thw"), arguments.get("video_grid_thw"),
        arguments["attention_mask"], False, None if frames is None else frames.sum(1),
        arguments.get("video_second_per_grid"))[0]


def forward(model, batch, left=False):
    """Hidden states of all tokens before the final norm, and logits of all tokens, in packed order."""
    caught = {}
    hook = model.model.language_model.norm.register_forward_pre_hook(
        lambda _, inputs: caught.update(hidden=inputs[0]))
    logits = model(**batch.arguments(left), use_cache=False).logits
    hook.remove()
    tokens = batch.mask(left).bool()
    return caught["hidden"][tokens], logits[tokens]


def token_losses(model, batch):
    """Logits at the rows that predict a trained token, and the loss of each such token."""
    hidden, logits = forward(model, batch)
    labels = torch.full_like(batch.labels(), thinker_batch.NOT_TRAINED)
    labels[:, :-1] = batch.labels()[:, 1:]
    labels = labels[batch.mask().bool()]
    trained = labels != thinker_batch.NOT_TRAINED
    losses = torch.nn.functional.cross_entropy(logits[trained], labels[trained], reduction="none")
    return hidden, logits[trained], losses


def towers(model, batch):
    """What each tower makes of the batch, in the order of its placeholders."""
    arguments, outputs = batch.arguments(), {}
    if batch.of_kind("audio"):
        outputs["audio"] = model.model.get_audio_features(
            arguments["input_features"], arguments["feature_attention_mask"]).last_hidden_state
    tokens = {"image": [], "video": []}
    if batch.of_kind("image"):
        tokens["image"] = list(model.model.get_image_features(
            arguments["pixel_values"], arguments["image_grid_thw"]).pooler_output)
    if batch.of_kind("video"):
        tokens["video"] = list(model.model.get_video_features(
            arguments["pixel_values_videos"], arguments["video_grid_thw"]).pooler_output)
    if batch.of_kind("image", "video"):
        outputs["vision"] = torch.cat([tokens[m.kind].pop(0)
                                       for m in batch.of_kind("image", "video")])
    return outputs


def check_left_padding(model, batch):
    """The oracle itself must not depend on where the padding stands."""
    for right, left in zip(forward(model, batch), forward(model, batch, left=True)):
        assert (right - left).norm() <= 1e-5 * right.norm(), "transformers: left padding matters"


def generate(model, batch):
    """Greedy answers without the end token, filled up with -1."""
    prompts = batch.prompts()
    end = batch.config["eos_token_id"]
    ids = model.generate(**prompts.arguments(left=True), do_sample=False, num_beams=1,
                         max_new_tokens=NEW_TOKENS, eos_token_id=end,
                         pad_token_id=batch.config["pad_token_id"])[:, prompts.width :]
    ended = (ids == end).cumsum(1) > 0
    answers = torch.full((len(ids), NEW_TOKENS), -1)
    answers[:, : ids.shape[1]] = ids.masked_fill(ended, -1)
    return answers


def batch_golden(models, batch):
    golden = {**batch.model_input(), "prompt_mask": batch.prompt_mask()}
    golden["position_ids"] = positions(models["all"][0], batch)
    for scope, (model, parameters) in models.items():
        with torch.no_grad():
            for tower, output in towers(model, batch).items():
                golden[f"{scope}/{tower}"] = output
            check_left_padding(model, batch)
            golden[f"{scope}/generated"] = generate(model, batch)
        for parameter in parameters.values():
            parameter.grad = None
        hidden, logits, losses = token_losses(model, batch)
        losses.sum().backward()
        golden |= {f"{scope}/hidden": hidden, f"{scope}/logits": logits, f"{scope}/losses": losses,
                   f"{scope}/loss_sum": losses.sum()[None], f"{scope}/loss_mean": losses.mean()[None]}
        # The mean is what transformers itself calls the loss.
        theirs = model(**batch.arguments(), labels=batch.labels()).loss
        assert (theirs - losses.mean()).abs() <= 1e-6 * theirs.abs()
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                golden[f"{scope}/gradient/{name}"] = parameter.grad.clone()
    return golden


def random_optimizer(rng):
    # With the usual epsilon of 1e-8 a first step is lr * sign(gradient) even where the gradient is
    # nothing but rounding.
    return {"lr": rng.choice([1e-4, 1e-3, 1e-2]), "weight_decay": rng.choice([0.0, 0.01, 0.1]),
            "beta1": rng.choice([0.9, 0.8]), "beta2": rng.choice([0.999, 0.95]), "epsilon": 1e-5}


def train(model, parameters, optimizer, batches, before_step=lambda step, batch: None):
    """One step on each batch with the mean loss; parameters that had no part are left alone."""
    adamw = torch.optim.AdamW(parameters.values(), lr=optimizer["lr"],
                              betas=(optimizer["beta1"], optimizer["beta2"]),
                              eps=optimizer["epsilon"], weight_decay=optimizer["weight_decay"])
    for step, batch in enumerate(batches, 1):
        before_step(step, batch)
        adamw.zero_grad(set_to_none=True)
        token_losses(model, batch)[2].mean().backward()
        adamw.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


def train_kind(kind, base, config, spec, values, optimizer, batches, dropout):
    """What is trained after the steps. Dropout in the text model, whose layers see tokens in a row."""
    model = thinker_base.copy_of(base, config)
    if kind == "full":
        return train(model, thinker_adapter.all_weights(model), optimizer, batches)
    if kind == "lora":
        values = thinker_adapter.lora_values(values)
    dropping = thinker_adapter.Dropping()
    parameters = thinker_adapter.attach(model, "language_model", spec, values, kind, dropping)

    def before_step(step, batch):
        key = dropout_mask.pass_key(dropout["seed"], step, dropout["lane"])
        dropping.of_pass(dropout["rate"], key, batch.mask())

    return train(model, parameters, optimizer, batches, before_step)


def save(file, tensors, metadata=None):
    kept = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    save_file(kept, str(file), {name: str(value) for name, value in (metadata or {}).items()})


def start(seed, small):
    rng = random.Random(seed)
    config, base = thinker_base.random_model(rng, widest=16 if small else 40)
    maker = thinker_batch.Maker(config, rng)
    batches = {name: maker.batch(kinds)
               for name, kinds in kinds_of_batches(rng, small).items()}
    return rng, config, base, batches


def write(folder, seed, small):
    rng, config, base, batches = start(seed, small)
    spec, optimizer = thinker_adapter.random_spec(rng), random_optimizer(rng)
    values = thinker_adapter.random_values(base, spec, rng)
    steps = (list(batches) * STEPS)[:STEPS] if small else rng.sample(list(batches), STEPS)

    shutil.rmtree(folder, ignore_errors=True)
    thinker_base.write_base(folder, config, base, rng)
    models = {}
    for scope in SCOPES:
        model = thinker_base.copy_of(base, config)
        models[scope] = model, thinker_adapter.attach(model, scope, spec, values)
    for name, batch in batches.items():
        save(folder / f"{name}.safetensors", batch_golden(models, batch))
    adapter = {f"initial/{name}": tensor for name, tensor in values.items()}
    for scope, (model, parameters) in models.items():
        trained = train(model, parameters, optimizer, [batches[name] for name in steps])
        adapter |= {f"{scope}/trained/{name}": tensor for name, tensor in trained.items()}
    save(folder / "media.safetensors", media_golden.golden(rng, small))
    save(folder / "adapter.safetensors", adapter, {**spec, **optimizer, "steps": " ".join(steps)})
    dropout = {"rate": rng.uniform(0.05, 0.5), "seed": rng.getrandbits(63), "lane": rng.randrange(4)}
    for kind in KINDS:
        trained = train_kind(kind, base, config, spec, values, optimizer,
                             [batches[name] for name in steps], dropout)
        save(folder / f"adapter_{kind}.safetensors", trained, dropout)
    adapter_files.write_crab_plus(folder / "finetune_weights.bin", values, rng)
    logits = adapter_files.write_peft(folder / "peft", thinker_base.copy_of(base, config), spec,
                                      thinker_adapter.lora_values(values), batches)
    save(folder / "adapter_peft_logits.safetensors", logits)
    print(f"seed {seed}: {sum(p.numel() for p in base.parameters())} weights, batches",
          *[f"{name} {len(b.samples)} x {b.width}" for name, b in batches.items()], flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--small", action="store_true")
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("seeds", type=int, nargs="+")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    for seed in given.seeds:
        write(given.folder / f"seed_{seed}", seed, given.small)


if __name__ == "__main__":
    main()
