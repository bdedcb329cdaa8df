// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/workspace.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/stream.h"
#include "kernels/serving_thread.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

OpShapes Shapes(int64_t rows) {
  OpShapes shapes;
  shapes.products = {{rows, 512, 4096}, {rows, 4096, 512}};
  shapes.attentions.push_back({rows, 8, 4096, 16, 32, 8, 128});
  shapes.experts.push_back({rows, 2 * rows, 8, 512, 1024});
  return shapes;
}

TEST(CudaWorkspaceTest, MoreRowsAndTheBlasNeedMore) {
  const CallMemory few = LargestCall(Shapes(32), {DType::kBF16, true}, 132);
  const CallMemory many = LargestCall(Shapes(8192), {DType::kBF16, true}, 132);
  EXPECT_GT(few.workspace, 0);
  EXPECT_GT(many.workspace, few.workspace);
  EXPECT_GT(many.arrays, few.arrays);
  OpShapes product;
  product.products = {{64, 512, 512}};
  EXPECT_GE(LargestCall(product, {DType::kBF16, false}, 132).workspace,
            static_cast<int64_t>(Blas::kWorkspaceBytes));
  EXPECT_EQ(LargestCall({}, {DType::kBF16, true}, 132).workspace, 0);
}

TEST(CudaWorkspaceTest, ProductsOfHeadsHoldSoManyRoundedRowsAtATime) {
  OpShapes shapes;
  shapes.head_products = {{64, 128, 512, 128}};
  EXPECT_EQ(LargestCall(shapes, {DType::kBF16, true}, 132).workspace, 64 * 128 * 512 * 2);
  EXPECT_EQ(LargestCall(shapes, {DType::kF32, true}, 132).workspace, 0);
  shapes.head_products[0].rows = 8192;
  EXPECT_EQ(LargestCall(shapes, {DType::kBF16, true}, 132).workspace, int64_t{64} << 20);
}

TEST(CudaWorkspaceTest, AttentionIsBoundedWhateverTheContext) {
  OpShapes shapes;
  shapes.attentions.push_back({4096, 256, int64_t{1} << 20, 16, 64, 8, 128});
  EXPECT_EQ(LargestCall(shapes, {DType::kBF16, true}, 132).workspace, kMaxPartialBytes);
}

OpShapes AttentionOf(int64_t head_dim, int64_t tokens) {
  OpShapes shapes;
  shapes.attentions.push_back({512, 64, tokens, 16, 8, 4, head_dim});
  shapes.captured_steps = 64;
  return shapes;
}

TEST(CudaWorkspaceTest, HeadsThatABlockHasNoRoomForAreRefusedByName) {
  constexpr size_t kOf86 = 99 << 10, kOf90 = 227 << 10;
  for (int64_t head_dim : {64, 128, 256, 576}) {
    EXPECT_OK(CheckSharedMemory(AttentionOf(head_dim, 2048), kOf86)) << head_dim;
  }
  EXPECT_OK(CheckSharedMemory(AttentionOf(1024, 2048), kOf90));
  EXPECT_THAT(CheckSharedMemory(AttentionOf(1024, 2048), kOf86),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("heads of 1024")));
}

TEST(CudaWorkspaceTest, ACapturedStepHasRoomForTheTablesOfItsContexts) {
  const int64_t few = GraphStepBytes(AttentionOf(128, 2048), 132);
  const int64_t many = GraphStepBytes(AttentionOf(128, 131072), 132);
  EXPECT_GE(few, int64_t{1} << 20);
  EXPECT_GT(many, 2 * 64 * (131072 / 16) * int64_t{sizeof(int32_t)});
}

class CudaWorkspaceOnDeviceTest : public CudaTest {};

TEST_F(CudaWorkspaceOnDeviceTest, WhatTheDeviceCannotRunIsRefusedAtTheStart) {
  ASSERT_OK_AND_ASSIGN(const size_t limit, SharedLimit(0));
  CudaOptions options;
  const absl::Status status = FitCudaOptions(AttentionOf(1024, 2048), &options);
  EXPECT_EQ(status.ok(), limit >= (size_t{140} << 10)) << status << " with " << limit;
  ASSERT_OK(FitCudaOptions(AttentionOf(256, 131072), &options));
  EXPECT_EQ(options.graph_bytes % options.graph_step_bytes, 0u);
  EXPECT_GE(options.graph_bytes / options.graph_step_bytes, 8u);
}

TEST_F(CudaWorkspaceOnDeviceTest, CallsOfThePlannedShapesAllocateNothing) {
  constexpr int64_t kIn = 512, kOut = 1024, kRows = 200;
  OpShapes shapes;
  shapes.products = {{kRows, kIn, kOut}};
  for (const DType math : {DType::kF32, DType::kBF16}) {
    for (const bool deterministic : {true, false}) {
      if (!deterministic && !HasCublasLt()) continue;
      CudaOptions options;
      options.math = math;
      options.deterministic = deterministic;
      ASSERT_OK(FitCudaOptions(shapes, &options));
      ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
      const DeviceMatrix weight(ops.get(), RandomDense(kOut, kIn, math, 1), math);
      const DeviceMatrix x(ops.get(), RandomDense(kRows, kIn, DType::kF32, 2), DType::kF32);
      DeviceMatrix out(ops.get(), kRows, kOut);
      const int64_t before = AllocationsWhileServing();
      ServingThread serving;
      for (const int64_t rows : {1, 17, 64, 200}) {
        const LinearPart part[] = {{weight.view(), {}, out.view().Slice(0, rows), false}};
        ops->Linear(x.view().Slice(0, rows), part);
      }
      ASSERT_OK(ops->Synchronize());
      EXPECT_EQ(AllocationsWhileServing(), before) << DTypeName(math) << deterministic;
    }
  }
}

TEST_F(CudaWorkspaceOnDeviceTest, ProductsOfHeadsOfThePlannedShapesAllocateNothing) {
  constexpr int64_t kHeads = 6, kIn = 40, kOut = 24, kRows = 50;
  OpShapes shapes;
  shapes.head_products = {{kRows, kHeads, kIn, kOut}};
  CudaOptions options;
  options.math = DType::kBF16;
  ASSERT_OK(FitCudaOptions(shapes, &options));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
  const DeviceMatrix weight(ops.get(), RandomDense(kHeads * kOut, kIn, DType::kBF16, 1),
                            DType::kBF16);
  const DeviceMatrix x(ops.get(), RandomDense(kRows, kHeads * kIn, DType::kF32, 2), DType::kF32);
  DeviceMatrix out(ops.get(), kRows, kHeads * kOut);
  HeadLinearArgs args;
  args.heads = kHeads;
  args.x = {x.view().data, DType::kF32, kRows, kIn, kHeads * kIn};
  args.x_step = kIn;
  args.weight = weight.view().Slice(0, kOut);
  args.weight_step = kOut;
  args.out = {out.view().data, DType::kF32, kRows, kOut, kHeads * kOut};
  args.out_step = kOut;
  const int64_t before = AllocationsWhileServing();
  ServingThread serving;
  ops->HeadLinear(args);
  ASSERT_OK(ops->Synchronize());
  EXPECT_EQ(AllocationsWhileServing(), before);
}

}  // namespace
}  // namespace ccoe::kernels
