// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/check_shapes.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/expert_tables.h"
#include "kernels/cuda/gate.h"
#include "kernels/cuda/grouped_ffn.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/moe_ffn.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/rope_kv.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sample_rows.h"
#include "kernels/cuda/stream.h"
#include "kernels/numerics_class.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {
namespace {

bool IsF32(const ConstMatrix& m) { return m.dtype == DType::kF32; }
bool SameSize(const ConstMatrix& a, const ConstMatrix& b) {
  return a.rows == b.rows && a.cols == b.cols;
}

class CudaOps final : public Ops {
 public:
  CudaOps(CudaDevice* device, const CudaOptions& options, std::string numerics_class,
          std::unique_ptr<Stream> stream, std::unique_ptr<ExpertTables> experts,
          std::unique_ptr<Blas> blas)
      : device_(device),
        numerics_class_(std::move(numerics_class)),
        matmul_{options.math, options.deterministic},
        stream_(std::move(stream)),
        experts_(std::move(experts)),
        blas_(std::move(blas)) {}

  Device& device() override { return *device_; }
  int64_t graphs_launched() const { return stream_->graphs_launched(); }
  std::string NumericsClass() const override { return numerics_class_; }

  void EmbedRows(ConstMatrix table, absl::Span<const int32_t> ids, float scale,
                 Matrix out) override {
    CCOE_CHECK(IsFloat(table.dtype) && IsF32(out) && out.cols == table.cols);
    CCOE_CHECK(out.rows == static_cast<int64_t>(ids.size()));
    Copy(table, ids, table.rows, /*scatter=*/false, scale, out);
  }

  void RmsNorm(ConstMatrix x, ConstMatrix weight, float eps, Matrix out) override {
    Norm(x, weight, eps, /*add=*/false, out);
  }

  void Linear(ConstMatrix x, absl::Span<const LinearPart> parts) override {
    Begin();
    CudaLinear(stream_.get(), blas_.get(), matmul_, x, parts);
  }

  void HeadLinear(const HeadLinearArgs& args) override {
    Begin();
    CudaHeadLinear(stream_.get(), matmul_, args);
  }

  void RopeAngles(const RopeAnglesArgs& args) override;
  void RopeAndAppendKv(const RopeAndAppendKvArgs& args) override;

  void PagedAttention(const PagedAttentionArgs& args) override {
    Begin();
    CudaPagedAttention(stream_.get(), matmul_.math == DType::kBF16, args);
  }

  void GatedActivation(Activation activation, ConstMatrix gate, ConstMatrix up,
                       Matrix out) override {
    CCOE_CHECK(IsF32(gate) && IsF32(up) && SameSize(gate, out) && SameSize(up, out));
    RowOpParams params = RowOpOn(RowOp::kGate, out);
    SetView(gate, &params.a);
    SetView(up, &params.b);
    params.activation = activation;
    Run(params);
  }

  void AddRows(ConstMatrix x, Matrix sum) override {
    CCOE_CHECK(IsF32(x) && SameSize(x, sum));
    RowOpParams params = RowOpOn(RowOp::kAdd, sum);
    SetView(x, &params.a);
    Run(params);
  }

  void ScaleRows(float scale, float soft_cap, Matrix x) override {
    if (scale == 1.0f && soft_cap <= 0.0f) return;
    RowOpParams params = RowOpOn(soft_cap > 0.0f ? RowOp::kCap : RowOp::kScale, x);
    params.scalar = scale;
    params.cap = soft_cap;
    Run(params);
  }

  void ScaleRowsBySigmoid(ConstMatrix gate, Matrix x) override {
    CCOE_CHECK(IsF32(gate) && gate.rows == x.rows && gate.cols == 1);
    RowOpParams params = RowOpOn(RowOp::kScaleBySigmoid, x);
    SetView(gate, &params.a);
    Run(params);
  }

  void ClampRows(float limit, Matrix x) override {
    CCOE_CHECK(limit > 0.0f);
    RowOpParams params = RowOpOn(RowOp::kClamp, x);
    params.scalar = limit;
    Run(params);
  }

  void AddRmsNorm(ConstMatrix x, ConstMatrix weight, float eps, Matrix sum) override {
    Norm(x, weight, eps, /*add=*/true, sum);
  }
  absl::Status SampleRows(const SampleRowsArgs& args, absl::Span<SampledRow> out) override {
    Begin();
    return CudaSampleRows(stream_.get(), args, out);
  }

  void TopKGate(const TopKGateArgs& args) override;

  void GroupedFfn(const GroupedFfnArgs& args) override {
    Begin();
    CudaGroupedFfn(stream_.get(), matmul_, args);
  }

