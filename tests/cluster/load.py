# SPDX-License-Identifier: Apache-2.0
"""Clients that ask a cluster without end while a test disturbs it, and what became of each question."""

import concurrent.futures
import threading
import time

import grpc

# Longest wait for what must come; far beyond what it takes.
PATIENCE_SECONDS = 60


class Question:
    """One question's times, by time.monotonic: when it was sent, when its first token came (or None), when it ended; and its error."""

    def __init__(self, client):
        self.client = client
        self.began = time.monotonic()
        self.first = None
        self.ended = None
        self.error = None

    def under_way(self, when):
        """Whether it had a token then, and had not ended."""
        return self.first is not None and self.first < when and (self.ended is None or self.ended > when)


class Load:
    """`requests` (of Inference.Generate) asked again and again by `clients` threads until the load is stopped. An answer other than the
    one in `expected` is an assertion that await_answers, await_error and stop raise."""

    def __init__(self, client, requests, expected, clients):
        self.client, self.requests, self.expected = client, requests, expected
        self.stopping = False
        self.lock = threading.Lock()
        self.questions = []
        self.clients = range(clients)
        self.pool = concurrent.futures.ThreadPoolExecutor(clients)
        self.futures = [self.pool.submit(self._run, number) for number in self.clients]

    def _run(self, client):
        number = client
        while not self.stopping:
            index = number % len(self.requests)
            number += 1
            question = Question(client)
            with self.lock:
                self.questions.append(question)
            try:
                got = tokens_of(self.client, self.requests[index], question)
            except grpc.RpcError as error:
                question.error = error
                question.ended = time.monotonic()
                time.sleep(0.02)  # not as fast as a loop can: the processes under test need the cores
                continue
            assert got == self.expected[index], f"request {index}: {got} instead of {self.expected[index]}"
            question.ended = time.monotonic()

    def _await(self, what, condition):
        until = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            for future in self.futures:
                if future.done():
                    future.result()  # raises
            assert time.monotonic() < until, f"not in {PATIENCE_SECONDS} s: {what}"
            time.sleep(0.01)

    def snapshot(self):
        with self.lock:
            return list(self.questions)

    def answers(self, since=0.0):
        return [q for q in self.snapshot() if q.ended is not None and q.error is None and q.began >= since]

    def errors(self):
        return [q for q in self.snapshot() if q.error is not None]

    def await_answer(self):
        self._await("an answer", self.answers)

    def await_answers(self, since):
        """Until every client has got an answer to a question that it asked after `since`."""
        self._await("an answer for every client", lambda: {q.client for q in self.answers(since)} == set(self.clients))

    def await_under_way(self):
        """Until a question is under way; the time of that."""
        self._await("a question under way", lambda: any(q.under_way(time.monotonic()) for q in self.snapshot()))
        return time.monotonic()

    def await_error(self):
        self._await("an error", self.errors)

    def stop(self):
        self.stopping = True
        for future in self.futures:
            future.result(timeout=2 * PATIENCE_SECONDS)
        self.pool.shutdown()


def tokens_of(client, request, question=None):
    """(id, log probability) of every token of the answer."""
    tokens = []
    for event in client.stream("ccoe.v1.Inference", "Generate", request):
        tokens += [(token.id, token.logprob) for token in event.delta.tokens]
        if tokens and question is not None and question.first is None:
            question.first = time.monotonic()
    return tokens


def greedy(prompt, tokens, **more):
    """A request for the likeliest `tokens` tokens after a golden prompt."""
    sampling = {"temperature": 0, "max_tokens": tokens, "ignore_eos": True, "logprobs": 5}
    return {"token_ids": {"ids": prompt["ids"]}, "sampling": sampling, **more}
