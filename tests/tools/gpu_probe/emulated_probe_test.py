# SPDX-License-Identifier: Apache-2.0
"""The probe's sections over the emulated GPU, and the report of their lines."""

import json
import subprocess
import sys
import unittest

PROBE = "tests/tools/gpu_probe/emulated_gpu_probe"
# Of the Ops suite, which tests/kernels/cuda runs whole: enough to see it run.
FILTER = "Cuda/OpsConformance.*Norm*:Cuda/OpsConformance.*Gather*:KernelList*:BlasTest.*"


def run(*words, timeout=880):
    done = subprocess.run([PROBE, "--sizes", "small", *words], capture_output=True, text=True, timeout=timeout, check=False)
    return done, [json.loads(line) for line in done.stdout.splitlines()]


class EmulatedProbeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.done, cls.lines = run("--budget", "850", "--tests", FILTER)

    def of(self, section, **fields):
        return [l for l in self.lines if l["section"] == section and all(l.get(k) == v for k, v in fields.items())]

    def test_nothing_fails_and_what_is_missing_is_named(self):
        self.assertEqual([l for l in self.lines if l.get("ok") is False], [], self.done.stderr)
        self.assertEqual(self.lines[-1], {"section": "end", "failed": [], "not_run": ["ranks"]})
        self.assertEqual(self.done.returncode, 3)

    def test_every_kernel_is_looked_at(self):
        kernels = {l["kernel"] for l in self.of("kernels") if "kernel" in l}
        self.assertIn("TileKernel<kGated, 64, true, false>", kernels)
        self.assertIn("MmaKernel<__nv_bfloat16, 256, 4>", kernels)
        self.assertEqual(len(kernels), self.of("kernels", what="all kernels")[0]["count"])

    def test_the_suite_ran(self):
        self.assertGreater(self.of("conformance", what="all")[0]["tests"], 5)

    def test_segments_of_cublaslt_are_compared_bit_for_bit(self):
        line = self.of("bits", what="cublaslt over segments")[0]
        self.assertLessEqual(line["same_bits"], line["elements"])

    def test_every_tile_has_a_rate(self):
        for kind in ("plain", "gated", "down"):
            tiles = {l["tile_rows"] for l in self.of("matmul", kernel="tile", kind=kind)}
            self.assertEqual(tiles, {32, 64, 128})
        self.assertTrue(self.of("matmul", kernel="tile", split=True))
        for line in self.lines:
            if "gb_per_s" in line:
                self.assertGreater(line["gb_per_s"], 0, line)

    def test_decoders_decode_and_prefill_and_steps_are_replayed(self):
        self.assertEqual({l["batch"] for l in self.of("decoder", what="decode")}, {1, 4})
        self.assertEqual(len(self.of("decoder", what="prefill")), 1)
        self.assertEqual(len(self.of("captured", what="captured steps beside plain ones")), 2)


class BudgetTest(unittest.TestCase):
    def test_without_time_sections_are_not_run_and_the_end_says_so(self):
        done, lines = run("--budget", "0.1")
        self.assertEqual(lines[-1]["not_run"][0], "device")
        self.assertEqual(done.returncode, 3)

    def test_an_unknown_section_is_wrong_usage(self):
        self.assertEqual(run("--sections", "nothing")[0].returncode, 2)

    def test_sections_that_were_asked_for_alone_run(self):
        _, lines = run("--sections", "device")
        self.assertEqual({l["section"] for l in lines}, {"device", "end"})


if __name__ == "__main__":
    unittest.main()
