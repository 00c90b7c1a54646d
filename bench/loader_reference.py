"""The reference side of bench/loader.cpp: PyTorch's DataLoader over PyAV or torchcodec.

    loader_reference.py LIBRARY FOLDER PASSES

FOLDER holds clips as 000.mp4 and 000.mp3. Two worker processes read all clips PASSES times to warm up, and
as often again, measured: ten frames, evenly from the first to the last, resized to 224 x 224 (bicubic with
antialiasing, in float32) and cut into patches as Qwen2.5-Omni's processor does it, and ten seconds of
sound at 16 kHz as a log-mel spectrogram. Prints {"samples_per_second", "processor_ms": of all
processes, for a sample}, and leaves what it made of the first clip in FOLDER/LIBRARY.frames and .mel.

PyAV seeks well: one pass over the packets tells where frames and key frames are; then it decodes in
one go, seeks only where that leaves frames out, and converts the wanted frames alone.
"""

import bisect
import json
import multiprocessing
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "parity"))

import packages
import thinker_parity

FRAMES, SIZE, PATCH, MERGE, TEMPORAL = 10, 224, 14, 2, 2
RATE, SECONDS, BINS, WINDOW, HOP = 16000, 10, 128, 400, 160
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def prepare_and_run_again():
    build, libtorch = ROOT / "build", pathlib.Path(os.environ["CRABCAST_LIBTORCH"])
    thinker_parity.install(build)
    # torchcodec 0.11 is that of PyTorch 2.11; it decodes with the FFmpeg libraries of the system.
    packages.install(build / "python", ["av==18.1.0", "torchcodec==0.11.1"],
                     wanted=["av", "torchcodec"])
    libraries = packages.stand_ins(libtorch, build / "parity" / "stand_ins")
    stand_in_for_devices(build / "python" / "torchcodec", libraries[0])
    environment = packages.environment(build / "python", libtorch, libraries=libraries)
    os.execve(sys.executable, [sys.executable, *sys.argv, "--prepared"], environment)


def stand_in_for_devices(torchcodec, folder):
    """An empty library of FFmpeg's capture devices, which torchcodec names but never calls here."""
    for core in torchcodec.glob("libtorchcodec_core*.so"):
        found = subprocess.run(["ldd", str(core)], capture_output=True, text=True, check=True)
        for name in re.findall(r"(libavdevice\S+) => not found", found.stdout):
            subprocess.run(["c++", "-shared", "-x", "c++", "/dev/null", f"-Wl,-soname,{name}", "-o",
                            str(folder / name)], check=True)


def indices(frames):
    return [round(i * (frames - 1) / (FRAMES - 1)) for i in range(FRAMES)]


class PyAv:
    def __init__(self):
        import av
        self.av = av

    def frames(self, path):
        """uint8 [10, H, W, 3]"""
        with self.av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            packets = [p for p in container.demux(stream) if p.pts is not None]
            times = sorted(p.pts for p in packets)
            keys = sorted(p.pts for p in packets if p.is_keyframe)
            position, taken = None, []
            for wanted in (times[i] for i in indices(len(times))):
                key = keys[bisect.bisect_right(keys, wanted) - 1]
                if position is None or key > position:
                    container.seek(key, stream=stream)
                    decoded = container.decode(stream)
                while position != wanted:
                    frame = next(decoded)
                    position = frame.pts
                taken.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
            return torch.stack(taken)

    def sound(self, path):
        """float32 [n], mono at 16 kHz"""
        with self.av.open(path) as container:
            resampler = self.av.AudioResampler(format="flt", layout="mono", rate=RATE)
            decoded = list(container.decode(container.streams.audio[0]))
            parts = [part for frame in [*decoded, None] for part in resampler.resample(frame)]
            return torch.cat([torch.from_numpy(part.to_ndarray()).flatten() for part in parts])


class TorchCodec:
    def __init__(self):
        from torchcodec.decoders import AudioDecoder, VideoDecoder
        self.video, self.audio = VideoDecoder, AudioDecoder

    def frames(self, path):
        decoder = self.video(path, dimension_order="NHWC", num_ffmpeg_threads=1)
        return decoder.get_frames_at(indices=indices(len(decoder))).data

    def sound(self, path):
        decoder = self.audio(path, sample_rate=RATE, num_channels=1)
        return decoder.get_all_samples().data[0]