  void CombineRows(const CombineRowsArgs& args) override {
    const Matrix& out = args.out;
    CCOE_CHECK(IsF32(out) && static_cast<int64_t>(args.offsets.size()) == out.rows + 1);
    CCOE_CHECK(args.offsets.front() == 0 &&
               std::is_sorted(args.offsets.begin(), args.offsets.end()));
    CCOE_CHECK(args.offsets.back() == 0 ||
               (IsF32(args.contributions) && args.contributions.cols == out.cols &&
                args.contributions.rows >= args.offsets.back()));
    CombineParams params;
    ClearParams(&params);
    SetView(args.contributions, &params.contributions);
    SetView(out, &params.out);
    Begin();
    params.offsets = Send(args.offsets);
    if (stream_->ok()) CudaCombine(stream_.get(), params);
  }

  void MoeFfn(const MoeFfnArgs& args) override {
    Begin();
    CudaMoeFfn(stream_.get(), experts_.get(), matmul_, args);
  }

  void GatherRows(ConstMatrix x, absl::Span<const int32_t> rows, Matrix out) override {
    CCOE_CHECK(x.cols == out.cols && out.rows == static_cast<int64_t>(rows.size()));
    CCOE_CHECK(x.dtype == out.dtype || (IsFloat(x.dtype) && IsFloat(out.dtype)));
    Copy(x, rows, x.rows, /*scatter=*/false, 1.0f, out);
  }

  void ScatterRows(ConstMatrix x, absl::Span<const int32_t> rows, Matrix out) override {
    CCOE_CHECK(x.cols == out.cols && x.rows == static_cast<int64_t>(rows.size()));
    CCOE_CHECK(x.dtype == out.dtype || (IsFloat(x.dtype) && IsFloat(out.dtype)));
    Copy(x, rows, out.rows, /*scatter=*/true, 1.0f, out);
  }

  void RunCaptured(uint64_t key, absl::FunctionRef<void()> body) override {
    Begin();
    stream_->RunCaptured(key, body);
  }

  absl::Status Synchronize() override {
    Begin();
    return stream_->Synchronize();
  }

 private:
  // Launches go to the thread's current device.
  void Begin() { cudaSetDevice(device_->index()); }

  // A host array on the device; null after an error, which sticks.
  template <class T>
  const T* Send(absl::Span<const T> values) {
    HostArrays arrays(stream_.get());
    arrays.Room<T>(static_cast<int64_t>(values.size()));
    if (!arrays.Make()) return nullptr;
    const T* device = arrays.Put(values);
    const int64_t moved = arrays.SendOnce();
    return reinterpret_cast<const T*>(reinterpret_cast<const char*>(device) + moved);
  }

  void Copy(const ConstMatrix& from, absl::Span<const int32_t> rows, int64_t limit, bool scatter,
            float scale, const Matrix& to) {
    for (int32_t row : rows) CCOE_CHECK(row >= 0 && row < limit);
    if (rows.empty()) return;
    CopyRowsParams params;
    ClearParams(&params);
    SetView(from, &params.from);
    SetView(to, &params.to);
    params.count = static_cast<int64_t>(rows.size());
    params.scale = scale;
    Begin();
    (scatter ? params.to_rows : params.from_rows) = Send(rows);
    if (stream_->ok()) CudaCopyRows(stream_.get(), params);
  }

  void Norm(const ConstMatrix& x, const ConstMatrix& weight, float eps, bool add,
            const Matrix& out) {
    CCOE_CHECK(IsF32(x) && IsF32(out) && SameSize(x, out));
    CCOE_CHECK(IsFloat(weight.dtype) && weight.cols == x.cols);
    RmsNormParams params;
    ClearParams(&params);
    SetView(x, &params.x);
    SetView(weight, &params.weight);
    SetView(out, &params.out);
    params.eps = eps;
    params.add = add;
    Begin();
    CudaRmsNorm(stream_.get(), params);
  }

  static RowOpParams RowOpOn(RowOp op, const Matrix& out) {
    CCOE_CHECK(IsF32(out));
    RowOpParams params;
    ClearParams(&params);
    params.op = op;
    SetView(out, &params.out);
    return params;
  }

  void Run(const RowOpParams& params) {
    Begin();
    CudaRowOp(stream_.get(), params);
  }

