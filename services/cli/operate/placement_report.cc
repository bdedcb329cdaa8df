// SPDX-License-Identifier: Apache-2.0
#include "services/cli/operate/placement_report.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "ccoe/v1/placement.pb.h"
#include "kernels/cpu/cpu_ops.h"
#include "nlohmann/json.hpp"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/grpc/exchange_service.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "runtime/model/ffn.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"
#include "services/cli/flags.h"
#include "services/common/channel_factory.h"
#include "services/common/server_runner.h"

namespace ccoe::cli {
namespace {

struct Shares {
  double backbone = 0;
  std::vector<double> workers;
};

// Of all MoE layers' load, each layer counting the same.
Shares SharesOf(const PlacementView& view) {
  Shares shares;
  shares.workers.assign(view.plan.workers.size(), 0.0);
  const model::FfnShard all = model::FfnShard::All(view.spec);
  const auto layers = static_cast<double>(all.layers().size());
  for (const auto& [layer, experts] : all.layers()) {
    const std::vector<double> of_layer = view.loads.Shares(view.spec, layer);
    for (const int32_t expert : experts) {
      const double share = of_layer[static_cast<size_t>(expert)] / layers;
      if (view.plan.with_backbone.Contains(layer, expert)) {
        shares.backbone += share;
        continue;
      }
      std::vector<size_t> holders;
      for (size_t w = 0; w < view.plan.workers.size(); ++w) {
        if (view.plan.workers[w].shard.Contains(layer, expert)) holders.push_back(w);
      }
      for (const size_t w : holders) {
        shares.workers[w] += share / static_cast<double>(holders.size());
      }
    }
  }
  return shares;
}

std::string Line(const std::string& name, const model::FfnShard& shard, int64_t budget, double load,
                 const PlacementView& view) {
  return absl::StrFormat("%-16s %8d %10s %10s %7.1f %%  %s\n", name, shard.size(),
                         ByteSizeText(placement::SizeOf(view.spec, shard, view.dtype).bytes()),
                         budget > 0 ? ByteSizeText(budget) : "none", 100 * load, shard.ToString());
}

// Of a PlacedWorker or PlacedBackbone.
template <typename Placed>
nlohmann::json Holder(const Placed& placed, const model::FfnShard& shard, double load,
                      const PlacementView& view) {
  nlohmann::json shards = nlohmann::json::array();
  for (const v1::PlacedShard& line : placed.shards()) {
    shards.push_back({{"layers", line.layers()}, {"experts", line.experts()}});
  }
  return {{"experts", shard.size()},
          {"bytes", placement::SizeOf(view.spec, shard, view.dtype).bytes()},
          {"load", load},
          {"shards", shards}};
}

constexpr int64_t kManyRows = 128;
// So much weight is cycled through that a row's expert is not in the cache, as it is not when a
// model runs.
constexpr int64_t kWeightBytes = 64 << 20;
constexpr int64_t kMostExperts = 16;
constexpr absl::Duration kMeasureTime = absl::Milliseconds(200);
constexpr int kMostRounds = 50;

// The fastest of several runs, after one that warms up.
absl::StatusOr<double> Fastest(absl::FunctionRef<absl::Status(int round)> run) {
  double fastest = std::numeric_limits<double>::infinity();
  const absl::Time end = absl::Now() + kMeasureTime;
  for (int round = 0; round <= kMostRounds; ++round) {
    const absl::Time begin = absl::Now();
    CCOE_RETURN_IF_ERROR(run(round));
    if (round > 0) fastest = std::min(fastest, absl::ToDoubleSeconds(absl::Now() - begin));
    if (round > 0 && absl::Now() > end) break;
  }
  return fastest;
}

// Experts of one layer's shape over rows of zeros and ones.
class ExpertMeter {
 public:
  ExpertMeter(const model::ModelSpec& spec, const model::FfnSpec& ffn, ThreadTeam* team)
      : ffn_(ffn),
        hidden_(spec.hidden_size),
        ops_(kernels::MakeCpuOps(team)),
        scratch_(&ops_->device()) {}

