# SPDX-License-Identifier: Apache-2.0
"""A cluster of role processes, each of which a test may kill, stop and start again."""

import os
import signal
import subprocess
import tempfile
import time

import grpc

from tests.cluster import ccoe_process


class Role:
    """One `ccoe ROLE` process and how to start it again."""

    def __init__(self, name, words, environment):
        self.name = name
        self.words = words
        self.environment = environment
        self.log = tempfile.NamedTemporaryFile("w+", suffix=f".{name}.log", dir=os.environ.get("TEST_TMPDIR"))
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen([ccoe_process.CCOE] + self.words, stdout=self.log, stderr=subprocess.STDOUT,
                                        env={**os.environ, **self.environment})

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def output(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return log.read()


class Cluster:
    """Router, gateway, backbone workers and expert workers; a context manager.

    FFN experts are dealt out to `expert_workers` by a placement with `replicas`; or `bundles` names the folders of layer experts that each
    expert worker holds. `environment` gives a role's name its environment variables beside ours."""

    def __init__(self, model, expert_workers=0, replicas=1, backbone_workers=1, more_backbone=(), bundles=(), environment=lambda name: {}):
        self.environment = environment
        router, self.grpc, self.http = (f"127.0.0.1:{ccoe_process.free_port()}" for _ in range(3))
        router_words = ["router", "--listen", router, "--model", model]
        if not bundles:
            self.placement = tempfile.NamedTemporaryFile("w", suffix=".textproto", dir=os.environ.get("TEST_TMPDIR"))
            code, _, error = ccoe_process.run(["placement", "plan", "--model", model, "--workers", str(expert_workers),
                                               "--replicas", str(replicas), "--output", self.placement.name])
            assert code == 0, error
            router_words += ["--placement", self.placement.name]
        self.roles = {}
        any_port = ["--http", "127.0.0.1:0"]
        common = ["--model", model, "--router", router, *any_port]
        self._add("router", [*router_words, *any_port])
        for i in range(backbone_workers):
            name = f"backbone-{i}"
            self._add(name, ["backbone", "--id", name, "--threads", "1", *common, *more_backbone])
        held = list(bundles) or [()] * expert_workers
        self.experts = [f"expert-{i}" for i in range(len(held))]
        for name, folders in zip(self.experts, held):
            self._add(name, ["expert", "--id", name, "--threads", "1", *common, *(f"--bundle={folder}" for folder in folders)])
        self._add("gateway", ["gateway", "--model", model, "--router", router, "--listen", self.grpc, "--http", self.http])

    def _add(self, name, words):
        self.roles[name] = Role(name, words, self.environment(name))

    def __enter__(self):
        try:
            self.connect()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def connect(self):
        """Waits until the gateway is ready; `client` talks to it then."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if ccoe_process.http_get(self.http, "/healthz")[0] == 200:
                client = ccoe_process.ReflectionClient(self.grpc)
                for service in ("ccoe.v1.Inference", "ccoe.v1.Control"):
                    client.learn(service)
                client.learned = {"ccoe.v1.Inference", "ccoe.v1.Control"}
                self.client = client
                return
            time.sleep(0.1)
        raise RuntimeError("not ready:\n" + "\n".join(f"== {r.name}\n{r.output()}" for r in self.roles.values()))

    def await_status(self, what, condition, seconds=60):
        """Waits until `condition` holds of the router's status, which may be out of reach for a while."""
        until = time.monotonic() + seconds
        status = None
        while time.monotonic() < until:
            try:
                status = self.client.call("ccoe.v1.Control", "GetStatus", {}, timeout=5)[0]
                if condition(status):
                    return
            except grpc.RpcError as error:
                status = error
            time.sleep(0.05)
        raise RuntimeError(f"not in {seconds} s: {what}\n{status}")

    def await_experts(self):
        """Waits until every expert worker is ready, to the router's knowledge."""
        self._await_ready(self.experts)

    def await_workers(self):
        """The same of all workers."""
        self._await_ready([name for name in self.roles if name not in ("router", "gateway")])

    def _await_ready(self, names):
        self.await_status(f"{names} are ready", lambda status: {w.worker_id for w in status.workers if w.ready}.issuperset(names))

    def stop(self):
        for role in reversed(list(self.roles.values())):
            if role.process.poll() is None:
                role.signal(signal.SIGCONT)
                role.process.terminate()
        for role in self.roles.values():
            try:
                role.process.wait(30)
            except subprocess.TimeoutExpired:
                role.kill()
