"""Asks transformers and `crabcast generate` the same; run by generate_parity.py."""

import json
import pathlib
import random
import subprocess
import sys
import wave

import packages

torch = packages.load_torch()

import numpy
from PIL import Image

import chat_golden
import thinker_base
import tokenizer_strings

RATE, SIDE, NEW_TOKENS = 16000, 224, 16
SYSTEM = "You see and hear."  # of training (data/prompt.h)
SPECIAL = {"audio_token_index": "<|AUDIO|>", "image_token_index": "<|IMAGE|>",
           "video_token_index": "<|VIDEO|>", "audio_start_token_id": "<|audio_bos|>",
           "audio_end_token_id": "<|audio_eos|>", "vision_start_token_id": "<|vision_bos|>",
           "vision_end_token_id": "<|vision_eos|>", "pad_token_id": "<|endoftext|>",
           "bos_token_id": "<|im_start|>", "eos_token_id": "<|im_end|>"}


def random_base(folder, processor, rng):
    """A thinker with the patches, bands and ids of the published one, and few of all else."""
    config = thinker_base.random_config(rng, widest=40)
    config |= {name: processor.tokenizer.convert_tokens_to_ids(token)
               for name, token in SPECIAL.items()}
    config["text_config"]["vocab_size"] = len(processor.tokenizer) + 3
    config["vision_config"] |= {"patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2,
                                "window_size": 112}
    config["audio_config"] |= {"num_mel_bins": 128, "n_window": 100, "max_source_positions": 200}
    model = thinker_base.make_model(config)
    thinker_base.random_weights(model, rng)
    for old in folder.glob("model*"):
        old.unlink()
    thinker_base.write_base(folder, config, model, rng)
    return model


class Case:
    """A question about a picture, a sound, both or none, in files."""

    def __init__(self, folder, kinds, rng):
        values = numpy.random.default_rng(rng.getrandbits(32))
        self.kinds, self.media, self.options = kinds, {}, []
        self.question = rng.choice(tokenizer_strings.SENTENCES)
        if "image" in kinds:
            pixels = values.integers(0, 256, (SIDE, SIDE, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(folder / "picture.png")
            self.media["images"] = [torch.from_numpy(pixels).permute(2, 0, 1)]
            self.options += ["--image", str(folder / "picture.png")]
        if "audio" in kinds:
            # A multiple of ten samples, so that the ten parts of a clip are the whole.
            samples = values.normal(0, 3000, 10 * rng.randint(RATE // 10, RATE // 4)).astype("int16")
            with wave.open(str(folder / "sound.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes(samples.tobytes())
            self.media["audio"] = [samples.astype("float32") / 2**15]
            self.options += ["--audio", str(folder / "sound.wav")]


def their_answer(model, processor, case):
    messages = [{"role": "system", "content": SYSTEM},
                {"role": "user", "content": [*[{"type": kind} for kind in case.kinds],
                                             {"type": "text", "text": case.question}]}]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images_kwargs={"size": chat_golden.SIZE},
                       audio_kwargs={"sampling_rate": RATE}, return_tensors="pt", **case.media)
    config = model.config
    with torch.no_grad():
        ids = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=NEW_TOKENS,
                             eos_token_id=[processor.tokenizer.convert_tokens_to_ids(token)
                                           for token in ["<|im_end|>", "<|endoftext|>"]],
                             pad_token_id=config.pad_token_id)
    prompt = inputs["input_ids"].shape[1]
    return prompt, processor.tokenizer.decode(ids[0, prompt:], skip_special_tokens=True)


def our_answer(crabcast, base, case):
    done = subprocess.run([crabcast, "generate", "--base", str(base), "--prompt", case.question,
                           "--max-new-tokens", str(NEW_TOKENS), "--json", *case.options],
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    answer = json.loads(done.stdout)
    return answer["prompt_tokens"], answer["text"]


def main(crabcast, base, seeds):
    torch.set_num_threads(1)
    processor = chat_golden.make_processor(base / "tokenizer.json")
    wrong = 0
    for seed in map(int, seeds):
        rng = random.Random(f"generate {seed}")
        model = random_base(base, processor, rng)
        for kinds in [[], ["image"], ["audio"], ["image", "audio"]]:
            case = Case(base, kinds, rng)
            theirs, ours = their_answer(model, processor, case), our_answer(crabcast, base, case)
            wrong += ours != theirs
            print("same" if ours == theirs else "DIFFERENT", f"seed {seed}", *kinds, *theirs[:1],
                  repr(theirs[1]), *([repr(ours)] if ours != theirs else []), flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:])
