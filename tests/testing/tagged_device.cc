// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/tagged_device.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/serving_thread.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::testing {
namespace {

// No address of a process has this bit, nor would the processor follow one that had.
constexpr uintptr_t kTag = uintptr_t{1} << 58;

// This thread is within RunCaptured, whose body may neither wait nor copy.
thread_local bool capturing = false;

template <typename T>
T* Tagged(T* host) {
  return host == nullptr ? nullptr : reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(host) | kTag);
}

template <typename T>
T* Untagged(T* tagged) {
  if (tagged == nullptr) return nullptr;
  CCOE_CHECK((reinterpret_cast<uintptr_t>(tagged) & kTag) != 0);  // else: host memory to an op
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(tagged) & ~kTag);
}

kernels::ConstMatrix On(kernels::ConstMatrix x) {
  x.data = Untagged(x.data);
  return x;
}

kernels::Matrix On(kernels::Matrix x) {
  x.data = Untagged(x.data);
  return x;
}

kernels::KvLayer On(kernels::KvLayer cache) {
  cache.k = Untagged(cache.k);
  cache.v = Untagged(cache.v);
  return cache;
}

int64_t Rounded(size_t size_bytes) { return (static_cast<int64_t>(size_bytes) + 511) & -512; }

// What is documented as host memory must not be the device's.
template <typename T>
absl::Span<const T> OfHost(absl::Span<const T> span) {
  CCOE_CHECK((reinterpret_cast<uintptr_t>(span.data()) & kTag) == 0);
  return span;
}

class TaggedOps final : public kernels::Ops {
 public:
  TaggedOps(TaggedDevice* device, std::unique_ptr<kernels::Ops> ops)
      : device_(device), ops_(std::move(ops)) {}

  kernels::Device& device() override { return *device_; }
  std::string NumericsClass() const override { return ops_->NumericsClass(); }

  void EmbedRows(kernels::ConstMatrix table, absl::Span<const int32_t> ids, float scale,
                 kernels::Matrix out) override {
    ops_->EmbedRows(On(table), OfHost(ids), scale, On(out));
  }
  void RmsNorm(kernels::ConstMatrix x, kernels::ConstMatrix weight, float eps,
               kernels::Matrix out) override {
    ops_->RmsNorm(On(x), On(weight), eps, On(out));
  }
  void Linear(kernels::ConstMatrix x, absl::Span<const kernels::LinearPart> parts) override {
    std::vector<kernels::LinearPart> on;
    for (const kernels::LinearPart& part : OfHost(parts)) {
      on.push_back({On(part.weight), On(part.bias), On(part.out), part.accumulate});
    }
    ops_->Linear(On(x), on);
  }
  void HeadLinear(const kernels::HeadLinearArgs& args) override {
    kernels::HeadLinearArgs on = args;
    on.x = On(args.x);
    on.weight = On(args.weight);
    on.out = On(args.out);
    ops_->HeadLinear(on);
  }
  void RopeAngles(const kernels::RopeAnglesArgs& args) override {
    ops_->RopeAngles({OfHost(args.positions), OfHost(args.frequencies), args.magnitude,
                      On(args.cos), On(args.sin)});
  }
  void RopeAndAppendKv(const kernels::RopeAndAppendKvArgs& args) override {
    ops_->RopeAndAppendKv({On(args.q), On(args.k), On(args.v), On(args.cos), On(args.sin),
                           args.style, OfHost(args.slots), On(args.cache)});
  }
  void PagedAttention(const kernels::PagedAttentionArgs& args) override {
    kernels::PagedAttentionArgs on = args;
    on.q = On(args.q);
    on.cache = On(args.cache);
    for (const kernels::SequenceRows& sequence : OfHost(args.sequences)) {
      OfHost(sequence.block_table);
    }
    on.out = On(args.out);
    ops_->PagedAttention(on);
  }
  void GatedActivation(kernels::Activation activation, kernels::ConstMatrix gate,
                       kernels::ConstMatrix up, kernels::Matrix out) override {
    ops_->GatedActivation(activation, On(gate), On(up), On(out));
  }
  void AddRows(kernels::ConstMatrix x, kernels::Matrix sum) override {
    ops_->AddRows(On(x), On(sum));
  }
  void ScaleRows(float scale, float soft_cap, kernels::Matrix x) override {
    ops_->ScaleRows(scale, soft_cap, On(x));
  }
  void ScaleRowsBySigmoid(kernels::ConstMatrix gate, kernels::Matrix x) override {
    ops_->ScaleRowsBySigmoid(On(gate), On(x));
  }
  void ClampRows(float limit, kernels::Matrix x) override { ops_->ClampRows(limit, On(x)); }
  void AddRmsNorm(kernels::ConstMatrix x, kernels::ConstMatrix weight, float eps,
                  kernels::Matrix sum) override {
    ops_->AddRmsNorm(On(x), On(weight), eps, On(sum));
  }
  absl::Status SampleRows(const kernels::SampleRowsArgs& args,
                          absl::Span<kernels::SampledRow> out) override {
    CCOE_CHECK(!capturing);
    CCOE_RETURN_IF_ERROR(device_->error());  // it waits
    for (const kernels::SampleRow& row : OfHost(args.rows)) {
      OfHost(row.counts);
      OfHost(row.held_back);
    }
    OfHost(absl::Span<const kernels::SampledRow>(out));
    return ops_->SampleRows({On(args.logits), args.rows}, out);
  }

