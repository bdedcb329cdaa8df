# SPDX-License-Identifier: Apache-2.0
"""Hugging Face folders: safetensors in bfloat16, and config.json."""

import json
import os
import struct

import numpy
import torch

from . import tokenizer as tokens
from .model import Llama, ModelConfig


def write_safetensors(path, tensors):
    """Writes a name -> tensor mapping as bfloat16."""
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        value = tensors[name].detach().to(torch.bfloat16).contiguous()
        blob = value.view(torch.int16).numpy().tobytes()
        header[name] = dict(dtype="BF16", shape=list(value.shape),
                            data_offsets=[offset, offset + len(blob)])
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(blobs)


def read_safetensors(path):
    """Reads a file of `write_safetensors` back, as float32."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(size)), file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        raw = numpy.frombuffer(data[first:last], dtype=numpy.int16).copy()
        value = torch.from_numpy(raw).view(torch.bfloat16)
        tensors[name] = value.view(entry["shape"]).float()
    return tensors


def config_json(config, tokenizer):
    """The content of `config.json` for a LlamaForCausalLM."""
    return dict(
        architectures=["LlamaForCausalLM"], model_type="llama",
        attention_bias=False, attention_dropout=0.0, bos_token_id=None,
        eos_token_id=tokenizer.end, pad_token_id=tokenizer.pad,
        hidden_act="silu", initializer_range=0.02, mlp_bias=False,
        pretraining_tp=1, rope_scaling=None, tie_word_embeddings=True,
        torch_dtype="bfloat16", use_cache=True, **vars(config))


def save(model, tokenizer, folder):
    """Writes a complete model folder."""
    os.makedirs(folder, exist_ok=True)
    write_safetensors(f"{folder}/model.safetensors", model.state_dict())
    tokens.save(tokenizer, folder, model.config.max_position_embeddings)
    with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
        json.dump(config_json(model.config, tokenizer), file, indent=1)
        file.write("\n")


def load(folder):
    """The model (its weights as stored, in float32) and its tokenizer."""
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        stored = json.load(file)
    model = Llama(ModelConfig(**{name: stored[name] for name
                                 in ModelConfig.__dataclass_fields__}))
    model.load_state_dict(read_safetensors(f"{folder}/model.safetensors"))
    return model, tokens.Tokenizer.load(folder)
