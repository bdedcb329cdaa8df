# SPDX-License-Identifier: Apache-2.0
"""What gpu_check counts as a pass, a failure and not run: its comparisons on rows made by hand, and the script over stand-ins for ccoe."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

TOOLS = os.path.abspath("tools")
os.environ.update(CCOE="/nonexistent", GOLDEN=os.path.abspath("tests/golden/models"), WORK="/nonexistent")
sys.path.insert(0, os.path.join(TOOLS, "gpu_check"))

import bench  # pylint: disable=wrong-import-position
import fixtures
import golden_files
import hugging_face


class FakeModel:
    """One prompt of one token, continued by two tokens."""

    has_experts = True
    prompts = [{"id": "p", "ids": [0], "greedy_ids": [1, 2]}]

    def __init__(self, logits):
        self._logits = logits

    def logits(self, _):
        return [list(row) for row in self._logits]


def tensors(rows, experts):
    return {"p.logits": ([len(rows), len(rows[0])], [v for row in rows for v in row]),
            "p.router_experts.0": ([len(experts), 1], experts)}


def compare(got, wanted, experts, answer):
    comparison = fixtures.Bf16Comparison(FakeModel(wanted[:1]))
    comparison.add(FakeModel.prompts[0], tensors(got, experts), tensors(wanted, [0, 0]), answer)
    return comparison


class ComparisonTest(unittest.TestCase):
    WANTED = [[0.0, 10.0, 2.0], [0.0, 9.9, 10.0]]

    def test_rows_are_compared_with_their_largest_magnitude(self):
        comparison = compare([[0.0, 10.0, 2.5], [0.0, 9.9, 10.0]], self.WANTED, [0, 0], [1, 2])
        self.assertAlmostEqual(comparison.worst, 0.05)
        self.assertEqual((comparison.judged, comparison.behind, comparison.equal), (2, 0, 1))

    def test_a_row_behind_other_experts_is_counted_and_not_judged(self):
        comparison = compare([[0.0, 10.0, 2.0], [9.0, 0.0, 0.0]], self.WANTED, [0, 1], [1, 0])
        self.assertEqual((comparison.judged, comparison.behind, comparison.worst), (1, 1, 0.0))
        self.assertEqual(comparison.problems, [])

    def test_a_continuation_may_differ_where_two_tokens_are_close_alone(self):
        self.assertEqual(compare(self.WANTED, self.WANTED, [0, 0], [1, 1]).problems, [])
        self.assertIn("greedy token 0 differs", compare(self.WANTED, self.WANTED, [0, 0], [2, 2]).problems[0])

    def test_a_continuation_that_ends_early_is_a_problem(self):
        self.assertIn("greedy token 0", compare(self.WANTED, self.WANTED, [0, 0], [])
                      .problems[0])

    def test_not_a_number_is_never_close(self):
        self.assertEqual(fixtures.difference([float("nan")], [1.0]), float("inf"))
        self.assertEqual(fixtures.difference([1.5], [1.0]), 0.5)


class BenchTest(unittest.TestCase):
    def test_what_is_too_slow_and_what_was_not_measured(self):
        low, missing = bench.judge({"decode_1_of_bandwidth": 0.4, "prefill_2048_of_gemm": 0.7})
        self.assertEqual(low, ["decode_1_of_bandwidth"])
        self.assertIn("decode_64_of_decode_1", missing)


    def test_nothing_is_asked_that_lies_above_the_roofline(self):
        for name, (least, most, _) in bench.WANTED.items():
            self.assertLess(least, most, name)


class HuggingFaceTest(unittest.TestCase):
    # The bandwidth allows 300 tokens a second of one sequence here.
    OURS = {"decode_1_tokens_per_second": 180.0, "decode_1_of_bandwidth": 0.6, "decode_16_tokens_per_second": 2600.0}

    def test_one_sequence_is_not_judged_by_another_programs_rate(self):
        self.assertEqual(hugging_face.judge_speed(self.OURS, {1: 170.0}), (0, []))

    def test_several_are_asked_for_a_multiple_of_it_and_never_for_more_than_the_bandwidth_allows(self):
        self.assertEqual(hugging_face.judge_speed(self.OURS, {16: 800.0})[0], 0)
        self.assertEqual(hugging_face.judge_speed(self.OURS, {16: 2500.0})[0], 0)
        self.assertEqual(hugging_face.judge_speed({**self.OURS, "decode_16_tokens_per_second": 2300.0}, {16: 2500.0})[0], 1)
        self.assertEqual(hugging_face.judge_speed(self.OURS, {16: 700.0, 8: 1.0}), (0, ["decode_8_tokens_per_second"]))


class GoldenFilesTest(unittest.TestCase):
    def test_reads_every_golden_model(self):
        names = golden_files.all_models(os.environ["GOLDEN"])
        self.assertEqual(len(names), 18)
        model = golden_files.GoldenModel(os.path.join(os.environ["GOLDEN"], "mixtral-8x2"))
        self.assertTrue(model.has_experts)
        for prompt in model.prompts:
            best = [max(range(len(row)), key=row.__getitem__) for row in model.logits(prompt)]
            self.assertEqual(best, prompt["argmax_per_position"])


class ScriptTest(unittest.TestCase):
    def check(self, words, **environment):
        """(exit code, {part: (word, text)})."""
        with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
            done = subprocess.run([os.path.join(TOOLS, "gpu_check.sh"), *words], capture_output=True, text=True, check=False,
                                  env={**os.environ, "CCOE": "/bin/true", "WORK": folder, "OUT": os.path.join(folder, "out"), **environment})
        rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ") and not line.startswith("| part")]
        return done.returncode, {row[0].strip("| "): (row[2], row[4].strip("| ")) for row in rows}

    def stand_in(self, name, script):
        folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n" + script)
        os.chmod(path, 0o755)
        return path

    def report(self, *tests):
        """A stand-in for a GoogleTest that writes this report."""
        report = json.dumps({"testsuites": [{"testsuite": list(tests)}]})
        return self.stand_in("test", f"for word in \"$@\"; do\n  case $word in --gtest_output=json:*) echo '{report}' >\"${{word#*json:}}\" ;; esac\ndone\n")

    def gpu(self):
        """PATH with an nvidia-smi that lists a GPU."""
        return os.path.dirname(self.stand_in("nvidia-smi", "echo 'GPU 0: stand-in'\n")) + ":" + os.environ["PATH"]

    def test_without_a_gpu_nothing_is_run(self):
        without = os.path.dirname(self.stand_in("nvidia-smi", "exit 9\n")) + ":" + os.environ["PATH"]
        code, parts = self.check([], PATH=without)
        self.assertEqual(code, 3)
        self.assertEqual({part: word for part, (word, _) in parts.items()}, dict.fromkeys("abcdefg", "not run"))

    def test_a_build_without_cuda_is_not_run(self):
        ccoe = self.stand_in("ccoe", "echo 'UNIMPLEMENTED: this binary was built without CUDA' >&2; exit 1\n")
        code, parts = self.check(["b", "d", "e"], PATH=self.gpu(), CCOE=ccoe)
        self.assertEqual(code, 3)
        for part in "bde":
            self.assertEqual(parts[part][0], "not run")
            self.assertIn("built without CUDA", parts[part][1])

    def test_a_part_without_its_binary_is_not_run(self):
        code, parts = self.check(["a", "c"], PATH=self.gpu(), OPS_TEST="/nonexistent", NCCL_TEST="/nonexistent")
        self.assertEqual(code, 3)
        self.assertEqual(parts["a"][0], "not run")
        self.assertIn("without --config=cuda", parts["c"][1])

    def test_a_test_that_skips_itself_is_not_run(self):
        ran = {"name": "Adds", "status": "RUN", "result": "COMPLETED"}
        skipped = {"name": "NeedsGpu", "status": "RUN", "result": "SKIPPED"}
        code, parts = self.check(["a"], PATH=self.gpu(), OPS_TEST=self.report(ran, skipped))
        self.assertEqual((code, parts["a"][0]), (3, "not run"))
        self.assertIn("NeedsGpu", parts["a"][1])

    def test_a_test_that_ran_passes_and_one_that_failed_fails(self):
        ran = {"name": "Adds", "status": "RUN", "result": "COMPLETED"}
        broken = {"name": "Norms", "status": "RUN", "result": "COMPLETED", "failures": [{"failure": "differs"}]}
        self.assertEqual(self.check(["a"], PATH=self.gpu(), OPS_TEST=self.report(ran)), (0, {"a": ("passed", "1 tests passed")}))
        code, parts = self.check(["a"], PATH=self.gpu(), OPS_TEST=self.report(ran, broken))
        self.assertEqual((code, parts["a"][0]), (1, "FAILED"))
        self.assertIn("Norms", parts["a"][1])

    def test_an_abort_that_takes_too_long_or_was_not_measured_fails(self):
        quick = {"name": "KilledRank", "status": "RUN", "result": "COMPLETED", "aborted_ms": "400"}
        self.assertEqual(self.check(["c"], PATH=self.gpu(), NCCL_TEST=self.report(quick))[0], 0)
        self.assertEqual(self.check(["c"], PATH=self.gpu(), NCCL_TEST=self.report({**quick, "aborted_ms": "1400"}))[0], 1)
        unmeasured = {"name": "KilledRank", "status": "RUN", "result": "COMPLETED"}
        self.assertEqual(self.check(["c"], PATH=self.gpu(), NCCL_TEST=self.report(unmeasured))[0], 1)

    def test_a_test_that_dies_fails(self):
        code, parts = self.check(["a"], PATH=self.gpu(), OPS_TEST=self.stand_in("test", "kill -SEGV $$\n"))
        self.assertEqual((code, parts["a"][0]), (1, "FAILED"))

    def test_a_binary_that_cannot_run_the_models_fails(self):
        code, parts = self.check(["b"], PATH=self.gpu(), MODELS="llama-gqa", CCOE="/bin/false")
        self.assertEqual((code, parts["b"][0]), (1, "FAILED"))

    def test_without_time_left_a_part_is_not_run(self):
        code, parts = self.check(["b"], DEVICE="cpu", SECONDS_IN_ALL="0")
        self.assertEqual((code, parts["b"]), (3, ("not run", "no time left")))

    def profile(self, words, probe="", **environment):
        """(exit code, folder of results, standard output) of a profile in a folder as --pack makes it, with a stand-in for the probe."""
        folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
        shutil.copytree(TOOLS, os.path.join(folder, "tools"))
        os.mkdir(os.path.join(folder, "bin"))
        if probe:
            os.rename(self.stand_in("gpu_probe", probe), os.path.join(folder, "bin", "gpu_probe"))
        results = os.path.join(folder, "out")
        done = subprocess.run([os.path.join(folder, "tools", "gpu_check.sh"), *words], capture_output=True, text=True, check=False,
                              env={**os.environ, "OUT": results, "WORK": os.path.join(folder, "work"), **environment})
        return done.returncode, results, done.stdout

    def test_a_profile_keeps_the_probes_lines_its_code_and_a_table(self):
        line = json.dumps({"section": "end", "failed": [], "not_run": ["ranks"]})
        code, results, text = self.profile(["smoke"], f"echo '{line}'; echo \"$@\" >&2; exit 3\n")
        self.assertEqual(code, 3)
        self.assertIn("did not run: ranks", text)
        with open(os.path.join(results, "smoke.jsonl.log"), encoding="utf-8") as log:
            self.assertIn("--budget 100", log.read())

    def test_speed_runs_the_rates_and_then_a_profiler_where_there_is_one(self):
        ncu = os.path.dirname(self.stand_in("ncu", "echo \"profiled $@\"\n"))
        code, results, _ = self.profile(["speed"], "echo \"$@\" >&2\n", PATH=f"{ncu}:{os.environ['PATH']}")
        self.assertEqual(code, 0)
        with open(os.path.join(results, "speed.jsonl.log"), encoding="utf-8") as log:
            self.assertIn("--sections device,matmul", log.read())
        with open(os.path.join(results, "ncu.log"), encoding="utf-8") as log:
            self.assertIn("--sections profiled", log.read())

    def test_a_profile_without_its_probe_is_wrong_usage_and_so_is_another_word(self):
        self.assertEqual(self.profile(["smoke"])[0], 2)
        self.assertEqual(self.profile(["smoke", "--unpack", "x"])[0], 2)

    def test_packing_into_no_folder_is_wrong_usage(self):
        for word in ("", "--help"):
            self.assertEqual(self.profile(["smoke", "--pack", word])[0], 2)

    def test_a_report_that_fails_fails_the_profile(self):
        broken = self.stand_in("python3", "case $1 in *gpu_report.py) exit 1 ;; esac\nexec /usr/bin/python3 \"$@\"\n")
        for code, wanted in ((0, 1), (3, 1), (1, 1), (2, 2)):
            got, _, text = self.profile(["smoke"], f"exit {code}\n", PATH=f"{os.path.dirname(broken)}:{os.environ['PATH']}")
            self.assertEqual((got, text), (wanted, ""))

    def test_cluster_runs_the_part_over_grpc_alone(self):
        code, results, text = self.profile(["cluster"], DEVICE="cpu", CCOE="/bin/false")
        self.assertEqual(code, 1)
        self.assertIn("cluster: FAILED", text)

    def test_an_unknown_part_is_wrong_usage(self):
        self.assertEqual(self.check(["x"])[0], 2)


class PackTest(unittest.TestCase):
    """--pack from a tree with stand-ins for its binaries and kernels, and what it packed."""

    PROBE = b"#!/bin/bash\necho \"{\\\"section\\\":\\\"end\\\",\\\"failed\\\":[],\\\"not_run\\\":[]}\"\n"

    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.tree = os.path.join(self.folder, "tree")
        shutil.copytree(TOOLS, os.path.join(self.tree, "tools"))
        self.write("tree/bin/gpu_probe", self.PROBE)
        for path in ("kernels/a.h", "kernels/cuda/a.h", "kernels/cuda/a.cu", "kernels/cuda/a.cuh", "tools/gpu_probe/a.cu", "tools/gpu_probe/a.h",
                     "tools/gpu_probe/build_here.sh"):
            self.write("tree/" + path, b"")
        self.parent = os.path.join(self.folder, "parent")
        os.mkdir(self.parent)
        self.packed = os.path.join(self.parent, "packed")

    def write(self, path, data):
        path = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.exists(path):
            os.unlink(path)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o755)
        return path

    def run_in(self, root, *words, **environment):
        return subprocess.run([os.path.join(root, "tools", "gpu_check.sh"), *words], capture_output=True, text=True, check=False,
                              env={**os.environ, "OUT": os.path.join(root, "gpu_check_results"), "WORK": os.path.join(self.folder, "work"),
                                   "DEVICE": "cpu", **environment})

    def pack(self, profile, **environment):
        """Packs into self.packed; nothing else is left beside it."""
        done = self.run_in(self.tree, profile, "--pack", self.packed, **environment)
        self.assertIn(os.listdir(self.parent), ([], ["packed"]))
        return done

    def refused(self, profile, why, **environment):
        """It packs nothing and says why."""
        before = self.files()
        done = self.pack(profile, **environment)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn(why, done.stderr)
        self.assertEqual(self.files(), before)

    def files(self):
        return {os.path.join(folder, name): os.stat(os.path.join(folder, name)).st_ino for folder, _, names in os.walk(self.parent) for name in names}

    def test_what_is_packed_runs(self):
        for profile in ("smoke", "speed"):
            done = self.pack(profile)
            self.assertEqual(done.returncode, 0, done.stderr)
            done = self.run_in(self.packed, profile)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("**Nothing failed.**", done.stdout)
        self.assertTrue(os.path.exists(os.path.join(self.packed, "gpu_check_results", "smoke.jsonl")), "packing again took a run's results")

    def test_a_probe_that_does_not_run_here_is_refused(self):
        self.assertEqual(self.pack("smoke").returncode, 0)
        touched = os.path.join(self.folder, "touched")
        with open("/bin/true", "rb") as file:
            program = file.read()
        for probe in (os.urandom(1024), f"touch {touched}\n".encode(), b"", program[:1000], program, b"#!/nonexistent\n", b"#!/bin/bash\nexit 3\n"):
            self.write("tree/bin/gpu_probe", probe)
            self.refused("smoke", "gpu_probe does not run here")
        self.assertFalse(os.path.exists(touched), "a text that is no program was run as one of the shell")

    def test_folders_of_others_stay_as_they_are(self):
        self.write("parent/packed/tools/ours.txt", b"ours")
        self.refused("smoke", "expected a new or empty folder")
        shutil.rmtree(self.packed)
        self.write("parent/packed", b"a file")
        self.refused("smoke", "expected a new or empty folder")
        os.unlink(self.packed)
        os.mkdir(self.packed)
        self.assertEqual(self.pack("smoke").returncode, 0)

    def test_a_library_that_is_not_found_is_named_and_nothing_packed(self):
        ldd = self.write("bin/ldd", b"#!/bin/bash\necho '  libgone.so.7 => not found'\necho '  libc.so.6 => not found'\n")
        self.refused("cluster", "needs libgone.so.7, which ldd does not find", CCOE="/bin/true", PATH=f"{os.path.dirname(ldd)}:{os.environ['PATH']}")

    def test_a_ccoe_that_does_not_run_here_is_refused(self):
        self.refused("cluster", "no ccoe at", CCOE="/nonexistent")
        self.refused("cluster", "ccoe does not run here", CCOE="/usr/bin/python3")  # it says "usage"
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            self.refused("cluster", "", CCOE=self.write("ccoe", os.urandom(1024)), TMPDIR=scratch)
            self.assertEqual(os.listdir(scratch), [])

    def unpacked(self):
        with open(os.path.join(self.packed, "bin", "ccoe"), "rb") as file:
            return file.read()

    def test_the_unpacked_binary_is_that_of_the_archive(self):
        self.assertEqual(self.pack("cluster", CCOE="/bin/true").returncode, 0)
        self.run_in(self.packed, "cluster", CCOE="")
        first = self.unpacked()
        # Packed again: nothing of the run counts or stays.
        self.assertEqual(self.pack("cluster", CCOE="/bin/echo").returncode, 0)
        self.assertFalse(os.path.exists(os.path.join(self.packed, "bin", "ccoe")))
        # Copied over a folder that has run.
        self.write("parent/packed/bin/ccoe", first)
        self.run_in(self.packed, "cluster", CCOE="")
        self.assertNotEqual(self.unpacked(), first)

    def test_an_archive_that_cannot_be_unpacked_runs_nothing_older(self):
        self.assertEqual(self.pack("cluster", CCOE="/bin/true").returncode, 0)
        self.run_in(self.packed, "cluster", CCOE="")
        with open(os.path.join(self.packed, "gpu_check_results", "cluster.jsonl"), encoding="utf-8") as file:
            self.assertIn('"section": "cluster"', file.read())
        self.write("parent/packed/ccoe.tar.gz", os.urandom(100))
        done = self.run_in(self.packed, "cluster", CCOE="")
        self.assertEqual((done.returncode, done.stdout), (2, ""))

    def test_what_is_too_large_is_not_packed(self):
        self.write("tree/kernels/large.h", os.urandom(30000000))
        self.refused("smoke", "expected at most 30000000")


if __name__ == "__main__":
    unittest.main()
