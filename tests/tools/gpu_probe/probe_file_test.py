# SPDX-License-Identifier: Apache-2.0
"""gpu_probe needs a driver, glibc and nothing else, and fits where 64 MiB may travel."""

import os
import re
import subprocess
import unittest

PROBE = "tools/gpu_probe/gpu_probe"
OF_GLIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"}
MOST_BYTES = 20 * 1000 * 1000
NEWEST_GLIBC = (2, 36)  # Debian 12


def read(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


class ProbeFileTest(unittest.TestCase):
    def test_it_is_small(self):
        self.assertLessEqual(os.path.getsize(os.path.realpath(PROBE)), MOST_BYTES)

    def test_it_needs_glibc_alone(self):
        needed = set(re.findall(r"NEEDED.*\[(.*)\]", read("readelf", "-d", PROBE)))
        self.assertTrue(needed)
        self.assertEqual(needed - OF_GLIBC, set())

    def test_it_needs_no_newer_glibc_than_debian_12_has(self):
        versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d+\.\d+)", read("readelf", "-V", PROBE))}
        self.assertTrue(versions)
        self.assertLessEqual(max(versions), NEWEST_GLIBC)

    def test_without_a_gpu_it_says_so(self):
        done = subprocess.run([PROBE, "--sections", "device"], capture_output=True, text=True, timeout=60, check=False)
        if "\"capability\"" in done.stdout:
            self.skipTest("there is a GPU")
        self.assertEqual(done.returncode, 3)
        self.assertIn("no CUDA device", done.stdout)


if __name__ == "__main__":
    unittest.main()
