"""The reference side of bench/tokenizer.cpp: the package `tokenizers` on one thread.

    tokenizer_reference.py make FOLDER      writes tokenizer.json, unless it is there
    tokenizer_reference.py measure FOLDER   seconds for the texts of texts.json, as JSON
"""

import json
import os
import pathlib
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "parity"))

try:
    import make_tokenizer
    from tokenizers import Tokenizer
except ImportError as missing:
    sys.exit(f"the reference needs Python packages ({missing}); from the repository's root:\n"
             "  python3 -m pip install --no-deps --target build/python tokenizers dashscope")


def seconds_of(body):
    start = time.process_time()
    body()
    return time.process_time() - start


def make(folder):
    target = folder / "tokenizer.json"
    if not target.exists():
        partial = target.with_suffix(".partial")
        make_tokenizer.qwen2_5_omni().save(str(partial))
        partial.rename(target)


def measure(folder):
    loaded, ids, seconds = [], [], {}
    load = lambda: loaded.append(Tokenizer.from_file(str(folder / "tokenizer.json")))
    seconds["load"] = seconds_of(load)
    tokenizer = loaded[0]
    tokenizer.encode_special_tokens = True  # "<|im_end|>" in a text stays text, as in ours

    def encode(documents):
        for document in documents:
            ids.append(tokenizer.encode(document, add_special_tokens=False))

    for name, documents in json.loads((folder / "texts.json").read_text(encoding="utf-8")).items():
        seconds[name] = seconds_of(lambda: encode(documents))
    rows = [encoding.ids for encoding in ids]

    def decode():
        for row in rows:
            tokenizer.decode(row, skip_special_tokens=True)

    seconds["decode"] = seconds_of(decode)
    print(json.dumps({"seconds": seconds, "tokens": sum(map(len, rows))}))


if __name__ == "__main__":
    {"make": make, "measure": measure}[sys.argv[1]](pathlib.Path(sys.argv[2]))
