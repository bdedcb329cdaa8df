// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/stream.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

class GraphsTest : public CudaTest {
 protected:
  static std::unique_ptr<Ops> MakeOps() {
    CudaOptions options;
    options.math = DType::kBF16;
    absl::StatusOr<std::unique_ptr<Ops>> ops = MakeCudaOps(CudaDeviceUnderTest(), options);
    EXPECT_OK(ops.status());
    return ops.ok() ? *std::move(ops) : nullptr;
  }
};

TEST_F(GraphsTest, ReplaysReadTheHostArraysOfTheirOwnStep) {
  const std::unique_ptr<Ops> ops = MakeOps();
  const reference::Dense table = RandomDense(32, 64, DType::kF32, 1);
  DeviceMatrix dtable(ops.get(), table, DType::kF32), x(ops.get(), 2, 64), sum(ops.get(), 2, 64);
  for (int32_t step = 0; step < 8; ++step) {
    const std::vector<int32_t> ids = {step, 31 - step};
    ops->RunCaptured(/*key=*/2, [&] {
      ops->EmbedRows(dtable.view(), ids, 1.0f, x.view());
      ops->GatherRows(x.view(), std::vector<int32_t>{1, 0}, sum.view());
      ops->AddRows(x.view(), sum.view());
    });
    const reference::Dense found = sum.Download();
    for (int64_t c = 0; c < 64; ++c) {
      const float expected =
          static_cast<float>(table.at(step, c)) + static_cast<float>(table.at(31 - step, c));
      EXPECT_EQ(found.at(0, c), expected) << "step " << step;
      EXPECT_EQ(found.at(1, c), expected) << "step " << step;
    }
  }
}

TEST_F(GraphsTest, StepsInFlightDoNotOverwriteEachOthersArrays) {
  const std::unique_ptr<Ops> ops = MakeOps();
  const reference::Dense table = RandomDense(32, 64, DType::kF32, 1);
  DeviceMatrix dtable(ops.get(), table, DType::kF32), x(ops.get(), 1, 64);
  DeviceMatrix all(ops.get(), 32, 64);
  for (int32_t step = 0; step < 32; ++step) {
    ops->RunCaptured(1, [&] { ops->EmbedRows(dtable.view(), {&step, 1}, 1.0f, x.view()); });
    ops->ScatterRows(x.view(), {&step, 1}, all.view());
  }
  EXPECT_EQ(FirstBitDifference(all.Download(), table), "");
}

TEST_F(GraphsTest, AStepThatCallsSomethingElseUnderTheKeyIsRunAsItIs) {
  const std::unique_ptr<Ops> ops = MakeOps();
  const reference::Dense x = RandomDense(4, 64, DType::kF32, 1);
  DeviceMatrix dx(ops.get(), x, DType::kF32), out(ops.get(), 4, 64), other(ops.get(), 4, 64);
  for (int step = 0; step < 6; ++step) {
    const float scale = step < 3 ? 2.0f : 3.0f;
    Matrix to = step % 2 == 0 ? out.view() : other.view();
    ops->RunCaptured(9, [&] {
      ops->GatherRows(dx.view(), std::vector<int32_t>{0, 1, 2, 3}, to);
      ops->ScaleRows(scale, 0.0f, to);
    });
    const reference::Dense found = step % 2 == 0 ? out.Download() : other.Download();
    for (size_t i = 0; i < x.values.size(); ++i) {
      EXPECT_EQ(found.values[i], scale * static_cast<float>(x.values[i])) << "step " << step;
    }
  }
}

TEST_F(GraphsTest, AKeyWhoseStepsKeepChangingStillGivesWhatWasAsked) {
  const std::unique_ptr<Ops> ops = MakeOps();
  const reference::Dense x = RandomDense(1, 8, DType::kF32, 1);
  DeviceMatrix dx(ops.get(), x, DType::kF32), out(ops.get(), 1, 8);
  for (int step = 0; step < 20; ++step) {
    const float scale = static_cast<float>(step);
    ops->RunCaptured(3, [&] {
      ops->GatherRows(dx.view(), std::vector<int32_t>{0}, out.view());
      ops->ScaleRows(scale, 0.0f, out.view());
    });
    EXPECT_EQ(out.Download().at(0, 3), scale * static_cast<float>(x.at(0, 3))) << step;
  }
}

