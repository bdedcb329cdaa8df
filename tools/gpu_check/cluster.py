# SPDX-License-Identifier: Apache-2.0
"""Part d: whole clusters, one backbone and three expert workers as processes on the device, give the CPU's greedy answers: layer
experts on a shared backbone, and a Mixtral-shaped model whose FFN experts are spread over the workers."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import ccoe_command
import golden_files

EXPERTS = ("code", "law", "math", "medical", "sql")
READY_SECONDS = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def is_ready(http):
    try:
        with urllib.request.urlopen(f"http://{http}/healthz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Cluster:
    """`ccoe up --processes`, ready for queries; a context manager."""

    def __init__(self, name, flags):
        self.address = f"127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        self.log_path = os.path.join(ccoe_command.WORK, f"cluster.{name}.log")
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [ccoe_command.CCOE, "up", "--processes", "--listen", self.address, "--http", self.http, "--kv-tokens", "8192",
                 "--expert-kv-tokens", "8192", *flags, *ccoe_command.device_flags("f32")],
                stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self):
        until = time.monotonic() + READY_SECONDS
        while not is_ready(self.http):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                with open(self.log_path, encoding="utf-8", errors="replace") as log:
                    text = log.read()
                ccoe_command.end_without_cuda(text)
                raise RuntimeError(f"the cluster was not ready within {READY_SECONDS} s:\n{text[-4000:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def exchanges():
    """How rows may travel between processes here: one by one, each gives clusters of its own."""
    if ccoe_command.ON_CPU or os.environ.get("EXCHANGES") == "grpc" or "nccl" not in ccoe_command.run(["up", "--help"]):
        return {"gRPC": []}
    return {"gRPC": ["--exchange", "grpc"], "NCCL": ["--exchange", "nccl"]}


def unlike(cluster, model_name, flags):
    """Prompts of a golden model that the cluster continues in another way than the reference."""
    model = golden_files.GoldenModel(os.path.join(ccoe_command.GOLDEN, model_name))
    path = os.path.join(ccoe_command.WORK, "cluster.requests.jsonl")
    ccoe_command.write_requests(path, [(p["id"], p["ids"]) for p in model.prompts])
    answers = ccoe_command.read_answers(ccoe_command.run(
        ["generate", "--server", cluster.address, "--requests", path, *ccoe_command.GREEDY, *flags]))
    wrong = [p["id"] for p in model.prompts if answers.get(p["id"]) != p["greedy_ids"]]
    print(f"{'FAILED' if wrong else 'passed'}  {model_name}: {len(model.prompts) - len(wrong)} of {len(model.prompts)} answers equal"
          + (f"; not {', '.join(wrong)}" if wrong else ""), flush=True)
    return wrong


def extract_bundles():
    """A folder with the five experts of the golden CCoE model."""
    backbone = os.path.join(ccoe_command.GOLDEN, "ccoe", "backbone")
    bundles = os.path.join(ccoe_command.WORK, "bundles")
    for name in EXPERTS:
        ccoe_command.run(["experts", "extract", "--base", backbone, "--tuned", os.path.join(ccoe_command.GOLDEN, "ccoe", name),
                          "--layers", "4:8", "--name", name, "--output", os.path.join(bundles, name)])
    return bundles


def layer_experts(bundles, exchange):
    backbone = os.path.join(ccoe_command.GOLDEN, "ccoe", "backbone")
    with Cluster("layer_experts", ["--model", backbone, "--experts", bundles, "--expert-workers", "3", *exchange]) as cluster:
        wrong = unlike(cluster, "ccoe/backbone", ["--expert", "base"])
        for name in EXPERTS:
            wrong += unlike(cluster, f"ccoe/{name}", ["--expert", name])
    return len(wrong)


def ffn_experts(_, exchange):
    name = "mixtral-8x2"
    with Cluster("ffn_experts", ["--model", os.path.join(ccoe_command.GOLDEN, name), "--expert-workers", "3", *exchange]) as cluster:
        return len(unlike(cluster, name, []))


def main():
    bundles = extract_bundles()
    found = []
    failed = 0
    for exchange, flags in exchanges().items():
        wrong = 0
        for what in (layer_experts, ffn_experts):
            print(f"== {what.__name__} over {exchange}", flush=True)
            try:
                wrong += what(bundles, flags)
            except RuntimeError as error:
                print(f"FAILED  {error}", flush=True)
                wrong += 1
        said = f"{wrong} answers differ or could not be had" if wrong else "all answers equal the CPU's greedy ones"
        found.append(f"over {exchange} {said}")
        failed += wrong
    ccoe_command.finish(1 if failed else 0, "one backbone and three expert processes, layer experts and FFN experts: " + "; ".join(found))


if __name__ == "__main__":
    sys.exit(main())
