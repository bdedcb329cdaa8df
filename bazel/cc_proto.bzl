# SPDX-License-Identifier: Apache-2.0
"""cc_proto: one .proto below //proto in, one cc_library out, made with the system's protoc and grpc_cpp_plugin.

The import root is proto/, so files import "ccoe/v1/x.proto", C++ includes "ccoe/v1/x.pb.h", and gRPC
reflection shows clients the same names.
"""

ProtoFilesInfo = provider(fields = ["transitive"])

def _gen_impl(ctx):
    src = ctx.file.src
    stem = ctx.attr.src.label.name[:-len(".proto")]
    suffixes = [".pb.h", ".pb.cc"]
    if ctx.attr.grpc:
        suffixes += [".grpc.pb.h", ".grpc.pb.cc", "_mock.grpc.pb.h"]
    outs = [ctx.actions.declare_file(stem + s) for s in suffixes]
    inputs = depset([src], transitive = [d[ProtoFilesInfo].transitive for d in ctx.attr.deps])
    out_dir = ctx.bin_dir.path + "/" + ctx.label.package
    args = ["-I" + ctx.label.package, "-I/usr/include", "--cpp_out=" + out_dir]
    if ctx.attr.grpc:
        args += ["--plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin", "--grpc_out=generate_mock_code=true:" + out_dir]
    ctx.actions.run(
        executable = "/usr/bin/protoc",
        arguments = args + [src.path],
        inputs = inputs,
        outputs = outs,
        mnemonic = "Protoc",
        progress_message = "Generating C++ from %s" % src.short_path,
    )
    return [
        DefaultInfo(files = depset(outs)),
        OutputGroupInfo(
            hdrs = depset([f for f in outs if f.path.endswith(".h")]),
            srcs = depset([f for f in outs if f.path.endswith(".cc")]),
        ),
        ProtoFilesInfo(transitive = inputs),
    ]

_gen = rule(
    implementation = _gen_impl,
    attrs = {
        "src": attr.label(allow_single_file = [".proto"], mandatory = True),
        "deps": attr.label_list(providers = [ProtoFilesInfo]),
        "grpc": attr.bool(),
    },
)

def cc_proto(name, src, deps = [], grpc = False, **kwargs):
    """Generates messages (and, with grpc, services and gmock stubs) for one file.

    Args:
      name: the cc_library's name.
      src: the .proto file.
      deps: other cc_proto targets whose files src imports.
      grpc: whether src holds services.
      **kwargs: passed to cc_library.
    """
    _gen(name = name + "_gen", src = src, deps = [d + "_gen" for d in deps], grpc = grpc, visibility = ["//visibility:public"])
    native.filegroup(name = name + "_hdrs", srcs = [name + "_gen"], output_group = "hdrs")
    native.filegroup(name = name + "_srcs", srcs = [name + "_gen"], output_group = "srcs")
    native.cc_library(
        name = name,
        srcs = [name + "_srcs"],
        hdrs = [name + "_hdrs"],
        copts = ["-w"],
        includes = ["."],
        deps = deps + (["//bazel/system:grpc++"] if grpc else ["//bazel/system:protobuf"]),
        **kwargs
    )
