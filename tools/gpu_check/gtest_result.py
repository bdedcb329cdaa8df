# SPDX-License-Identifier: Apache-2.0
"""What a GoogleTest's JSON report says: passed alone when tests ran and none was skipped.

Usage: gtest_result.py REPORT.json [PROPERTY=MOST]: what a test recorded as PROPERTY may be at most MOST, and must be there."""

import json
import sys

import ccoe_command


def main():
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            report = json.load(file)
    except (OSError, ValueError) as error:
        ccoe_command.finish(1, f"no report: {error}")
    tests = [test for suite in report["testsuites"] for test in suite["testsuite"]]
    failed = [t["name"] for t in tests if t.get("failures")]
    name, _, most = (sys.argv[2:] or [""])[0].partition("=")
    recorded = [int(t[name]) for t in tests if name in t]
    skipped = [t["name"] for t in tests if t.get("result") == "SKIPPED"]
    ran = len(tests) - len(skipped)
    if failed:
        ccoe_command.finish(1, f"{len(failed)} of {ran} tests failed: {', '.join(failed[:5])}")
    if skipped or not tests:
        ccoe_command.finish(ccoe_command.NOT_RUN, f"{ran} tests passed, {len(skipped)} skipped themselves (the log says why): {', '.join(skipped[:5])}")
    if not name:
        ccoe_command.finish(0, f"{ran} tests passed")
    within = bool(recorded) and max(recorded) <= int(most)
    ccoe_command.finish(0 if within else 1, f"{ran} tests passed, {name} {recorded}, expected at most {most}")


if __name__ == "__main__":
    sys.exit(main())