// A growing context changes how attention is cut up: its bits stay those of plain calls.
TEST_F(GraphsTest, AttentionOverAGrowingContextHasTheBitsOfPlainCalls) {
  const std::unique_ptr<Ops> ops = MakeOps();
  constexpr int64_t kTokens = 600, kHeadDim = 64, kHeads = 4, kKvHeads = 2, kPage = 16;
  DeviceMatrix cache_k(ops.get(), kTokens / kPage * kKvHeads * kPage + 1024, kHeadDim,
                       DType::kBF16),
      cache_v(ops.get(), kTokens / kPage * kKvHeads * kPage + 1024, kHeadDim, DType::kBF16);
  cache_k.Upload(RandomDense(cache_k.view().rows, kHeadDim, DType::kBF16, 1));
  cache_v.Upload(RandomDense(cache_v.view().rows, kHeadDim, DType::kBF16, 2));
  DeviceMatrix q(ops.get(), RandomDense(1, kHeads * kHeadDim, DType::kF32, 3), DType::kF32);
  DeviceMatrix out(ops.get(), 1, kHeads * kHeadDim), plain(ops.get(), 1, kHeads * kHeadDim);
  std::vector<int32_t> table;
  for (int64_t position = 200; position < kTokens; position += 7) {
    while (static_cast<int64_t>(table.size()) * kPage <= position) {
      table.push_back(static_cast<int32_t>(table.size()));
    }
    const SequenceRows sequence{0, 1, position, table};
    PagedAttentionArgs args;
    args.q = q.view();
    args.heads = kHeads;
    args.cache = {cache_k.view().data,
                  cache_v.view().data,
                  DType::kBF16,
                  kTokens / kPage + 1,
                  kPage,
                  kKvHeads,
                  kHeadDim};
    args.sequences = {&sequence, 1};
    args.scale = 0.125f;
    args.out = out.view();
    ops->RunCaptured(1, [&] { ops->PagedAttention(args); });
    args.out = plain.view();
    ops->PagedAttention(args);
    EXPECT_EQ(FirstBitDifference(out.Download(), plain.Download()), "") << position;
  }
}

// Attention of `sequences` sequences, each one row at position 0 with a long block table, at each
// of `layers` layers.
class LongTables {
 public:
  static constexpr int64_t kPage = 16, kHeadDim = 64;

  LongTables(Ops* ops, int64_t sequences)
      : k_(ops, RandomDense(kPage, kHeadDim, DType::kBF16, 1), DType::kBF16),
        v_(ops, RandomDense(kPage, kHeadDim, DType::kBF16, 2), DType::kBF16),
        q_(ops, RandomDense(sequences, kHeadDim, DType::kF32, 3), DType::kF32),
        out_(ops, sequences, kHeadDim) {}

  void Run(Stream* stream, int64_t pages, int layers) const {
    const std::vector<int32_t> table(pages, 0);
    std::vector<SequenceRows> sequences;
    for (int64_t s = 0; s < q_.view().rows; ++s) sequences.push_back({s, 1, 0, table});
    PagedAttentionArgs args;
    args.q = q_.view();
    args.heads = 1;
    args.cache = {k_.view().data, v_.view().data, DType::kBF16, 1, kPage, 1, kHeadDim};
    args.sequences = sequences;
    args.scale = 0.125f;
    args.out = out_.view();
    for (int layer = 0; layer < layers; ++layer) {
      CudaPagedAttention(stream, /*tensor_cores=*/true, args);
    }
  }

 private:
  const DeviceMatrix k_, v_, q_;
  const DeviceMatrix out_;
};

// 64 sequences of 2 K tokens in pages of 16, at 40 layers: 1.3 MiB if each layer had its own.
TEST_F(GraphsTest, LayersOfACapturedStepShareTheTablesOfTheirSequences) {
  const std::unique_ptr<Ops> ops = MakeOps();
  const LongTables attention(ops.get(), /*sequences=*/64);
  ASSERT_OK_AND_ASSIGN(const auto stream, Stream::Create({}));
  for (int step = 0; step < 3; ++step) {
    stream->RunCaptured(1, [&] { attention.Run(stream.get(), /*pages=*/128, /*layers=*/40); });
  }
  ASSERT_OK(stream->Synchronize());
  EXPECT_EQ(stream->graphs_launched(), 2);
}

TEST_F(GraphsTest, AStepThatDidNotFitOnceIsCapturedWhenItDoesLater) {
  const std::unique_ptr<Ops> ops = MakeOps();
  const LongTables attention(ops.get(), /*sequences=*/2);
  CudaOptions options;
  options.graph_step_bytes = 4096;
  ASSERT_OK_AND_ASSIGN(const auto stream, Stream::Create(options));
  const auto run = [&](int64_t pages, int steps) {
    for (int step = 0; step < steps; ++step) {
      stream->RunCaptured(1, [&] { attention.Run(stream.get(), pages, /*layers=*/1); });
    }
    EXPECT_OK(stream->Synchronize());
    return stream->graphs_launched();
  };
  EXPECT_EQ(run(/*pages=*/2048, /*steps=*/5), 0);
  EXPECT_GT(run(/*pages=*/16, /*steps=*/100), 50);
}

}  // namespace
}  // namespace ccoe::kernels
