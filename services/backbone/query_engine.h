// What the backbone service needs of an engine; a test puts a script in its place.
#ifndef CCOE_SERVICES_BACKBONE_QUERY_ENGINE_H_
#define CCOE_SERVICES_BACKBONE_QUERY_ENGINE_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/request.h"

namespace ccoe::services {

// As engine::Engine's methods of these names. Thread-safe.
class QueryEngine {
 public:
  virtual ~QueryEngine() = default;
  virtual absl::StatusOr<uint64_t> Submit(engine::EngineRequest query,
                                          std::unique_ptr<engine::TokenSink> sink) = 0;
  virtual void Cancel(uint64_t handle) = 0;
};

// The real one.
class LocalQueryEngine final : public QueryEngine {
 public:
  // `engine` must outlive this.
  explicit LocalQueryEngine(engine::Engine* engine) : engine_(engine) {}

  absl::StatusOr<uint64_t> Submit(engine::EngineRequest query,
                                  std::unique_ptr<engine::TokenSink> sink) override {
    return engine_->Submit(std::move(query), std::move(sink));
  }
  void Cancel(uint64_t handle) override { engine_->Cancel(handle); }

 private:
  engine::Engine* const engine_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_QUERY_ENGINE_H_