def resized(frames):
    """uint8 [10, 3, 224, 224]"""
    planes = frames.permute(0, 3, 1, 2).float()
    planes = torch.nn.functional.interpolate(planes, size=(SIZE, SIZE), mode="bicubic",
                                             antialias=True)
    return planes.clamp(0, 255).round().byte()


def patches(frames):
    """float32 [5 * 16 * 16, 3 * 2 * 14 * 14]"""
    side = SIZE // PATCH
    values = (frames.float() / 255 - MEANS) / DEVIATIONS
    values = values.view(FRAMES // TEMPORAL, TEMPORAL, 3, side // MERGE, MERGE, PATCH, side // MERGE,
                         MERGE, PATCH)
    return values.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(
        FRAMES // TEMPORAL * side * side, 3 * TEMPORAL * PATCH * PATCH)


def mel_filters():
    """[128, 201]: Slaney's scale and norm, as Whisper's feature extractor has them."""
    def to_mel(hertz):
        return torch.where(hertz < 1000, hertz * 3 / 200,
                           15 + torch.log(hertz.clamp(min=1) / 1000) * 27 / torch.log(torch.tensor(6.4)))

    def to_hertz(mel):
        return torch.where(mel < 15, mel * 200 / 3,
                           1000 * torch.exp((mel - 15) * torch.log(torch.tensor(6.4)) / 27))

    top = to_mel(torch.tensor(RATE / 2, dtype=torch.float64))
    edges = to_hertz(torch.linspace(0, 1, BINS + 2, dtype=torch.float64) * top)
    hertz = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangle = torch.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre))
    return (triangle.clamp(min=0) * 2 / (high - low)).float()


def log_mel(samples):
    """[128, 1000]"""
    padded = torch.nn.functional.pad(samples[None, None], (WINDOW // 2, 0), mode="reflect")[0, 0]
    padded = torch.nn.functional.pad(padded, (0, WINDOW // 2))
    spectrum = torch.stft(padded, WINDOW, HOP, window=HANN, center=False, return_complex=True)
    mel = (FILTERS @ spectrum[:, :-1].abs().square()).clamp(min=1e-10).log10()
    return (torch.maximum(mel, mel.max() - 8) + 4) / 4


class Clips:
    def __init__(self, folder, library, passes):
        self.clips = sorted(folder.glob("*.mp4")) * passes
        self.library = library

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, i):
        frames = resized(self.library.frames(str(self.clips[i])))
        sound = self.library.sound(str(self.clips[i].with_suffix(".mp3")))[:SECONDS * RATE]
        return {"frames": frames if i == 0 else 0, "pixels": patches(frames), "mel": log_mel(sound)}


def processor_seconds():
    """Of this process and its workers."""
    ticks = 0
    for pid in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
        ticks += sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main(library, folder, passes):
    torch.set_num_threads(1)
    libraries = {"pyav": PyAv, "torchcodec": TorchCodec}
    clips = Clips(folder, libraries[library](), passes)
    loader = torch.utils.data.DataLoader(clips, batch_size=None, num_workers=2, prefetch_factor=2,
                                         persistent_workers=True)
    first = None
    for sample in loader:  # the workers start, and files come into memory
        first = first or sample
    first["frames"].numpy().tofile(folder / f"{library}.frames")
    first["mel"].numpy().tofile(folder / f"{library}.mel")
    used, start = processor_seconds(), time.perf_counter()
    count = sum(1 for _ in loader)
    seconds, used = time.perf_counter() - start, processor_seconds() - used
    print(json.dumps({"samples_per_second": count / seconds, "processor_ms": used / count * 1e3}))


if __name__ == "__main__":
    if "--prepared" not in sys.argv:
        prepare_and_run_again()
    torch = packages.load_torch()
    MEANS, DEVIATIONS = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    HANN, FILTERS = torch.hann_window(WINDOW), mel_filters()
    main(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]))
