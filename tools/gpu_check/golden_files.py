# SPDX-License-Identifier: Apache-2.0
"""Reads the golden models: golden.json, and safetensors files without any library."""

import array
import json
import os
import struct

_TYPES = {"F32": "f", "I32": "i", "I64": "q"}


def read_safetensors(path):
    """{name: (shape, values)} of a file's f32, i32 and i64 tensors."""
    with open(path, "rb") as file:
        data = file.read()
    (header_bytes,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8:8 + header_bytes]).items():
        if name == "__metadata__" or entry["dtype"] not in _TYPES:
            continue
        first, last = (8 + header_bytes + offset for offset in entry["data_offsets"])
        values = array.array(_TYPES[entry["dtype"]])
        values.frombytes(data[first:last])
        tensors[name] = (entry["shape"], values)
    return tensors


def rows(tensor):
    """A matrix's rows."""
    (count, width), values = tensor
    return [values[i * width:(i + 1) * width] for i in range(count)]


class GoldenModel:
    """A checkpoint's folder and what the reference implementation gave for it."""

    def __init__(self, folder):
        self.folder = folder
        with open(os.path.join(folder, "golden.json"), encoding="utf-8") as file:
            golden = json.load(file)
        self.prompts = golden["prompts"]
        self.has_experts = bool(golden.get("moe"))
        self.arrays = read_safetensors(os.path.join(folder, "golden.safetensors"))

    def logits(self, prompt):
        return rows(self.arrays["logits." + prompt["id"]])


def all_models(golden):
    """Names of all golden models below a folder: mixtral-8x2, ccoe/math, ..."""
    names = []
    for folder, _, files in os.walk(golden):
        if "golden.json" in files:
            names.append(os.path.relpath(folder, golden))
    return sorted(names)
