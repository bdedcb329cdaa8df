# SPDX-License-Identifier: Apache-2.0
"""House rules for C++ targets: warnings are errors in our code (generated code is built elsewhere)."""

load("//bazel:cuda_library.bzl", "NEEDS_CUDA", "nvcc_objects")

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-parameter",
    # gcc 12 reports these for code inside std::string and abseil that is right.
    "-Wno-maybe-uninitialized",
    "-Wno-restrict",
]

# A binary finds its libraries in ../lib before anywhere else, so that //deploy:bundle can copy it (bazel-bin has no such folder).
# DT_RPATH, since the libraries' own needs have to be found there as well.
RELOCATABLE = ["-Wl,--disable-new-dtags", "-Wl,-rpath,$$ORIGIN/../lib"]

# See //bazel/tsan.
SANITIZER = select({
    "//bazel:tsan": ["//bazel/tsan:annotations"],
    "//conditions:default": [],
})
SANITIZER_DATA = select({
    "//bazel:tsan": ["//bazel/tsan:suppressions.txt"],
    "//conditions:default": [],
})

def ccoe_cc_library(name, copts = [], **kwargs):
    native.cc_library(name = name, copts = WARNINGS + copts, **kwargs)

def ccoe_cc_binary(name, copts = [], deps = [], **kwargs):
    native.cc_binary(name = name, copts = WARNINGS + copts, deps = deps + SANITIZER, **kwargs)

def ccoe_cc_test(name, copts = [], deps = [], size = "small", srcs = None, data = [], **kwargs):
    """A GoogleTest; srcs defaults to NAME.cc, the main function comes from gtest_main."""
    native.cc_test(
        name = name,
        srcs = srcs or [name + ".cc"],
        size = size,
        # The code under test is optimised; the test's own is not, which saves a third of its compile time.
        copts = WARNINGS + ["-O0", "-U_FORTIFY_SOURCE"] + copts,
        deps = SANITIZER + deps + ["//bazel/system:gtest_main"],
        data = data + SANITIZER_DATA,
        **kwargs
    )

def ccoe_property_test(name, deps = [], **kwargs):
    """A ccoe_cc_test of RapidCheck properties; the same cases each time. A failure prints what reproduces it alone."""
    ccoe_cc_test(
        name = name,
        deps = deps + ["//bazel/system:rapidcheck"],
        env = {"RC_PARAMS": "seed=20261201 max_success=500"},
        **kwargs
    )

def ccoe_fuzz_target(name, deps = [], **kwargs):
    """A libFuzzer program of NAME.cc, which defines LLVMFuzzerTestOneInput; built with --config=fuzz alone, run by tools/fuzz.sh.

    corpus/NAME holds inputs to begin with, corpus/NAME.dict (where it is) words of the format.
    """
    native.cc_binary(
        name = name,
        testonly = True,
        srcs = [name + ".cc"],
        copts = WARNINGS,
        linkopts = ["-fsanitize=fuzzer,address,undefined"],
        deps = deps,
        # Not a part of //...: nothing else is built by clang.
        tags = ["manual"],
        **kwargs
    )

def ccoe_cuda_library(name, srcs, hdrs = [], deps = [], copts = [], archs = ["80", "90"], local_memory = [], visibility = None, **kwargs):
    """A library of .cu files (nvcc; device code for archs and PTX) and .cc files (the C++ compiler) of one folder.

    It exists with --config=cuda alone: whoever depends on it says so in a select() on //bazel:cuda. Headers that others include
    have no CUDA includes. .cuh files go into hdrs; copts are nvcc's. A kernel that uses local memory does not compile, except in
    the files named in local_memory.
    """
    cuda_sources = [s for s in srcs if s.endswith(".cu")]
    all_deps = deps + ["@local_cuda//:cudart"]
    objects = []
    if cuda_sources:
        objects = [name + "_objects"]
        nvcc_objects(
            name = name + "_objects",
            srcs = cuda_sources,
            hdrs = hdrs + [s for s in srcs if s.endswith(".h") or s.endswith(".cuh")],
            deps = all_deps,
            archs = archs,
            copts = copts,
            local_memory = local_memory,
            target_compatible_with = NEEDS_CUDA,
            visibility = ["//visibility:private"],
        )
    native.cc_library(
        name = name,
        srcs = objects + [s for s in srcs if not s.endswith(".cu") and not s.endswith(".cuh")],
        hdrs = [h for h in hdrs if not h.endswith(".cuh")],
        # The runtime is an archive, and a program has one: a shared library of ours could not take it along.
        linkstatic = True,
        deps = all_deps,
        copts = WARNINGS,
        target_compatible_with = NEEDS_CUDA,
        visibility = visibility,
        **kwargs
    )

def ccoe_cuda_test(name, **kwargs):
    """A ccoe_cc_test of CUDA code: built with --config=cuda, skips itself (GTEST_SKIP) where no GPU is.

    One file with all our libraries in it: //deploy:bundle takes such tests along.
    """
    ccoe_cc_test(
        name = name,
        linkstatic = True,
        linkopts = RELOCATABLE,
        tags = ["gpu"],
        target_compatible_with = NEEDS_CUDA,
        **kwargs
    )
