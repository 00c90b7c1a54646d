"""Random batches for a thinker: text, pictures, videos and sound, in the layout of model/input.h."""

import dataclasses

import packages

torch = packages.load_torch()

NOT_TRAINED = -100
# What a sample of each kind holds, in the order of its text.
KINDS = {
    "text": [],
    "picture": ["image"],
    "video": ["video"],
    "audio": ["audio"],
    "video_audio": ["video", "audio"],
    "two_of_each": ["audio", "image", "video", "image", "audio"],
}


@dataclasses.dataclass
class Medium:
    kind: str  # image, video or audio
    values: torch.Tensor  # [patches, elements], or [mel bins, frames]
    tokens: int
    grid: tuple = ()
    seconds: float = 0.0


@dataclasses.dataclass
class Sample:
    ids: list
    labels: list
    media: list
    prompt: int = 0  # tokens before the answer


class Maker:
    def __init__(self, config, rng):
        self.config, self.rng = config, rng
        self.generator = torch.Generator().manual_seed(rng.getrandbits(32))
        special = {value for name, value in config.items() if name.endswith(("index", "token_id"))}
        self.words = [i for i in range(config["text_config"]["vocab_size"]) if i not in special]

    def values(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def text(self, low, high):
        return self.rng.choices(self.words, k=self.rng.randint(low, high))

    def vision(self, kind):
        vision = self.config["vision_config"]
        merge = vision["spatial_merge_size"]
        longest = max(3, 7 // merge)  # more than a window holds
        h, w = (merge * self.rng.randint(1, longest) for _ in range(2))
        t = self.rng.randint(1, 3) if kind == "video" else 1
        elements = 3 * vision["temporal_patch_size"] * vision["patch_size"] ** 2
        seconds = self.rng.choice([2.0, 1.0, 0.5, 0.37, 1.21]) if kind == "video" else 0.0
        return Medium(kind, self.values(t * h * w, elements), t * h * w // merge**2, (t, h, w),
                      seconds)

    def audio(self):
        audio = self.config["audio_config"]
        frames = self.rng.randint(3, 7 * audio["n_window"])
        return Medium("audio", self.values(audio["num_mel_bins"], frames),
                      ((frames - 1) // 2 + 1 - 2) // 2 + 1)

    def sample(self, kind):
        c = self.config
        ids, media = [c["bos_token_id"], *self.text(0, 4)], []
        for name in KINDS[kind]:
            medium = self.audio() if name == "audio" else self.vision(name)
            around = "audio" if name == "audio" else "vision"
            ids += [c[f"{around}_start_token_id"], *[c[f"{name}_token_index"]] * medium.tokens,
                    c[f"{around}_end_token_id"], *self.text(0, 3)]
            media.append(medium)
        ids += self.text(1, 5)
        prompt = len(ids)
        answer = [*self.text(1, 5), c["eos_token_id"]]
        return Sample(ids + answer, [NOT_TRAINED] * prompt + answer, media, prompt)

    def batch(self, kinds):
        samples = [self.sample(kind) for kind in kinds]
        if len(samples) > 2:  # one from which nothing is learnt
            samples[1].labels = [NOT_TRAINED] * len(samples[1].ids)
        samples[0].labels[0] = samples[0].ids[0]  # nothing predicts it
        return Batch(self.config, samples, extra_padding=self.rng.randint(0, 3))


class Batch:
    def __init__(self, config, samples, extra_padding=0):
        self.config, self.samples = config, samples
        self.media = [medium for sample in samples for medium in sample.media]
        self.width = max(len(sample.ids) for sample in samples) + extra_padding

    def prompts(self):
        return Batch(self.config, [Sample(s.ids[: s.prompt], s.labels[: s.prompt], s.media, s.prompt)
                                   for s in self.samples])

    def rows(self, lists, fill, left):
        padded = []
        for values in lists:
            padding = [fill] * (self.width - len(values))
            padded.append(padding + values if left else values + padding)
        return torch.tensor(padded)

    def ids(self, left=False):
        return self.rows([s.ids for s in self.samples], self.config["pad_token_id"], left)

    def labels(self, left=False):
        return self.rows([s.labels for s in self.samples], NOT_TRAINED, left)

    def mask(self, left=False):
        return self.rows([[1] * len(s.ids) for s in self.samples], 0, left)

    def of_kind(self, *kinds):
        return [medium for medium in self.media if medium.kind in kinds]

    def pixels(self, *kinds):
        vision = self.config["vision_config"]
        elements = 3 * vision["temporal_patch_size"] * vision["patch_size"] ** 2
        return torch.cat([torch.empty(0, elements), *[m.values for m in self.of_kind(*kinds)]])

    def grids(self, *kinds):
        return torch.tensor([m.grid for m in self.of_kind(*kinds)], dtype=torch.int64).view(-1, 3)

    def seconds(self, *kinds):
        return torch.tensor([m.seconds for m in self.of_kind(*kinds)], dtype=torch.float32)

    def audio(self):
        """Features padded to the longest clip, and the frames of each."""
        clips = [m.values for m in self.of_kind("audio")]
        lengths = torch.tensor([clip.shape[1] for clip in clips], dtype=torch.int64)
        longest = max(lengths.tolist(), default=0)
        features = torch.zeros(len(clips), self.config["audio_config"]["num_mel_bins"], longest)
        for row, clip in zip(features, clips):
            row[:, : clip.shape[1]] = clip
        return features, lengths

    def model_input(self):
        """The tensors of ModelInput."""
        features, lengths = self.audio()
        return {
            "input_ids": self.ids(),
            "attention_mask": self.mask().to(torch.uint8),
            "labels": self.labels(),
            "pixel_values": self.pixels("image", "video"),
            "grid_thw": self.grids("image", "video"),
            "seconds_per_grid": self.seconds("image", "video"),
            "audio_features": features,
            "audio_lengths": lengths,
        }

    def prompt_mask(self):
        """That of the prompts alone, within the whole batch."""
        return self.rows([[1] * s.prompt for s in self.samples], 0, left=False).to(torch.uint8)

    def arguments(self, left=False):
        """The same for transformers."""
        arguments = {"input_ids": self.ids(left), "attention_mask": self.mask(left)}
        if self.of_kind("image"):
            arguments |= {"pixel_values": self.pixels("image"),
                          "image_grid_thw": self.grids("image")}
        if self.of_kind("video"):
            arguments |= {"pixel_values_videos": self.pixels("video"),
                          "video_grid_thw": self.grids("video"),
                          "video_second_per_grid": self.seconds("video")}
        if self.of_kind("audio"):
            features, lengths = self.audio()
            frames = torch.arange(features.shape[2])
            arguments |= {"input_features": features,
                          "feature_attention_mask": (frames < lengths[:, None]).long()}
        return arguments
