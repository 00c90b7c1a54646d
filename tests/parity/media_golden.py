"""What transformers makes of random sound, pictures and videos: log-mel frames and patches."""

import math

import packages

torch = packages.load_torch()

import torchvision.transforms.v2.functional as vision
from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor, WhisperFeatureExtractor

RATE, MEL_BINS = 16000, 128
PATCH = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}


def sounds(rng, generator, small):
    """Clips of odd lengths, down to one sample: noise, a tone in noise, a click, silence.

    Far from the frequency of a pure tone there would be nothing but the rounding of the Fourier
    transform in float32, by which the reference itself is off by 2e-4.
    """
    lengths = [1, 399, rng.randint(400, 1500)] if small else [
        1, 2, 159, 160, 161, 200, 201, 399, *[rng.randint(400, 60000) for _ in range(4)]]
    for length in lengths:
        time = torch.arange(length) / RATE
        click = torch.zeros(length)
        click[rng.randrange(length)] = 1
        yield torch.randn(length, generator=generator) * math.exp(rng.uniform(-6, 0))
        if not small:
            tone = torch.sin(2 * math.pi * rng.uniform(50, 7900) * time)
            yield tone + torch.randn(length, generator=generator) * 0.2
            yield click
    yield torch.zeros(lengths[-1])


def log_mel(samples):
    """The frames of the clip itself, of features that are padded far beyond it."""
    extractor = WhisperFeatureExtractor(feature_size=MEL_BINS, chunk_length=10)
    features = extractor([samples.numpy()], sampling_rate=RATE, return_tensors="pt",
                         return_attention_mask=True, padding="max_length")
    return features.input_features[0][:, features.attention_mask[0].bool()]


def patches(frames):
    """Rows of patches and their grid: of a picture, or of the frames of a video."""
    if len(frames) == 1:
        made = Qwen2VLImageProcessor(do_resize=False, **PATCH)([frames[0]], return_tensors="pt")
        return made.pixel_values, made.image_grid_thw
    processor = Qwen2VLVideoProcessor(do_resize=False, do_sample_frames=False, **PATCH)
    made = processor([frames], return_tensors="pt")
    return made.pixel_values_videos, made.video_grid_thw


def resized(rgb, size):
    """As Crab+ resizes frames: in float32, then rounded."""
    planes = rgb.permute(2, 0, 1).float()
    mode = vision.InterpolationMode.BICUBIC
    return vision.resize(planes, [size, size], mode, antialias=True).clamp(0, 255).round().byte()


def golden(rng, small):
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    tensors = {}
    for i, samples in enumerate(sounds(rng, generator, small)):
        tensors |= {f"sound{i}/samples": samples, f"sound{i}/log_mel": log_mel(samples)}
    cell, largest = PATCH["patch_size"] * PATCH["merge_size"], 1 if small else 5
    for i, count in enumerate([1, 3] if small else [1, 2, 3, rng.randint(4, 7)]):
        height, width = (cell * rng.randint(1, largest) for _ in range(2))
        frames = torch.randint(256, (count, 3, height, width), generator=generator).byte()
        pixels, grid = patches(frames)
        tensors |= {f"video{i}/frames": frames, f"video{i}/pixels": pixels, f"video{i}/grid": grid}
    for i in range(1 if small else 4):
        height, width = (rng.randint(1, 40 if small else 300) for _ in range(2))
        rgb = torch.randint(256, (height, width, 3), generator=generator).byte()
        size = rng.choice([28, 56] if small else [28, 112, 224])
        tensors |= {f"picture{i}/rgb": rgb, f"picture{i}/square": resized(rgb, size)}
    return tensors
