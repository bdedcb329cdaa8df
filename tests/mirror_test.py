# SPDX-License-Identifier: Apache-2.0
"""Lists the sources that have no test of their own: DIR/stem.cc wants tests/DIR/stem_test.cc.

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


def has_test(source):
    return any((ROOT / "tests" / source.parent / f"{source.stem}_test{suffix}").exists() for suffix in (".cc", ".py", ".sh"))


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
    holes = [s for s in all_sources if not has_test(pathlib.Path(s)) and s not in reasons]
    stale = [s for s in reasons if s not in all_sources or has_test(pathlib.Path(s))]
    for source in holes:
        path = pathlib.Path(source)
        print(f"{source}: no tests/{path.parent}/{path.stem}_test.cc")
    for source in stale:
        print(f"tests/mirror_allowed.txt: {source}: has a test now, or is gone; take it off the list")
    print(f"{len(all_sources)} sources, {len(all_sources) - len(holes) - len(reasons) + len(stale)} with a test of their own, {len(reasons)} allowed without")
    return 1 if holes or stale else 0


if __name__ == "__main__":
    sys.exit(main())
