# SPDX-License-Identifier: Apache-2.0
"""A byte-level BPE: training, encoding and the Hugging Face files.

`tokenizer.json` is written in the style of Qwen2 (one token a digit).  Its
pattern speaks of Unicode letters and numbers; Python's `re` knows no \\p{L},
so this module uses the same pattern over ASCII, and the corpus is ASCII only:
on ASCII text the two are equal.
"""

import collections
import functools
import json
import re

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
           r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
ASCII_PATTERN = re.compile(
    PATTERN.replace(r"[^\r\n\p{L}\p{N}]", r"[^\r\nA-Za-z0-9]")
    .replace(r"[^\s\p{L}\p{N}]", r"[^\sA-Za-z0-9]")
    .replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]"), re.ASCII)
SPECIALS = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|pad|>")
TEMPLATE = ("{% for message in messages %}{{ '<|' + message['role'] + '|>' + "
            "message['content'] + '<|end|>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def byte_letters():
    """The printable letter that stands for each byte (GPT-2's table)."""
    printable = (list(range(33, 127)) + list(range(161, 173))
                 + list(range(174, 256)))
    letters, extra = {}, 0
    for byte in range(256):
        if byte in printable:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + extra)
            extra += 1
    return letters


LETTERS = byte_letters()
BYTES = {letter: byte for byte, letter in LETTERS.items()}


def pieces(text):
    """The pre-tokens of ASCII text, in byte letters."""
    return ["".join(LETTERS[b] for b in part.encode("ascii"))
            for part in ASCII_PATTERN.findall(text)]


def _join(word, pair):
    """The word with every occurrence of a pair joined."""
    out, i = [], 0
    while i < len(word):
        if tuple(word[i:i + 2]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


def train(texts, vocab_size):
    """The merges of a BPE over `texts`; ties go to the smaller pair."""
    counts = collections.Counter(p for text in texts for p in pieces(text))
    words = [(list(piece), count) for piece, count in sorted(counts.items())]
    merges = []
    while len(merges) < vocab_size - 256 - len(SPECIALS):
        pairs = collections.Counter()
        for word, count in words:
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = [(_join(word, best), count) for word, count in words]
    return merges


class Tokenizer:
    """Encodes and decodes; built from merges or from `tokenizer.json`."""

    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        names = [LETTERS[b] for b in sorted(LETTERS, key=LETTERS.get)]
        names += [a + b for a, b in self.merges]
        self.vocab = {name: i for i, name in enumerate(names)}
        self.specials = {name: len(names) + i for i, name in enumerate(SPECIALS)}
        self.names = names
        self.size = len(names) + len(SPECIALS)
        self.end, self.pad = self.specials["<|end|>"], self.specials["<|pad|>"]
        self._piece = functools.lru_cache(maxsize=65536)(self._encode_piece)

    @classmethod
    def load(cls, folder):
        with open(f"{folder}/tokenizer.json", encoding="utf-8") as file:
            return cls(json.load(file)["model"]["merges"])

    def _encode_piece(self, piece):
        word = list(piece)
        while len(word) > 1:
            best = min(zip(word, word[1:]),
                       key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            word = _join(word, best)
        return [self.vocab[part] for part in word]

    def encode(self, text):
        """The tokens of plain ASCII text (no special tokens)."""
        return [i for piece in pieces(text) for i in self._piece(piece)]

    def decode(self, tokens):
        """The text of tokens; special tokens are left out."""
        letters = "".join(self.names[i] for i in tokens if i < len(self.names))
        return bytes(BYTES[c] for c in letters).decode("utf-8", "replace")

    def prompt(self, question):
        """One user message, rendered as the chat template does."""
        return ([self.specials["<|user|>"]] + self.encode(question)
                + [self.end, self.specials["<|assistant|>"]])


def _added(tokenizer):
    fields = dict(single_word=False, lstrip=False, rstrip=False,
                  normalized=False, special=True)
    return [dict(id=i, content=name, **fields)
            for name, i in tokenizer.specials.items()]


def tokenizer_json(tokenizer):
    """The content of `tokenizer.json`."""
    byte_level = dict(type="ByteLevel", add_prefix_space=False,
                      trim_offsets=True, use_regex=False)
    split = dict(type="Split", pattern=dict(Regex=PATTERN),
                 behavior="Isolated", invert=False)
    model = dict(type="BPE", dropout=None, unk_token=None,
                 continuing_subword_prefix=None, end_of_word_suffix=None,
                 fuse_unk=False, byte_fallback=False, ignore_merges=False,
                 vocab=tokenizer.vocab,
                 merges=[list(pair) for pair in tokenizer.merges])
    return dict(version="1.0", truncation=None, padding=None,
                added_tokens=_added(tokenizer), normalizer=None,
                pre_tokenizer=dict(type="Sequence",
                                   pretokenizers=[split, byte_level]),
                post_processor=None, decoder=byte_level, model=model)


def _write(path, content):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")


def save(tokenizer, folder, max_length):
    """Writes the four tokenizer files of a Hugging Face folder."""
    names = dict(eos_token="<|end|>", pad_token="<|pad|>")
    added = {str(entry.pop("id")): entry for entry in _added(tokenizer)}
    _write(f"{folder}/tokenizer.json", tokenizer_json(tokenizer))
    _write(f"{folder}/special_tokens_map.json", names)
    _write(f"{folder}/tokenizer_config.json", dict(
        added_tokens_decoder=added, bos_token=None, **names,
        add_bos_token=False, add_eos_token=False,
        clean_up_tokenization_spaces=False, model_max_length=max_length,
        tokenizer_class="PreTrainedTokenizerFast", chat_template=TEMPLATE))
    _write(f"{folder}/generation_config.json", dict(
        eos_token_id=tokenizer.end, pad_token_id=tokenizer.pad,
        do_sample=False))