  absl::Status MakeWeights(kernels::DType dtype) {
    const int64_t elements = hidden_ * ffn_.moe.intermediate;
    const auto element_bytes = static_cast<int64_t>(kernels::DTypeBytes(dtype));
    const int64_t expert_bytes = 3 * elements * element_bytes;
    const int64_t experts = std::clamp<int64_t>(kWeightBytes / expert_bytes, 1, kMostExperts);
    CCOE_ASSIGN_OR_RETURN(weights_,
                          ops_->device().Allocate(static_cast<size_t>(experts * expert_bytes)));
    // Small normal numbers in all three types; touched, so that no page is the zero page.
    std::memset(weights_.data(), 0x3c, weights_.size_bytes());
    char* next = static_cast<char*>(weights_.data());
    const auto take = [&](int64_t rows, int64_t cols) {
      const kernels::ConstMatrix matrix{next, dtype, rows, cols, cols};
      next += elements * element_bytes;
      return matrix;
    };
    for (int64_t e = 0; e < experts; ++e) {
      model::FfnExpertWeights& expert = experts_.emplace_back();
      expert.gate = take(ffn_.moe.intermediate, hidden_);
      expert.up = take(ffn_.moe.intermediate, hidden_);
      expert.down = take(hidden_, ffn_.moe.intermediate);
    }
    const auto rows_bytes = static_cast<size_t>(kManyRows * hidden_) * sizeof(float);
    CCOE_ASSIGN_OR_RETURN(rows_, ops_->device().Allocate(rows_bytes));
    CCOE_ASSIGN_OR_RETURN(out_, ops_->device().Allocate(rows_bytes));
    return absl::OkStatus();
  }

  // Seconds of one expert over `rows` rows.
  absl::StatusOr<double> Measure(int64_t rows) {
    std::vector<int32_t> numbers(static_cast<size_t>(rows));
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<int32_t>(i);
    const std::vector<float> gates(numbers.size(), 1.0f);
    return Fastest([&](int round) {
      const auto expert = static_cast<int32_t>(round % static_cast<int>(experts_.size()));
      const std::vector<int32_t> experts(numbers.size(), expert);
      const kernels::Matrix x = kernels::F32Matrix(rows_.f32(), rows, hidden_);
      CCOE_RETURN_IF_ERROR(
          model::RunFfnExperts(ffn_, experts_, {x, numbers, experts, gates, numbers}, *ops_,
                               scratch_, kernels::F32Matrix(out_.f32(), rows, hidden_)));
      return ops_->Synchronize();
    });
  }

 private:
  const model::FfnSpec ffn_;
  const int64_t hidden_;
  const std::unique_ptr<kernels::Ops> ops_;
  kernels::Buffer weights_, rows_, out_;
  std::vector<model::FfnExpertWeights> experts_;
  model::MoeScratch scratch_;
};

// Sends the rows back as they came.
class Echo final : public exchange::SwapHandler {
 public:
  explicit Echo(int64_t hidden_size) : hidden_size_(hidden_size) {}

  void HandleEnvelope(uint64_t, exchange::Envelope envelope, exchange::SwapCallback done) override {
    for (const exchange::Swap& swap : envelope.swaps) {
      exchange::SwapResult result;
      const auto rows = swap.rows.block.host();
      result.rows.assign(rows.begin(), rows.end());
      done(swap.header.id, std::move(result));
    }
  }
  void HandleCancel(uint64_t, const std::vector<uint64_t>&) override {}
  void HandleRelease(uint64_t, uint64_t) override {}
  exchange::HostProgress Progress() const override { return {}; }
  std::string numerics() const override { return ""; }
  uint64_t AddPeer() override { return 1; }
  void RemovePeer(uint64_t) override {}
  int64_t hidden_size() const override { return hidden_size_; }

 private:
  const int64_t hidden_size_;
};

// A dispatch of `rows` rows, one expert each.
exchange::SwapHeader Dispatch(int64_t rows, int64_t hidden_size, kernels::DType wire_dtype) {
  exchange::SwapHeader header;
  header.format = {hidden_size, wire_dtype};
  exchange::FfnSwap& ffn = header.work.emplace<exchange::FfnSwap>();
  for (int64_t r = 0; r <= rows; ++r) ffn.offsets.push_back(static_cast<int32_t>(r));
  ffn.experts.assign(static_cast<size_t>(rows), 0);
  ffn.weights.assign(static_cast<size_t>(rows), 1.0f);
  return header;
}

// A server on loopback and a link to it.
class LinkMeter {
 public:
  LinkMeter(int64_t hidden_size, kernels::DType wire_dtype)
      : hidden_size_(hidden_size), wire_dtype_(wire_dtype), echo_(hidden_size) {}
  ~LinkMeter() {
    link_.reset();
    if (service_ != nullptr) service_->CloseLinks();
  }

  absl::Status Open() {
    exchange::ExchangeServiceOptions service;
    service.link.identity.hidden_size = hidden_size_;
    service_ = std::make_unique<exchange::ExchangeService>(&echo_, service);
    services::ServerOptions server;
    server.services = {{service_.get(), std::string(v1::Exchange::service_full_name())}};
    CCOE_ASSIGN_OR_RETURN(server_, services::ServerRunner::Start(std::move(server)));
    CCOE_ASSIGN_OR_RETURN(auto channel,
                          services::ChannelFactory(nullptr).Connect(server_->addresses().front()));
    exchange::GrpcLinkOptions options;
    options.name = "loopback";
    options.identity.hidden_size = hidden_size_;
    options.wire_dtype = wire_dtype_;
    CCOE_ASSIGN_OR_RETURN(link_, exchange::OpenGrpcLink(std::move(channel), options));
    return absl::OkStatus();
  }

