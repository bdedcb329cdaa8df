// SPDX-License-Identifier: Apache-2.0
// The engine with its expert workers in one process and no cluster around it: what `ccoe score`,
// `generate --offline` and the benchmarks run. The same engine, decoder, runner and links as in the
// cluster.
#ifndef CCOE_SERVICES_OFFLINE_OFFLINE_ENGINE_H_
#define CCOE_SERVICES_OFFLINE_OFFLINE_ENGINE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/engine/engine.h"
#include "services/common/compute.h"

namespace ccoe::services {

enum class ExchangeKind : uint8_t { kLocal, kGrpc };

// "local" or "grpc"; INVALID_ARGUMENT for anything else.
absl::StatusOr<ExchangeKind> ParseExchange(absl::string_view text);

struct OfflineOptions {
  std::string model_folder;
  std::vector<std::string> expert_folders;       // bundles; every expert worker holds all of them
  ExchangeKind exchange = ExchangeKind::kLocal;  // kGrpc: real connections over loopback
  // Up to 64. Each holds all bundles, whose queries are spread over them in turn, and its part of a
  // MoE model's FFN experts. 0: one for bundles; FFN experts are with the backbone.
  int expert_workers = 0;
  int ffn_copies = 1;                // of each FFN expert, on different workers
  int threads = 0;                   // of the compute team; 0: all cores
  ComputeOptions compute;            // one device for the backbone and all expert workers
  int32_t backbone_layers = 0;       // layers the backbone holds; 0: all
  int64_t expert_kv_tokens = 65536;  // KV capacity of each expert on each worker
  engine::EngineOptions engine;      // its kv_dtype is the device's
};

// Thread-safe.
class OfflineEngine {
 public:
  // Errors name the file, tensor or bundle.
  static absl::StatusOr<std::unique_ptr<OfflineEngine>> Create(const OfflineOptions& options);
  virtual ~OfflineEngine() = default;

  virtual engine::Engine& engine() = 0;
  virtual const model::ModelSpec& spec() const = 0;
  // The experts loaded, in the order of expert_folders.
  virtual const std::vector<ExpertRef>& experts() const = 0;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_OFFLINE_OFFLINE_ENGINE_H_
