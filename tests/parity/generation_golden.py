"""What transformers generates: greedy answers of whole batches, and what top-p leaves of logits."""

import packages

torch = packages.load_torch()

from transformers import TemperatureLogitsWarper, TopPLogitsWarper

NEW_TOKENS = 12
ABSENT = -1


def greedy(model, batch, new_tokens, more_ends=()):
    """Answers to the prompts, left padded, without the token that ended them; filled up with -1."""
    prompts, config = batch.prompts(), batch.config
    ends = [config["eos_token_id"], config["pad_token_id"], *more_ends]
    ids = model.generate(**prompts.arguments(left=True), do_sample=False, num_beams=1,
                         max_new_tokens=new_tokens, eos_token_id=ends,
                         pad_token_id=config["pad_token_id"])[:, prompts.width :]
    ended = torch.isin(ids, torch.tensor(ends)).cumsum(1) > 0
    answers = torch.full((len(ids), new_tokens), ABSENT)
    answers[:, : ids.shape[1]] = ids.masked_fill(ended, ABSENT)
    return answers


def answers(models, batch, rng):
    """To prompts padded on the left; also with more ends, which these answers run into."""
    prompts = batch.prompts()
    golden = {"prompts": prompts.ids(left=True), "prompts_mask": prompts.mask(left=True)}
    for scope, (model, _) in models.items():
        golden[f"{scope}/answers"] = free = greedy(model, batch, NEW_TOKENS)
        said = free[free != ABSENT].tolist()
        stop = sorted(set(rng.sample(said, min(2, len(said)))))
        golden[f"{scope}/stop"] = torch.tensor(stop, dtype=torch.int64)
        golden[f"{scope}/answers_with_stop"] = greedy(model, batch, NEW_TOKENS, stop)
    return golden


def left_padding(position_ids, batch):
    """The whole batch with its padding on the left; media do not depend on it."""
    return {"input_ids": batch.ids(left=True), "attention_mask": batch.mask(left=True),
            "labels": batch.labels(left=True), "position_ids": position_ids}


def sampling(rng, small):
    """Logits of some rows, as they are, and after a temperature and top-p."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    golden = {}
    for i in range(6):
        spread, vocabulary = rng.uniform(0.1, 8), rng.choice([2, 17, 266] if small else [2, 17, 266, 5000])
        logits = torch.randn(4, vocabulary, generator=generator) * spread
        temperature, top_p = rng.uniform(0.2, 2), rng.choice([1e-3, 0.3, 0.5, 0.9, 0.95, 0.999])
        scaled = TemperatureLogitsWarper(temperature)(None, logits)
        golden |= {f"{i}/logits": logits, f"{i}/kept": TopPLogitsWarper(top_p)(None, scaled),
                   f"{i}/temperature": torch.tensor(temperature, dtype=torch.float64),
                   f"{i}/top_p": torch.tensor(top_p, dtype=torch.float64)}
    return golden