  void TopKGate(const kernels::TopKGateArgs& args) override {
    kernels::TopKGateArgs on = args;
    on.logits = On(args.logits);
    on.selection_bias = On(args.selection_bias);
    OfHost(args.row_k);
    OfHost(args.row_steering);
    CCOE_CHECK((reinterpret_cast<uintptr_t>(args.steering.data) & kTag) == 0);
    on.experts = Untagged(args.experts);
    on.weights = Untagged(args.weights);
    ops_->TopKGate(on);
  }
  void GroupedFfn(const kernels::GroupedFfnArgs& args) override {
    std::vector<kernels::ExpertGroup> groups;
    for (const kernels::ExpertGroup& group : OfHost(args.groups)) {
      groups.push_back(
          {On(group.gate), On(group.up), On(group.down), group.pair_begin, group.pair_count});
    }
    kernels::GroupedFfnArgs on = args;
    on.x = On(args.x);
    on.groups = groups;
    OfHost(args.x_rows);
    OfHost(args.out_rows);
    OfHost(args.weights);
    on.inputs = On(args.inputs);
    on.gate = On(args.gate);
    on.up = On(args.up);
    on.out = On(args.out);
    ops_->GroupedFfn(on);
  }
  void CombineRows(const kernels::CombineRowsArgs& args) override {
    ops_->CombineRows({On(args.contributions), OfHost(args.offsets), On(args.out)});
  }
  void MoeFfn(const kernels::MoeFfnArgs& args) override {
    std::vector<kernels::ExpertMatrices> experts;
    for (const kernels::ExpertMatrices& expert : OfHost(args.experts)) {
      experts.push_back({On(expert.gate), On(expert.up), On(expert.down)});
    }
    kernels::MoeFfnArgs on = args;
    on.x = On(args.x);
    on.experts = experts;
    on.chosen = Untagged(args.chosen);
    on.weights = Untagged(args.weights);
    on.contributions = On(args.contributions);
    on.inputs = On(args.inputs);
    on.gate = On(args.gate);
    on.up = On(args.up);
    on.out = On(args.out);
    ops_->MoeFfn(on);
  }
  void GatherRows(kernels::ConstMatrix x, absl::Span<const int32_t> rows,
                  kernels::Matrix out) override {
    ops_->GatherRows(On(x), OfHost(rows), On(out));
  }
  void ScatterRows(kernels::ConstMatrix x, absl::Span<const int32_t> rows,
                   kernels::Matrix out) override {
    ops_->ScatterRows(On(x), OfHost(rows), On(out));
  }
  void RunCaptured(uint64_t key, absl::FunctionRef<void()> body) override {
    CCOE_CHECK(!capturing);
    device_->CountCapturedStep();
    capturing = true;
    ops_->RunCaptured(key, body);
    capturing = false;
  }
  absl::Status Synchronize() override {
    CCOE_CHECK(!capturing);
    CCOE_RETURN_IF_ERROR(device_->error());
    return ops_->Synchronize();
  }

