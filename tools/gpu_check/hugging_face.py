# SPDX-License-Identifier: Apache-2.0
"""Part f: random Llama-shaped checkpoints of 1 B and 7 B parameters through Hugging Face transformers and ccoe on the same GPU: the
same logits, and decode speed against transformers' best of eager and compiled with a static cache. Needs torch and transformers."""

import json
import os
import random
import sys
import time

import ccoe_command
import golden_files

LLAMA_1B = ["--hidden", "2048", "--layers", "16", "--heads", "32", "--kv-heads", "8", "--intermediate", "8192", "--vocabulary", "32000"]
TOKENS = 96
PROMPT_TOKENS = 16
SPEED = 3.0            # of transformers' best, with several sequences
REACHABLE = 0.5        # of what the read bandwidth allows
F32_TOLERANCE = 1e-3   # of a row's largest magnitude
BF16_TOLERANCE = 3e-2


def libraries():
    """(torch, transformers), or why not."""
    try:
        import torch  # pylint: disable=import-outside-toplevel
        import transformers  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        ccoe_command.finish(ccoe_command.NOT_RUN, f"no PyTorch with transformers here: {error}")
    if not torch.cuda.is_available():
        ccoe_command.finish(ccoe_command.NOT_RUN, "PyTorch here sees no GPU")
    return torch, transformers


def load(torch, transformers, folder, dtype):
    """Without TF32, on the GPU."""
    torch.backends.cuda.matmul.allow_tf32 = False
    return transformers.AutoModelForCausalLM.from_pretrained(folder).to("cuda", dtype).eval()


def worst_row(got, wanted):
    """Largest difference of a row over the row's largest magnitude."""
    return max(max(abs(a - b) for a, b in zip(g, w)) / max(abs(v) for v in w) for g, w in zip(got, wanted))


def compare_logits(torch, transformers, name, folder):
    """Lines of findings and the number of failures: ccoe's f32 and bf16 logits against transformers' f32."""
    generator = random.Random(1)
    ids = [generator.randrange(32000) for _ in range(48)]
    model = load(torch, transformers, folder, torch.float32)
    with torch.no_grad():
        wanted = model(torch.tensor([ids], device="cuda")).logits[0].float().cpu().tolist()
    del model
    torch.cuda.empty_cache()
    requests = os.path.join(ccoe_command.WORK, f"{name}.jsonl")
    ccoe_command.write_requests(requests, [("0", ids)])
    failures = 0
    for math, tolerance in (("f32", F32_TOLERANCE), ("bf16", BF16_TOLERANCE)):
        output = os.path.join(ccoe_command.WORK, f"{name}.{math}.safetensors")
        ccoe_command.run(["score", "--model", folder, "--requests", requests, "--output", output, "--kv-tokens", "8192",
                          *ccoe_command.device_flags(math)])
        worst = worst_row(golden_files.rows(golden_files.read_safetensors(output)["0.logits"]), wanted)
        passed = worst <= tolerance
        failures += not passed
        print(f"{'passed' if passed else 'FAILED'}  {name} {math}: logits within {worst:.2g} of transformers' f32, allowed {tolerance:g}", flush=True)
    return failures


def decode_rate(torch, model, batch, static):
    """Tokens a second that transformers' generate decodes: a long answer's time less a short one's."""
    prompt = torch.randint(0, 32000, (batch, PROMPT_TOKENS), device="cuda")
    more = {"cache_implementation": "static"} if static else {}

    def seconds(tokens):
        torch.cuda.synchronize()
        begin = time.monotonic()
        with torch.no_grad():
            model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens,
                           pad_token_id=0, **more)
        torch.cuda.synchronize()
        return time.monotonic() - begin

    seconds(TOKENS)  # compiles, fills caches
    return batch * (TOKENS - 8) / (seconds(TOKENS) - seconds(8))


def best_rates(torch, transformers, folder):
    """{batch: tokens a second}, the better of eager and compiled; what could not be compiled is said."""
    model = load(torch, transformers, folder, torch.bfloat16)
    rates = {}
    for batch in (1, 16):
        rates[batch] = decode_rate(torch, model, batch, static=False)
        print(f"        transformers, batch {batch}, eager: {rates[batch]:.1f} tokens/s", flush=True)
    for batch in (1, 16):
        try:
            compiled = decode_rate(torch, model, batch, static=True)
        except Exception as error:  # pylint: disable=broad-except
            print(f"        transformers, batch {batch}, static cache: failed ({error})", flush=True)
            continue
        print(f"        transformers, batch {batch}, compiled with a static cache: {compiled:.1f} tokens/s", flush=True)
        rates[batch] = max(rates[batch], compiled)
    return rates


def least_rate(ours, batch, rate):
    """Tokens a second that are asked of a batch: SPEED times transformers' rate, where the device's bandwidth allows that at all."""
    bound = batch * ours["decode_1_tokens_per_second"] / ours["decode_1_of_bandwidth"]
    return min(SPEED * rate, REACHABLE * bound)


def judge_speed(ours, rates):
    """(failures, what is missing). Batch 1 is shown and not judged here: it is bound by the weights' bytes, and part e holds it against bandwidth."""
    failures, missing = 0, []
    for batch, rate in rates.items():
        key = f"decode_{batch}_tokens_per_second"
        if key not in ours:
            missing.append(key)
            continue
        if batch == 1:
            print(f"        7 B, batch 1: {ours[key] / rate:.2f} times transformers' best", flush=True)
            continue
        least = least_rate(ours, batch, rate)
        passed = ours[key] >= least
        failures += not passed
        print(f"{'passed' if passed else 'FAILED'}  7 B, batch {batch}: {ours[key] / rate:.2f} times transformers' best, expected {least / rate:.2f}", flush=True)
    return failures, missing


def compare_speed(torch, transformers, folder):
    """The same for the 7 B shape, whose rates part e measured."""
    with open(os.path.join(ccoe_command.WORK, "bench.json"), encoding="utf-8") as file:
        ours = json.load(file)
    return judge_speed(ours, best_rates(torch, transformers, folder))


def main():
    torch, transformers = libraries()
    large = os.path.join(ccoe_command.WORK, "bench-7b", "model")
    if not os.path.exists(os.path.join(ccoe_command.WORK, "bench.json")):
        ccoe_command.finish(ccoe_command.NOT_RUN, "needs the model and the rates of part e")
    small = os.path.join(ccoe_command.WORK, "bench-1b")
    ccoe_command.run(["bench", *LLAMA_1B, "--dir", small, "--keep", "--rounds", "1", "--new-tokens", "2", "--json",
                      *ccoe_command.device_flags("bf16")])
    failures = compare_logits(torch, transformers, "1 B", os.path.join(small, "model"))
    failures += compare_logits(torch, transformers, "7 B", large)
    slower, missing = compare_speed(torch, transformers, large)
    if failures + slower:
        ccoe_command.finish(1, f"{failures} comparisons of logits and {slower} of speed failed")
    if missing:
        ccoe_command.finish(ccoe_command.NOT_RUN, f"logits agree; not measured by ccoe bench: {', '.join(missing)}")
    ccoe_command.finish(0, f"logits agree, decode of 16 sequences is as fast as {SPEED:g} times transformers' best or the bandwidth allow")


if __name__ == "__main__":
    sys.exit(main())