  int64_t MostRows() const {
    const exchange::SwapForm form = {{hidden_size_, wire_dtype_}, /*experts_per_row=*/1};
    return std::clamp<int64_t>(exchange::MaxRows(form, link_->bounds()), 1, kManyRows);
  }

  // Seconds of a swap.
  absl::StatusOr<double> Measure(int64_t rows) {
    const exchange::SwapHeader header = Dispatch(rows, hidden_size_, wire_dtype_);
    const exchange::RowBlock data =
        std::vector<float>(static_cast<size_t>(rows * hidden_size_), 0.5f);
    return Fastest([&](int) {
      exchange::Envelope envelope;
      envelope.swaps.push_back({header, {data, {}}});
      envelope.swaps[0].header.id = ++last_swap_;
      absl::Notification answered;
      absl::Status status;
      link_->Send(std::move(envelope), [&](uint64_t, absl::StatusOr<exchange::SwapResult> result) {
        status = result.status();
        answered.Notify();
      });
      answered.WaitForNotification();
      return status;
    });
  }

 private:
  const int64_t hidden_size_;
  const kernels::DType wire_dtype_;
  Echo echo_;
  std::unique_ptr<exchange::ExchangeService> service_;
  std::unique_ptr<services::ServerRunner> server_;
  std::unique_ptr<exchange::ActivationLink> link_;
  uint64_t last_swap_ = 0;
};

}  // namespace

std::string PlacementTable(const PlacementView& view) {
  const Shares shares = SharesOf(view);
  std::string table =
      "worker            experts      bytes     budget      load  layers: experts\n";
  for (size_t w = 0; w < view.plan.workers.size(); ++w) {
    const placement::WorkerPlan& worker = view.plan.workers[w];
    absl::StrAppend(&table, Line(worker.worker_id, worker.shard, worker.memory_budget_bytes,
                                 shares.workers[w], view));
  }
  if (!view.plan.with_backbone.empty()) {
    absl::StrAppend(&table,
                    Line("(with backbone)", view.plan.with_backbone, 0, shares.backbone, view));
  }
  return table;
}

nlohmann::json PlacementJson(const PlacementView& view) {
  const Shares shares = SharesOf(view);
  const v1::PlacementPlan proto = placement::PlanToProto(view.plan);
  nlohmann::json workers = nlohmann::json::array();
  for (size_t w = 0; w < view.plan.workers.size(); ++w) {
    const placement::WorkerPlan& worker = view.plan.workers[w];
    nlohmann::json entry =
        Holder(proto.workers(static_cast<int>(w)), worker.shard, shares.workers[w], view);
    entry["worker_id"] = worker.worker_id;
    entry["memory_budget_bytes"] = worker.memory_budget_bytes;
    workers.push_back(std::move(entry));
  }
  return {{"model_fingerprint", view.plan.model_fingerprint},
          {"workers", workers},
          {"with_backbone",
           Holder(proto.with_backbone(), view.plan.with_backbone, shares.backbone, view)}};
}

absl::StatusOr<placement::Costs> MeasureCosts(const model::ModelSpec& spec, kernels::DType dtype,
                                              kernels::DType wire_dtype, ThreadTeam* team) {
  const auto layer = std::find_if(spec.layers.begin(), spec.layers.end(),
                                  [](const model::LayerSpec& l) { return l.ffn.is_moe(); });
  if (layer == spec.layers.end()) {
    return absl::InvalidArgumentError("costs of FFN experts: the model has none");
  }
  placement::Costs costs;
  ExpertMeter experts(spec, layer->ffn, team);
  CCOE_RETURN_IF_ERROR(experts.MakeWeights(dtype));
  CCOE_ASSIGN_OR_RETURN(costs.expert_seconds_1, experts.Measure(1));
  CCOE_ASSIGN_OR_RETURN(costs.expert_seconds_128, experts.Measure(kManyRows));

  LinkMeter link(spec.hidden_size, wire_dtype);
  CCOE_RETURN_IF_ERROR(link.Open());
  CCOE_ASSIGN_OR_RETURN(costs.round_trip_seconds, link.Measure(1));
  const int64_t rows = link.MostRows();
  CCOE_ASSIGN_OR_RETURN(const double many, link.Measure(rows));
  const auto bytes = static_cast<double>(2 * std::max<int64_t>(rows - 1, 1) * spec.hidden_size) *
                     static_cast<double>(kernels::DTypeBytes(wire_dtype));
  // Where the difference drowns in noise, a microsecond stands for it.
  costs.bytes_per_second = bytes / std::max(many - costs.round_trip_seconds, 1e-6);
  return costs;
}

}  // namespace ccoe::cli