 private:
  TaggedDevice* const device_;
  const std::unique_ptr<kernels::Ops> ops_;
};

}  // namespace

absl::StatusOr<kernels::Buffer> TaggedDevice::Allocate(size_t size_bytes) {
  if (size_bytes == 0) return kernels::Buffer();
  CCOE_CHECK(!capturing);
  CCOE_CHECK(!kernels::ServingThread::here());
  CCOE_CHECK(!forbidden_.load());
  ++allocations_;
  const auto bytes = static_cast<int64_t>(size_bytes);
  if (free_bytes_.fetch_sub(bytes) < bytes) {
    free_bytes_.fetch_add(bytes);
    return absl::ResourceExhaustedError(
        absl::StrCat("tagged:0: cannot allocate ", size_bytes, " bytes"));
  }
  for (int64_t free = free_bytes_.load(), lowest = lowest_free_.load();
       free < lowest && !lowest_free_.compare_exchange_weak(lowest, free);) {
  }
  // The host's own device gives zeroed memory that becomes resident as it is used.
  auto* host = new absl::StatusOr<kernels::Buffer>(kernels::CpuDevice().Allocate(size_bytes + 64));
  if (!host->ok()) {
    const absl::Status status = host->status();
    delete host;
    free_bytes_.fetch_add(bytes);
    return status;
  }
  taken_bytes_.fetch_add(Rounded(size_bytes));
  // The owner of the memory lies before it.
  char* data = static_cast<char*>((*host)->data());
  std::memcpy(data, &host, sizeof(host));
  return kernels::Buffer(this, Tagged(data + 64), size_bytes);
}

void TaggedDevice::Free(void* data, size_t size_bytes) {
  absl::StatusOr<kernels::Buffer>* host = nullptr;
  std::memcpy(&host, static_cast<char*>(Untagged(data)) - 64, sizeof(host));
  delete host;
  taken_bytes_.fetch_sub(Rounded(size_bytes));
  free_bytes_.fetch_add(static_cast<int64_t>(size_bytes));
}

absl::Status TaggedDevice::BeforeCopy() {
  CCOE_CHECK(!capturing);
  std::function<absl::Status()> hook;
  {
    absl::MutexLock lock(&mutex_);
    if (!error_.ok()) return error_;
    hook = copy_hook_;
  }
  return hook ? hook() : absl::OkStatus();
}

absl::Status TaggedDevice::CopyFromHost(const void* host, void* device, size_t size_bytes) {
  CCOE_RETURN_IF_ERROR(BeforeCopy());
  OfHost(absl::MakeConstSpan(static_cast<const char*>(host), size_bytes));
  uploaded_bytes_.fetch_add(static_cast<int64_t>(size_bytes));
  if (size_bytes > 0) std::memcpy(Untagged(device), host, size_bytes);
  return absl::OkStatus();
}

absl::Status TaggedDevice::CopyToHost(const void* device, void* host, size_t size_bytes) {
  CCOE_RETURN_IF_ERROR(BeforeCopy());
  OfHost(absl::MakeConstSpan(static_cast<const char*>(host), size_bytes));
  downloaded_bytes_.fetch_add(static_cast<int64_t>(size_bytes));
  if (size_bytes > 0) std::memcpy(host, Untagged(device), size_bytes);
  return absl::OkStatus();
}

std::unique_ptr<kernels::Ops> MakeTaggedOps(TaggedDevice* device, ThreadTeam* team) {
  return std::make_unique<TaggedOps>(device, kernels::MakeCpuOps(team));
}

void* HostAddress(const void* tagged) { return const_cast<void*>(Untagged(tagged)); }

}  // namespace ccoe::testing
