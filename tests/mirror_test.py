# SPDX-License-Identifier: Apache-2.0
"""Lists the sources that have no test of their own: DIR/stem.cc wants tests/DIR/stem_test.cc, which includes or names DIR/stem.h where there
is one.

Run from anywhere: python3 tests/mirror_test.py. tests/mirror_allowed.txt names the exceptions, each with its reason; it
may only shrink: an entry whose test exists, or whose source is gone, fails too.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("kernels", "runtime", "services")
SUFFIXES = (".cc", ".cu")


def sources():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                yield path.relative_to(ROOT)


def test_of(source):
    """The test of a source, or None."""
    found = (ROOT / "tests" / source.parent / f"{source.stem}_test{suffix}" for suffix in (".cc", ".py", ".sh"))
    return next((path for path in found if path.exists()), None)


def is_about(test, source):
    """Whether the test includes its source's header, or names it; of a source without one nothing is asked."""
    header = source.with_suffix(".h")
    return test.suffix != ".cc" or not (ROOT / header).exists() or str(header) in test.read_text()


def allowed():
    reasons = {}
    for number, line in enumerate((ROOT / "tests" / "mirror_allowed.txt").read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        source, _, reason = line.partition(":")
        if not reason.strip():
            sys.exit(f"tests/mirror_allowed.txt:{number}: expected SOURCE: REASON, found {line!r}")
        reasons[source.strip()] = reason.strip()
    return reasons


def main():
    reasons = allowed()
    all_sources = [str(s) for s in sources()]
    tests = {s: test_of(pathlib.Path(s)) for s in all_sources}
    holes = [s for s in all_sources if tests[s] is None and s not in reasons]
    stale = [s for s in reasons if tests.get(s) is not None or s not in all_sources]
    others = [s for s in all_sources if tests[s] is not None and not is_about(tests[s], pathlib.Path(s))]
    for source in holes:
        path = pathlib.Path(source)
        print(f"{source}: no tests/{path.parent}/{path.stem}_test.cc")
    for source in stale:
        print(f"tests/mirror_allowed.txt: {source}: has a test now, or is gone; take it off the list")
    for source in others:
        print(f"{tests[source].relative_to(ROOT)}: neither includes nor names {pathlib.Path(source).with_suffix('.h')}")
    print(f"{len(all_sources)} sources, {len(all_sources) - len(holes) - len(reasons) + len(stale)} with a test of their own, {len(reasons)} allowed without")
    return 1 if holes or stale or others else 0


if __name__ == "__main__":
    sys.exit(main())
