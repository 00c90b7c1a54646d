"""Writes what the package `tokenizers` makes of many strings and ids, for tests/model to compare.

    python3 tests/parity/tokenizer_golden.py small tests/model/bpe    the files of the repository
    python3 tests/parity/tokenizer_golden.py full FOLDER              Qwen2.5-Omni's vocabulary

Either writes FOLDER/tokenizer.json and FOLDER/golden.json. Needs what make_tokenizer.py needs.
"""

import json
import pathlib
import random
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import make_tokenizer
import tokenizer_strings

SEED = 20240229


def small_tokenizer():
    """Some thousand merges, learnt from the sentences."""
    learner = make_tokenizer.tokenizer_of({}, [], [], [])
    learner.train_from_iterator(
        tokenizer_strings.SENTENCES * 2,
        trainers.BpeTrainer(vocab_size=2300, min_frequency=2, show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return make_tokenizer.tokenizer_of(model["vocab"], merges, make_tokenizer.SPECIAL_TOKENS,
                                       make_tokenizer.PLAIN_ADDED_TOKENS)


def without_added_tokens(tokenizer):
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(file))


def encoded(tokenizer, plain, text):
    """Ids without and with added tokens in the text, the text that comes back, and the bytes of each
    word after NFC. What is as one expects is left out: no added tokens, and the same text."""
    ids = plain.encode(text, add_special_tokens=False).ids
    all_ids = tokenizer.encode(text, add_special_tokens=False).ids
    back = tokenizer.decode(all_ids, skip_special_tokens=True)
    normal = plain.normalizer.normalize_str(text)
    words = plain.pre_tokenizer.pre_tokenize_str(normal)
    return {
        "text": text,
        "words": [len(normal[begin:end].encode()) for _, (begin, end) in words],
        "ids": ids,
        **({"with_added_tokens": all_ids} if all_ids != ids else {}),
        **({"decoded": back} if back != text else {}),
    }


def random_ids(tokenizer, rng, count):
    size = tokenizer.get_vocab_size()
    for _ in range(count):
        ids = [rng.randrange(size) if rng.random() < 0.5 else rng.randrange(300)
               for _ in range(rng.randint(1, 8))]
        if rng.random() < 0.3:
            ids.append(size - 1 - rng.randrange(22))
        yield {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)}


def write(folder, tokenizer, strings, decodings):
    plain = without_added_tokens(tokenizer)
    golden = {
        "encode": [encoded(tokenizer, plain, text) for text in strings],
        "decode": list(random_ids(tokenizer, random.Random(SEED), decodings)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    lines = ",\n".join(f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]"
                       for name, rows in golden.items())
    (folder / "golden.json").write_text("{" + lines + "}\n", encoding="utf-8")
    print(", ".join(f"{len(rows)} to {name}" for name, rows in golden.items()), "in", folder)


def write_small(folder):
    write(folder, small_tokenizer(), tokenizer_strings.make(SEED, 450, 70), 150)


def write_full(folder):
    strings = tokenizer_strings.make(SEED + 1, 40000, 3000)
    strings += tokenizer_strings.every_code_point()
    write(folder, make_tokenizer.qwen2_5_omni(), strings, 10000)


if __name__ == "__main__":
    {"small": write_small, "full": write_full}[sys.argv[1]](pathlib.Path(sys.argv[2]))
