"""What transformers' chat template and processor make of conversations: token ids and labels."""

import json
import pathlib

import packages

torch = packages.load_torch()

from transformers import (PreTrainedTokenizerFast, Qwen2_5OmniProcessor, Qwen2VLImageProcessor,
                          Qwen2VLVideoProcessor, WhisperFeatureExtractor)

import tokenizer_strings

# As published with Qwen2.5-Omni (chat_template.json).
TEMPLATE = (
    "{% set audio_count = namespace(value=0) %}{% set image_count = namespace(value=0) %}"
    "{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_bos|><|IMAGE|><|vision_eos|>"
    "{% elif content['type'] == 'audio' or 'audio' in content or 'audio_url' in content %}"
    "{% set audio_count.value = audio_count.value + 1 %}"
    "{% if add_audio_id %}Audio {{ audio_count.value }}: {% endif %}"
    "<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
TOKENS = {"image_token": "<|IMAGE|>", "audio_token": "<|AUDIO|>", "video_token": "<|VIDEO|>",
          "vision_bos_token": "<|vision_bos|>", "vision_eos_token": "<|vision_eos|>",
          "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"}
NOT_TRAINED = -100
SIDE, RATE, HOP = 224, 16000, 160
# As Crab+ sets it: pictures of 224 x 224 stay as they are.
SIZE = {"shortest_edge": 56 * 56, "longest_edge": 768 * 28 * 28}
KINDS = [[], ["image"], ["video"], ["audio"], ["video", "audio"], ["image", "audio"],
         ["video", "image", "audio"]]
# Texts that a tokenizer may join with what stands before or behind them.
EDGES = ["\nWhere?", "  two blanks", "ends in blanks  ", "\n\n", " ", "a\n", "\u0301accent", "1 2", "?"]


def make_processor(tokenizer_file):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file),
                                        pad_token="<|endoftext|>", extra_special_tokens=TOKENS)
    patches = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, "size": SIZE}
    return Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(**patches),
        video_processor=Qwen2VLVideoProcessor(**patches, do_sample_frames=False),
        feature_extractor=WhisperFeatureExtractor(feature_size=128, chunk_length=10),
        tokenizer=tokenizer, chat_template=TEMPLATE)


class Maker:
    def __init__(self, processor, rng):
        self.processor, self.rng = processor, rng
        self.generator = torch.Generator().manual_seed(rng.getrandbits(32))
        special = set(processor.tokenizer.get_added_vocab())
        self.texts = [text for text in tokenizer_strings.make(rng.getrandbits(32), 60, 20)
                      if text and not any(token in text for token in special)] + EDGES

    def pictures(self, *shape):
        return torch.randint(256, (*shape, 3, SIDE, SIDE), generator=self.generator).byte()

    def media(self, kinds):
        made = {}
        if "video" in kinds:
            made["videos"] = [self.pictures(self.rng.randint(1, 5))]
        if "image" in kinds:
            made["images"] = [self.pictures()]
        if "audio" in kinds:
            made["audio"] = [torch.randn(self.rng.randint(RATE // 10, 2 * RATE),
                                         generator=self.generator).numpy()]
        return made

    def encode(self, messages, media, add_generation_prompt=False):
        text = self.processor.apply_chat_template(messages, tokenize=False,
                                                  add_generation_prompt=add_generation_prompt)
        videos = {"size": SIZE, "do_sample_frames": False, "cap_pixels_per_frame": False}
        made = self.processor(text=[text], videos_kwargs=videos, images_kwargs={"size": SIZE},
                              audio_kwargs={"sampling_rate": RATE}, **media)
        return torch.as_tensor(made["input_ids"])[0].tolist()

    def case(self, kinds):
        system, question, target = self.rng.choices(self.texts, k=3)
        media = self.media(kinds)
        asked = [{"role": "system", "content": system},
                 {"role": "user", "content": [*[{"type": kind} for kind in kinds],
                                              {"type": "text", "text": question}]}]
        answered = [*asked, {"role": "assistant", "content": target}]
        ids = self.encode(answered, media)
        tokenizer = self.processor.tokenizer
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        ids = ids[: len(ids) - ids[::-1].index(end)]  # without the line break behind the last turn
        # The assistant's turn from the line break behind its name.
        start = len(ids) - ids[::-1].index(tokenizer.convert_tokens_to_ids("<|im_start|>"))
        start += len(tokenizer.encode("assistant", add_special_tokens=False))
        return {
            "system": system, "question": question, "target": target,
            "video_frames": len(media["videos"][0]) if "videos" in media else 0,
            "image_frames": len(media.get("images", [])),
            "mel_frames": -(-len(media["audio"][0]) // HOP) if "audio" in media else 0,
            "prompt": self.encode(asked, media, add_generation_prompt=True),
            "ids": ids,
            "labels": [NOT_TRAINED] * start + ids[start:],
        }


def write(file, tokenizer_file, rng, rounds):
    maker = Maker(make_processor(tokenizer_file), rng)
    cases = [maker.case(kinds) for _ in range(rounds) for kinds in KINDS]
    lines = ",\n".join(json.dumps(case) for case in cases)
    pathlib.Path(file).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
