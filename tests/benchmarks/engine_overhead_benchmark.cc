// What the engine itself costs: its time for each answer of an expert, with few and with many
// sequences alive. The model is tiny and its experts echo, so that what is left is bookkeeping. The
// head's product over one row is in it, and the same in every line.
//
// items_per_second are answers; compare the time of a line with that of 100 sequences.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "benchmark/benchmark.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/check.h"
#include "runtime/base/parallel.h"
#include "runtime/engine/engine.h"
#include "runtime/model/random_model.h"
#include "runtime/model/weights.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/temp_folder.h"

namespace ccoe {
namespace {

constexpr int64_t kTokens = 16;  // of each answer

model::RandomModelOptions TinyModel() {
  model::RandomModelOptions options;
  options.hidden_size = 32;
  options.layers = 2;
  options.heads = 1;
  options.kv_heads = 1;
  options.head_dim = 32;
  options.intermediate_size = 32;
  options.vocab_size = 64;
  options.max_positions = 64;
  options.dtype = kernels::DType::kF32;
  return options;
}

engine::BackboneModel LoadTinyModel(const std::string& folder, ThreadTeam& team) {
  CCOE_CHECK(model::WriteRandomModel(TinyModel(), folder, team).ok());
  engine::BackboneModel backbone;
  backbone.spec = *model::RandomModelSpec(TinyModel());
  const auto weights = *model::Weights::Open(folder);
  backbone.embedding = *model::TokenEmbedding::Create(backbone.spec, weights);
  backbone.decoder = *model::Decoder::Create(backbone.spec, {0, 2}, weights);
  backbone.head = *model::LmHead::Create(backbone.spec, weights);
  return backbone;
}

// Every name is an expert of its own over the second layer, so that each sequence is a swap of its
// own and answers come one by one.
class EchoDirectory final : public engine::ExpertDirectory {
 public:
  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> Find(
      const ExpertRef& expert) override {
    auto binding = std::make_shared<engine::ExpertBinding>();
    binding->expert = {expert.name, 1};
    binding->layers = {1, 2};
    binding->link = link_;
    return binding;
  }
  absl::StatusOr<std::shared_ptr<const engine::ExpertBinding>> FindReplica(
      const engine::ExpertBinding&, const engine::LinkList&) override {
    return absl::UnavailableError("no replicas");
  }

 private:
  const std::shared_ptr<testing::FakeLink> link_ = std::make_shared<testing::FakeLink>();
};

class CountingSink final : public engine::TokenSink {
 public:
  explicit CountingSink(absl::BlockingCounter* left) : left_(left) {}
  void OnToken(const engine::GeneratedToken&) override {}
  void OnFinish(engine::FinishReason, const absl::Status& status, const engine::Usage&) override {
    CCOE_CHECK(status.ok());
    left_->DecrementCount();
  }

 private:
  absl::BlockingCounter* const left_;
};

void BM_EngineTimeOfAnAnswer(benchmark::State& state) {
  const auto sequences = static_cast<int>(state.range(0));
  ThreadTeam team(1);
  testing::TempFolder folder;
  engine::EngineOptions options;
  options.page_tokens = 32;
  options.kv_tokens = sequences * 64;
  options.max_running = sequences;
  options.max_waiting = sequences;
  options.max_step_tokens = sequences;
  EchoDirectory directory;
  auto engine = *engine::Engine::Create(LoadTinyModel(folder.path(), team),
                                        kernels::MakeCpuOps(&team), &directory, nullptr, options);
  for (auto _ : state) {
    absl::BlockingCounter left(sequences);
    for (int i = 0; i < sequences; ++i) {
      engine::EngineRequest request;
      request.prompt = {1, 2};
      request.expert.name = absl::StrCat("expert-", i);
      request.sampling.temperature = 0.0f;
      request.sampling.max_tokens = kTokens;
      request.sampling.ignore_eos = true;
      CCOE_CHECK(engine->Submit(std::move(request), std::make_unique<CountingSink>(&left)).ok());
    }
    left.Wait();
  }
  state.SetItemsProcessed(state.iterations() * sequences * kTokens);
}
BENCHMARK(BM_EngineTimeOfAnAnswer)->Arg(100)->Arg(300)->Arg(1000)->UseRealTime();

}  // namespace
}  // namespace ccoe

BENCHMARK_MAIN();
