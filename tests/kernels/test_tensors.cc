// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/test_tensors.h"

#include <cmath>
#include <cstring>

#include "absl/strings/str_format.h"
#include "kernels/cpu/half.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

void WriteValue(double value, DType dtype, void* row, int64_t col) {
  switch (dtype) {
    case DType::kF16:
      return FromF32(static_cast<float>(value), static_cast<F16*>(row) + col);
    case DType::kBF16:
      return FromF32(static_cast<float>(value), static_cast<BF16*>(row) + col);
    default:
      static_cast<float*>(row)[col] = static_cast<float>(value);
  }
}

double ReadValue(DType dtype, const void* row, int64_t col) {
  switch (dtype) {
    case DType::kF16:
      return ToF32(static_cast<const F16*>(row)[col]);
    case DType::kBF16:
      return ToF32(static_cast<const BF16*>(row)[col]);
    default:
      return static_cast<const float*>(row)[col];
  }
}

}  // namespace

reference::Dense RandomDense(int64_t rows, int64_t cols, DType dtype, uint32_t seed, double scale) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  reference::Dense out(rows, cols);
  float slot = 0;
  for (double& value : out.values) {
    WriteValue(scale * normal(random), dtype, &slot, 0);
    value = ReadValue(dtype, &slot, 0);
  }
  return out;
}

DeviceMatrix::DeviceMatrix(Ops* ops, int64_t rows, int64_t cols, DType dtype, int64_t padding)
    : ops_(ops), dtype_(dtype), rows_(rows), cols_(cols), padding_(padding) {
  absl::StatusOr<Buffer> buffer =
      ops->device().Allocate(std::max<int64_t>(1, rows * (cols + padding)) * DTypeBytes(dtype));
  CCOE_CHECK(buffer.ok());
  buffer_ = *std::move(buffer);
}

DeviceMatrix::DeviceMatrix(Ops* ops, const reference::Dense& values, DType dtype, int64_t padding)
    : DeviceMatrix(ops, values.rows, values.cols, dtype, padding) {
  Upload(values);
}

void DeviceMatrix::Upload(const reference::Dense& values) {
  std::vector<char> bytes(buffer_.size_bytes());
  const int64_t stride_bytes = (cols_ + padding_) * static_cast<int64_t>(DTypeBytes(dtype_));
  for (int64_t r = 0; r < rows_; ++r) {
    for (int64_t c = 0; c < cols_; ++c)
      WriteValue(values.at(r, c), dtype_, bytes.data() + r * stride_bytes, c);
  }
  CCOE_CHECK(ops_->device().CopyFromHost(bytes.data(), buffer_.data(), bytes.size()).ok());
}

reference::Dense DeviceMatrix::Download() const {
  CCOE_CHECK(ops_->Synchronize().ok());
  std::vector<char> bytes(buffer_.size_bytes());
  CCOE_CHECK(ops_->device().CopyToHost(buffer_.data(), bytes.data(), bytes.size()).ok());
  const int64_t stride_bytes = (cols_ + padding_) * static_cast<int64_t>(DTypeBytes(dtype_));
  reference::Dense out(rows_, cols_);
  for (int64_t r = 0; r < rows_; ++r) {
    for (int64_t c = 0; c < cols_; ++c)
      out.at(r, c) = ReadValue(dtype_, bytes.data() + r * stride_bytes, c);
  }
  return out;
}

reference::Dense Rows(const reference::Dense& m, int64_t begin, int64_t count) {
  reference::Dense out(count, m.cols);
  std::copy(m.values.begin() + begin * m.cols, m.values.begin() + (begin + count) * m.cols,
            out.values.begin());
  return out;
}

std::string WorstDifference(const reference::Dense& actual, const reference::Dense& expected,
                            const reference::Dense& tolerance) {
  if (actual.rows != expected.rows || actual.cols != expected.cols) return "shapes differ";
  double worst = 1.0;
  std::string message;
  for (int64_t i = 0; i < static_cast<int64_t>(expected.values.size()); ++i) {
    const double allowed = tolerance.values.size() == 1 ? tolerance.values[0] : tolerance.values[i];
    const double error = std::abs(actual.values[i] - expected.values[i]);
    const double excess = error / allowed;
    if (excess <= worst || (allowed == 0 && error == 0)) continue;
    worst = std::isnan(excess) ? INFINITY : excess;
    message = absl::StrFormat(
        "worst element [%d, %d]: found %.9g, expected %.9g, off by %.3g, allowed %.3g",
        i / expected.cols, i % expected.cols, actual.values[i], expected.values[i], error, allowed);
  }
  return message;
}

std::string FirstBitDifference(const reference::Dense& a, const reference::Dense& b) {
  if (a.rows != b.rows || a.cols != b.cols) return "shapes differ";
  for (int64_t i = 0; i < static_cast<int64_t>(a.values.size()); ++i) {
    const float x = static_cast<float>(a.values[i]), y = static_cast<float>(b.values[i]);
    if (std::memcmp(&x, &y, sizeof(x)) == 0) continue;
    return absl::StrFormat("element [%d, %d]: %.9g (%a) and %.9g (%a)", i / a.cols, i % a.cols, x,
                           x, y, y);
  }
  return "";
}

}  // namespace ccoe::kernels