  CudaDevice* const device_;
  const std::string numerics_class_;
  const MatmulOptions matmul_;
  const std::unique_ptr<Stream> stream_;
  const std::unique_ptr<ExpertTables> experts_;
  const std::unique_ptr<Blas> blas_;  // null where results must not depend on the batch
};

void CudaOps::RopeAngles(const RopeAnglesArgs& args) {
  CheckShapes(args);
  if (args.cos.rows == 0 || args.cos.cols == 0) return;
  RopeAnglesParams params;
  ClearParams(&params);
  SetView(args.cos, &params.cos);
  SetView(args.sin, &params.sin);
  params.magnitude = args.magnitude;
  Begin();
  HostArrays arrays(stream_.get());
  arrays.Room<int64_t>(args.cos.rows);
  arrays.Room<float>(args.cos.cols);
  if (!arrays.Make()) return;
  params.positions = arrays.Put(args.positions);
  params.frequencies = arrays.Put(args.frequencies);
  arrays.Send();
  if (stream_->ok()) CudaRopeAngles(stream_.get(), params);
}

void CudaOps::RopeAndAppendKv(const RopeAndAppendKvArgs& args) {
  CheckShapes(args);
  if (args.q.rows == 0) return;
  RopeParams params;
  ClearParams(&params);
  SetView(args.q, &params.q);
  SetView(args.k, &params.k);
  SetView(args.v, &params.v);
  SetView(args.cos, &params.cos);
  SetView(args.sin, &params.sin);
  params.cache_k = args.cache.k;
  params.cache_v = args.cache.v;
  params.cache_dtype = args.cache.dtype;
  params.page_tokens = args.cache.page_tokens;
  params.kv_heads = args.cache.kv_heads;
  params.head_dim = args.cache.head_dim;
  params.style = args.style;
  Begin();
  params.slots = Send(args.slots);
  if (stream_->ok()) CudaRopeAndAppendKv(stream_.get(), params);
}

void CudaOps::TopKGate(const TopKGateArgs& args) {
  CheckShapes(args);
  if (args.logits.rows == 0) return;
  GateParams params;
  ClearParams(&params);
  SetView(args.logits, &params.logits);
  SetView(args.selection_bias, &params.bias);
  params.top_k = args.form.top_k;
  params.groups = args.form.groups;
  params.top_groups = args.form.top_groups;
  params.scale = args.form.scale;
  params.score = args.form.score;
  params.group_score = args.form.group_score;
  params.renormalize = args.form.renormalize;
  params.experts = args.experts;
  params.weights = args.weights;
  const int64_t experts = args.logits.cols;
  const int64_t steered = args.row_steering.empty() ? 0 : args.steering.rows;
  Begin();
  HostArrays arrays(stream_.get());
  arrays.Room<int32_t>(static_cast<int64_t>(args.row_k.size()));
  arrays.Room<int32_t>(static_cast<int64_t>(args.row_steering.size()));
  arrays.Room<float>(steered * experts);
  if (!arrays.Make()) return;
  const int32_t* row_k = arrays.Put(args.row_k);
  const int32_t* row_steering = arrays.Put(args.row_steering);
  float* steering = arrays.Place<float>(steered * experts, &params.steering);
  for (int64_t r = 0; r < steered; ++r) {
    std::copy_n(static_cast<const float*>(args.steering.Row(r)), experts, steering + r * experts);
  }
  if (!args.row_k.empty()) params.row_k = row_k;
  if (!args.row_steering.empty()) params.row_steering = row_steering;
  arrays.Send();
  CudaTopKGate(stream_.get(), params);
}

// Tensor cores round sums as their generation does, so the whole compute capability counts. In the
// fast mode bits depend on the batch as well, and on cuBLASLt.
absl::StatusOr<std::string> ReadNumericsClass(const CudaOptions& options) {
  int major = 0, minor = 0;
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, options.device),
                 "cuda ops: reading the compute capability"));
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, options.device),
                 "cuda ops: reading the compute capability"));
  return absl::StrCat("cuda/sm", major, minor, "/k", kCudaKernelSet, "/", DTypeName(options.math),
                      options.deterministic ? "/deterministic" : "/fast");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps(Device* device, const CudaOptions& options) {
  auto* cuda = dynamic_cast<CudaDevice*>(device);
  if (cuda == nullptr || cuda->index() != options.device) {
    return absl::InvalidArgumentError(
        absl::StrCat("cuda ops: expected device cuda:", options.device, ", found ",
                     device == nullptr ? "none" : device->Name()));
  }
  if (options.math != DType::kF32 && options.math != DType::kBF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("cuda ops: math: expected f32 or bf16, found ", DTypeName(options.math)));
  }
  CCOE_ASSIGN_OR_RETURN(std::string numerics_class, ReadNumericsClass(options));
  CCOE_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream, Stream::Create(options));
  CCOE_ASSIGN_OR_RETURN(std::unique_ptr<ExpertTables> experts, ExpertTables::Create(stream.get()));
  std::unique_ptr<Blas> blas;
  if (!options.deterministic) {
    CCOE_ASSIGN_OR_RETURN(blas, Blas::Create());
  }
  return std::unique_ptr<Ops>(std::make_unique<CudaOps>(cuda, options, std::move(numerics_class),
                                                        std::move(stream), std::move(experts),
                                                        std::move(blas)));
}

int64_t CudaGraphsLaunched(const Ops& ops) {
  const auto* cuda = dynamic_cast<const CudaOps*>(&ops);
  return cuda == nullptr ? 0 : cuda->graphs_launched();
}

}  // namespace ccoe::kernels
