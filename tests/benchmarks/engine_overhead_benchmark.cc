// SPDX-License-Identifier: Apache-2.0
// What the engine itself costs. The experts echo, so that what is left is its own.
//
// BM_EngineTimeOfAnAnswer: its time for each answer of an expert, with few and with many sequences
// alive, over a tiny model. items_per_second are answers; compare the time of a line with that of
// 100 sequences.
//
// BM_HeadOfManyExperts: 16 sequences of one expert, and of 16, over a large head, which is read
// once for all answers that come together. Compare the second line with the first.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "benchmark/benchmark.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/check.h"
#include "runtime/base/parallel.h"
#include "runtime/engine/engine.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/model/families/random_model.h"
#include "runtime/model/weights.h"
#include "tests/testing/temp_folder.h"

namespace ccoe {
namespace {

constexpr int64_t kTokens = 16;  // of each answer

struct Size {
  int64_t hidden = 32;
  int64_t vocabulary = 64;
};

model::RandomModelOptions TinyModel(const Size& size) {
  model::RandomModelOptions options;
  options.hidden_size = size.hidden;
  options.layers = 2;
  options.heads = 1;
  options.kv_heads = 1;
  options.head_dim = 32;
  options.intermediate_size = 32;
  options.vocab_size = size.vocabulary;
  options.max_positions = 64;
  options.dtype = kernels::DType::kF32;
  return options;
}

engine::BackboneModel LoadTinyModel(const Size& size, const std::string& folder, ThreadTeam& team) {
  CCOE_CHECK(model::WriteRandomModel(TinyModel(size), folder, team).ok());
  engine::BackboneModel backbone;
  backbone.spec = *model::RandomModelSpec(TinyModel(size));
  const auto weights = *model::Weights::Open(folder);
  backbone.embedding = *model::TokenEmbedding::Create(backbone.spec, weights);
  backbone.decoder = *model::Decoder::Create(backbone.spec, {0, 2}, weights);
  backbone.head = *model::LmHead::Create(backbone.spec, weights);
  return backbone;
}

// Answers each swap at once with the rows sent, and keeps nothing.
class EchoLink final : public exchange::ActivationLink {
 public:
  void Send(exchange::Envelope envelope, exchange::SwapCallback done) override {
    for (const exchange::Swap& swap : envelope.swaps) {
      const int64_t width = swap.header.format.hidden_size;
      const float* const rows = swap.rows.block.host().data();
      exchange::SwapResult result;
      int64_t end = 0;
      for (const exchange::SwapSequence& sequence : swap.header.layer()->sequences) {
        end += sequence.row_count;
        for (int64_t r = end - sequence.returned(); r < end; ++r) {
          const float* const row = rows + swap.rows.index[static_cast<size_t>(r)] * width;
          result.rows.insert(result.rows.end(), row, row + width);
        }
      }
      done(swap.header.id, std::move(result));
    }
  }
  void CancelSwaps(std::vector<uint64_t>) override {}
  void ReleaseSequence(uint64_t) override {}
  bool healthy() const override { return true; }
  absl::Status Health() const override { return absl::OkStatus(); }
  std::string WhereIs(uint64_t) const override { return "nowhere"; }
  void Close() override {}
  std::string Name() const override { return "echo"; }
};

// Every name is an expert over the second layer.
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
  const std::shared_ptr<EchoLink> link_ = std::make_shared<EchoLink>();
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

// `sequences` answers at a time, of `experts` experts in turn.
void Run(benchmark::State& state, const Size& size, int sequences, int experts) {
  ThreadTeam team(1);
  testing::TempFolder folder;
  engine::EngineOptions options;
  options.page_tokens = 32;
  options.kv_tokens = sequences * 64;
  options.max_running = sequences;
  options.max_waiting = sequences;
  options.max_step_tokens = sequences;
  EchoDirectory directory;
  auto engine = *engine::Engine::Create(LoadTinyModel(size, folder.path(), team),
                                        kernels::MakeCpuOps(&team), &directory, nullptr, options);
  for (auto _ : state) {
    absl::BlockingCounter left(sequences);
    for (int i = 0; i < sequences; ++i) {
      engine::EngineRequest request;
      request.prompt = {1, 2};
      request.expert.name = absl::StrCat("expert-", i % experts);
      request.sampling.temperature = 0.0f;
      request.sampling.max_tokens = kTokens;
      request.sampling.ignore_eos = true;
      CCOE_CHECK(engine->Submit(std::move(request), std::make_unique<CountingSink>(&left)).ok());
    }
    left.Wait();
  }
  state.SetItemsProcessed(state.iterations() * sequences * kTokens);
}

void BM_EngineTimeOfAnAnswer(benchmark::State& state) {
  const auto sequences = static_cast<int>(state.range(0));
  Run(state, {}, sequences, sequences);
}
BENCHMARK(BM_EngineTimeOfAnAnswer)->Arg(100)->Arg(300)->Arg(1000)->UseRealTime();

void BM_HeadOfManyExperts(benchmark::State& state) {
  Run(state, {512, 32768}, 16, static_cast<int>(state.range(0)));
}
BENCHMARK(BM_HeadOfManyExperts)->Arg(1)->Arg(16)->UseRealTime();

}  // namespace
}  // namespace ccoe

BENCHMARK_MAIN();
