# SPDX-License-Identifier: Apache-2.0
"""Starts `ccoe up` for a test and stops it, and speaks gRPC to it without generated code, as grpcurl does."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

CCOE = "services/cli/ccoe"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def http_get(address, path):
    """(status, body) of an HTTP GET; (0, reason) where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


class Cluster:
    """`ccoe up` with the given flags, ready for queries; a context manager."""

    def __init__(self, flags, environment=None):
        self.grpc = f"127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log", dir=os.environ.get("TEST_TMPDIR"))
        command = [CCOE, "up", "--listen", self.grpc, "--http", self.http] + flags
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})})

    def __enter__(self):
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def wait_ready(self, seconds=120):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"ccoe up ended with {self.process.returncode}:\n{self.output()}")
            # /healthz alone is the gateway's word: `ccoe up` itself may still count a death as a failed start.
            if "ccoe is ready" in self.output() and self.get("/healthz")[0] == 200:
                return
            time.sleep(0.1)
        raise RuntimeError(f"not ready after {seconds} s: {self.get('/healthz')}\n{self.output()}")

    def get(self, path):
        return http_get(self.http, path)

    def output(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self):
        """SIGTERM, and the exit code; killed when it does not drain within a minute."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                print("killed: did not drain\n" + self.output(), file=sys.stderr)
        return self.process.returncode


def run(words, stdin=None):
    """Runs `ccoe WORDS`: (exit code, stdout, stderr)."""
    done = subprocess.run([CCOE] + words, input=stdin, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def _field(message, name, number, kind, type_name="", repeated=False, oneof=None):
    field = message.field.add(name=name, number=number, type=kind, type_name=type_name or None,
                              label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED if repeated
                              else descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
    if oneof is not None:
        field.oneof_index = oneof


def _standard_protos():
    """grpc.health.v1 and grpc.reflection.v1alpha, as far as a client needs them (public wire formats)."""
    t = descriptor_pb2.FieldDescriptorProto
    health = descriptor_pb2.FileDescriptorProto(name="health.proto", package="grpc.health.v1", syntax="proto3")
    _field(health.message_type.add(name="HealthCheckRequest"), "service", 1, t.TYPE_STRING)
    _field(health.message_type.add(name="HealthCheckResponse"), "status", 1, t.TYPE_INT32)
    reflection = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package="grpc.reflection.v1alpha", syntax="proto3")
    request = reflection.message_type.add(name="ServerReflectionRequest")
    request.oneof_decl.add(name="message_request")
    _field(request, "host", 1, t.TYPE_STRING)
    _field(request, "file_containing_symbol", 4, t.TYPE_STRING, oneof=0)
    _field(request, "list_services", 7, t.TYPE_STRING, oneof=0)
    _field(reflection.message_type.add(name="FileDescriptorResponse"), "file_descriptor_proto", 1, t.TYPE_BYTES, repeated=True)
    _field(reflection.message_type.add(name="ServiceResponse"), "name", 1, t.TYPE_STRING)
    _field(reflection.message_type.add(name="ListServiceResponse"), "service", 1, t.TYPE_MESSAGE,
           ".grpc.reflection.v1alpha.ServiceResponse", repeated=True)
    response = reflection.message_type.add(name="ServerReflectionResponse")
    _field(response, "file_descriptor_response", 4, t.TYPE_MESSAGE, ".grpc.reflection.v1alpha.FileDescriptorResponse")
    _field(response, "list_services_response", 6, t.TYPE_MESSAGE, ".grpc.reflection.v1alpha.ListServiceResponse")
    return [health, reflection]


class ReflectionClient:
    """A gRPC client that learns the server's types from the server."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.pool = descriptor_pool.DescriptorPool()
        self.files = set()
        for file in _standard_protos():
            self.pool.Add(file)
        self.factory = message_factory.MessageFactory(self.pool)

    def message(self, name):
        return self.factory.GetPrototype(self.pool.FindMessageTypeByName(name))

    def check_health(self, service=""):
        """1 is SERVING, 2 is NOT_SERVING."""
        request = self.message("grpc.health.v1.HealthCheckRequest")(service=service)
        call = self.channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=lambda m: m.SerializeToString(),
                                        response_deserializer=self.message("grpc.health.v1.HealthCheckResponse").FromString)
        return call(request, timeout=10).status

    def _reflect(self, **request):
        call = self.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                          request_serializer=lambda m: m.SerializeToString(),
                                          response_deserializer=self.message("grpc.reflection.v1alpha.ServerReflectionResponse").FromString)
        message = self.message("grpc.reflection.v1alpha.ServerReflectionRequest")(**request)
        return next(iter(call(iter([message]), timeout=10)))

    def list_services(self):
        return [s.name for s in self._reflect(list_services="*").list_services_response.service]

    def learn(self, symbol):
        """Adds the file that defines `symbol`, and all it imports, to the pool."""
        answer = self._reflect(file_containing_symbol=symbol)
        files = [descriptor_pb2.FileDescriptorProto.FromString(f) for f in answer.file_descriptor_response.file_descriptor_proto]
        by_name = {f.name: f for f in files}

        def add(name):
            if name in self.files or name not in by_name:
                return
            for dependency in by_name[name].dependency:
                add(dependency)
            self.files.add(name)
            self.pool.Add(by_name[name])

        for file in files:
            add(file.name)

    def call(self, service, method, request, timeout=60):
        """The responses of a unary or server-streaming call; `request` is a dict of plain fields or a message."""
        return list(self.stream(service, method, request, timeout))

    def stream(self, service, method, request, timeout=60):
        """The same, one by one as they come."""
        if service not in self.__dict__.setdefault("learned", set()):
            self.learn(service)
            self.learned.add(service)
        descriptor = self.pool.FindServiceByName(service).FindMethodByName(method)
        if isinstance(request, dict):
            request = self.message(descriptor.input_type.full_name)(**request)
        call = self.channel.unary_stream(f"/{service}/{method}", request_serializer=lambda m: m.SerializeToString(),
                                         response_deserializer=self.message(descriptor.output_type.full_name).FromString)
        return call(request, timeout=timeout)
