"""House rules for C++ targets: warnings are errors in our code (generated code is built elsewhere)."""

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-parameter",
    # gcc 12 reports these for code inside std::string and abseil that is right.
    "-Wno-maybe-uninitialized",
    "-Wno-restrict",
]

def ccoe_cc_library(name, copts = [], **kwargs):
    native.cc_library(name = name, copts = WARNINGS + copts, **kwargs)

def ccoe_cc_binary(name, copts = [], **kwargs):
    native.cc_binary(name = name, copts = WARNINGS + copts, **kwargs)

def ccoe_cc_test(name, copts = [], deps = [], size = "small", srcs = None, **kwargs):
    """A GoogleTest; srcs defaults to NAME.cc, the main function comes from gtest_main."""
    native.cc_test(
        name = name,
        srcs = srcs or [name + ".cc"],
        size = size,
        # The code under test is optimised; the test's own is not, which saves a third of its compile time.
        copts = WARNINGS + ["-O0", "-U_FORTIFY_SOURCE"] + copts,
        deps = deps + ["//bazel/system:gtest_main"],
        **kwargs
    )
