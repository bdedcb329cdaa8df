# SPDX-License-Identifier: Apache-2.0
"""Device functions are inlined by force: one that is not passes its arrays through local memory."""

import pathlib
import unittest

SOURCES = pathlib.Path("kernels/cuda")


class DeviceFunctionsTest(unittest.TestCase):
    def test_every_device_function_is_inlined_by_force(self):
        paths = sorted([*SOURCES.glob("*.cu"), *SOURCES.glob("*.cuh")])
        self.assertGreater(len(paths), 10)
        for path in paths:
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if "__device__" in line:
                    self.assertIn("__device__ __forceinline__", line, f"{path}:{number}")


if __name__ == "__main__":
    unittest.main()
