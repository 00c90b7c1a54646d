"""Writes tokenizer.json of Qwen2.5-Omni from the vocabulary that the package `dashscope` ships.

The published file gives each token the one merge that made it, normalizes to NFC and adds 22 tokens
behind the 151,643 of the vocabulary; so does this one.

    pip install tokenizers && pip install --no-deps dashscope
    python3 tests/parity/make_tokenizer.py build/qwen2_5_omni/tokenizer.json
"""

import base64
import importlib.util
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import processors
from tokenizers.models import BPE

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# In the order of their ids. Decoding leaves the special ones out.
SPECIAL_TOKENS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_bos|>", "<|vision_eos|>",
    "<|vision_pad|>", "<|IMAGE|>", "<|VIDEO|>",
]
PLAIN_ADDED_TOKENS = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
]


def byte_letters():
    """The letter that stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return letters


def merge_of(token, ranks):
    """The two parts that joined last to make the token, by the merges before its own."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(a + b, ranks[token]) for a, b in zip(parts, parts[1:])]
        at = min(range(len(joined)), key=joined.__getitem__)
        assert joined[at] < ranks[token], f"no merges lead to {token!r}"
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return tuple(parts)


def tokenizer_of(vocabulary, merges, special_tokens, plain_tokens):
    """A tokenizer as Qwen2 publishes it; added tokens get the ids that follow the vocabulary."""
    tokenizer = Tokenizer(BPE(vocabulary, merges, continuing_subword_prefix="",
                              end_of_word_suffix=""))
    byte_level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(**byte_level),
    ])
    tokenizer.post_processor = processors.ByteLevel(**byte_level)
    tokenizer.decoder = decoders.ByteLevel(**byte_level)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in special_tokens])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in plain_tokens])
    return tokenizer


def qwen2_5_omni():
    package = importlib.util.find_spec("dashscope")  # not imported: it wants more packages
    ranks_file = pathlib.Path(package.origin).parent / "resources" / "qwen.tiktoken"
    ranks = {}
    for line in ranks_file.read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    letters = byte_letters()
    spell = lambda token: "".join(letters[byte] for byte in token)
    merges = [merge_of(token, ranks) for token in sorted(ranks, key=ranks.get) if len(token) > 1]
    tokenizer = tokenizer_of({spell(token): rank for token, rank in ranks.items()},
                             [(spell(a), spell(b)) for a, b in merges],
                             SPECIAL_TOKENS, PLAIN_ADDED_TOKENS)
    assert tokenizer.token_to_id("<|endoftext|>") == 151643
    assert tokenizer.token_to_id("<|file_sep|>") == 151664
    return tokenizer


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    qwen2_5_omni().save(str(target))
