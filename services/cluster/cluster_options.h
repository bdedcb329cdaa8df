// What `ccoe up` runs, in one process or in several.
#ifndef CCOE_SERVICES_CLUSTER_CLUSTER_OPTIONS_H_
#define CCOE_SERVICES_CLUSTER_CLUSTER_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "runtime/engine/engine_options.h"
#include "services/cluster/model_layout.h"
#include "services/common/compute.h"
#include "services/common/row_carriers.h"

namespace ccoe::services {

struct ClusterOptions {
  ModelLayout model;
  // 0 to 64; not used for a dense model without layer experts. nullopt: 1 with layer experts, else
  // 0. With 0 the FFN experts of a model are with the backbone workers.
  std::optional<int> expert_workers;
  int backbone_workers = 1;                      // 1 to 16, sharing the expert workers
  int ffn_copies = 1;                            // of every FFN expert, on different expert workers
  std::string placement_file;                    // of FFN experts; empty: one is made
  std::string listen = "127.0.0.1:8001";         // gRPC, for clients
  std::string http = "127.0.0.1:8002";           // /metrics and /healthz
  ComputeOptions compute;                        // of every worker
  RowTransport transport = RowTransport::kAuto;  // between processes
  int threads = 0;                               // of a process's compute team; 0: all cores
  int64_t expert_kv_tokens = 65536;              // KV capacity of each expert on each worker
  int64_t max_queries = 256;                     // at once, at the gateway
  bool without_base_top =
      false;  // leave the base's own top layers out: every query needs an expert
  engine::EngineOptions engine;
  absl::Duration drain_timeout = absl::Seconds(30);  // that running queries get to end in a drain
  absl::Duration start_timeout = absl::Minutes(10);  // until everything answers
  // Told what is going on while the cluster starts, for people. Unset: nothing.
  std::function<void(const std::string& what)> on_progress;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_CLUSTER_CLUSTER_OPTIONS_H_
