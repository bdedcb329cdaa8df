# SPDX-License-Identifier: Apache-2.0
"""Part b: every golden model through `ccoe score` and `ccoe generate --offline` on the device.

f32: all logits within 2e-3 of the reference, the greedy continuations equal.
bf16: each row of logits within 3e-2 of the row's largest magnitude. A greedy continuation may differ from the reference's only
where the reference's two best tokens are closer than that, and is compared up to there. In a model of FFN experts a row that
chose other experts than the reference did (two of them were nearly equal), and the rows behind it, which attend to it, have no
reference; they are counted and shown, not judged.
"""

import concurrent.futures
import os
import sys

import ccoe_command
import golden_files

F32_TOLERANCE = 2e-3
BF16_TOLERANCE = 3e-2
KV = ["--kv-tokens", "8192"]


def score(model, name, requests, device, math):
    """The safetensors of `ccoe score` over the requests."""
    path = os.path.join(ccoe_command.WORK, name.replace("/", "_") + f".{device}.{math}".replace(":", "_"))
    ccoe_command.write_requests(path + ".jsonl", requests)
    ccoe_command.run(["score", "--model", model.folder, "--requests", path + ".jsonl", "--output", path + ".safetensors", *KV,
                      *(["--routing"] if model.has_experts else []), *ccoe_command.device_flags(math, device)])
    return golden_files.read_safetensors(path + ".safetensors")


def greedy(model, name, math):
    path = os.path.join(ccoe_command.WORK, name.replace("/", "_") + f".greedy.{math}.jsonl")
    ccoe_command.write_requests(path, [(p["id"], p["ids"]) for p in model.prompts])
    return ccoe_command.read_answers(ccoe_command.run(["generate", "--offline", "--model", model.folder, "--requests", path, *KV,
                                                       *ccoe_command.GREEDY, *ccoe_command.device_flags(math)]))


def difference(got, wanted):
    """Largest absolute difference of two rows. NaN counts as infinite."""
    largest = 0.0
    for a, b in zip(got, wanted):
        d = abs(a - b)
        if not d <= largest:
            largest = d if d == d else float("inf")
    return largest


def relative(got, wanted):
    return difference(got, wanted) / max(abs(v) for v in wanted)


def check_f32(name):
    """(problems, what to say)."""
    model = golden_files.GoldenModel(os.path.join(ccoe_command.GOLDEN, name))
    scores = score(model, name, [(p["id"], p["ids"]) for p in model.prompts], ccoe_command.DEVICE, "f32")
    problems, worst = [], 0.0
    for prompt in model.prompts:
        for got, wanted in zip(golden_files.rows(scores[prompt["id"] + ".logits"]), model.logits(prompt)):
            worst = max(worst, difference(got, wanted))
    if worst > F32_TOLERANCE:
        problems.append(f"logits differ by {worst:.2g}, expected at most {F32_TOLERANCE:g}")
    answers = greedy(model, name, "f32")
    unlike = [p["id"] for p in model.prompts if answers.get(p["id"]) != p["greedy_ids"]]
    if unlike:
        problems.append(f"greedy continuations differ: {', '.join(unlike)}")
    return problems, f"largest difference {worst:.2g}, {len(model.prompts) - len(unlike)} of {len(model.prompts)} continuations equal"


def first_flip(got, wanted, prompt):
    """The first row whose FFN experts differ in any layer; None: no row."""
    prefix = prompt["id"] + ".router_experts."
    first = None
    for key in (k for k in wanted if k.startswith(prefix)):
        for i, (a, b) in enumerate(zip(golden_files.rows(got[key]), golden_files.rows(wanted[key]))):
            if a != b and (first is None or i < first):
                first = i
    return first


class Bf16Comparison:
    """Counts and findings over the prompts of one model."""

    def __init__(self, model):
        self.model = model
        self.worst = self.worst_behind = 0.0
        self.judged = self.behind = self.equal = 0
        self.problems = []

    def add(self, prompt, got, wanted, answer):
        got_rows = golden_files.rows(got[prompt["id"] + ".logits"])
        wanted_rows = golden_files.rows(wanted[prompt["id"] + ".logits"])
        wanted_rows[:len(prompt["ids"])] = self.model.logits(prompt)
        flip = first_flip(got, wanted, prompt) if self.model.has_experts else None
        sound = len(wanted_rows) if flip is None else flip
        for i, (a, b) in enumerate(zip(got_rows, wanted_rows)):
            if i < sound:
                self.worst = max(self.worst, relative(a, b))
                self.judged += 1
            else:
                self.worst_behind = max(self.worst_behind, relative(a, b))
                self.behind += 1
        self._add_greedy(prompt, wanted_rows, sound, answer)

    def _add_greedy(self, prompt, wanted_rows, sound, answer):
        """Rows from the prompt's last one on chose the continuation's tokens."""
        golden = prompt["greedy_ids"]
        if answer == golden:
            self.equal += 1
            return
        step = next((i for i, (a, b) in enumerate(zip(answer, golden)) if a != b), min(len(answer), len(golden)))
        row = len(prompt["ids"]) - 1 + step
        if row >= len(wanted_rows):
            self.problems.append(f"{prompt['id']}: {len(answer)} greedy tokens, expected {len(golden)}")
            return
        best, second = sorted(wanted_rows[row], reverse=True)[:2]
        allowed = BF16_TOLERANCE * max(abs(v) for v in wanted_rows[row])
        if row < sound and best - second >= allowed:
            self.problems.append(f"{prompt['id']}: greedy token {step} differs though the reference's best two are {best - second:.3g} "
                                 f"apart, which bf16 may move by {allowed:.3g}")


def check_bf16(name):
    model = golden_files.GoldenModel(os.path.join(ccoe_command.GOLDEN, name))
    requests = [(p["id"], p["ids"] + p["greedy_ids"][:-1]) for p in model.prompts]
    wanted = score(model, name, requests, "cpu", "f32")
    got = score(model, name, requests, ccoe_command.DEVICE, "bf16")
    answers = greedy(model, name, "bf16")
    comparison = Bf16Comparison(model)
    for prompt in model.prompts:
        comparison.add(prompt, got, wanted, answers.get(prompt["id"], []))
    if comparison.worst > BF16_TOLERANCE:
        comparison.problems.append(f"logits differ by {comparison.worst:.2g} of a row's largest, expected at most {BF16_TOLERANCE:g}")
    if comparison.judged == 0:
        comparison.problems.append("every row is behind a token that chose other experts: nothing could be judged")
    text = f"largest difference {comparison.worst:.2g} of the row's largest over {comparison.judged} rows, {comparison.equal} of {len(model.prompts)} continuations equal"
    if comparison.behind:
        text += f"; {comparison.behind} rows behind other experts not judged (up to {comparison.worst_behind:.2g})"
    return comparison.problems, text


def check(job):
    name, math = job
    try:
        problems, text = (check_f32 if math == "f32" else check_bf16)(name)
    except Exception as error:  # pylint: disable=broad-except
        problems, text = [str(error)], "did not run"
    return name, math, problems, text


def main():
    names = os.environ.get("MODELS", "").split() or golden_files.all_models(ccoe_command.GOLDEN)
    maths = ["f32"] if ccoe_command.ON_CPU else ["f32", "bf16"]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(1 if ccoe_command.ON_CPU else 4) as pool:
        for name, math, problems, text in pool.map(check, [(n, m) for m in maths for n in names]):
            print(f"{'FAILED' if problems else 'passed'}  {math:4} {name}: {text}", flush=True)
            for problem in problems:
                print(f"        {problem}", flush=True)
            failed += bool(problems)
    total = len(names) * len(maths)
    summary = f"{total - failed} of {total} (model, type) pairs agree with the reference"
    ccoe_command.finish(1 if failed else 0, summary + (" (f32 alone: the CPU has no bf16 arithmetic)" if ccoe_command.ON_CPU else ""))


if __name__ == "__main__":
    sys.exit(main())
