// SPDX-License-Identifier: Apache-2.0
// Sequences for tests of the engine's parts.
#ifndef CCOE_TESTS_TESTING_TEST_SEQUENCE_H_
#define CCOE_TESTS_TESTING_TEST_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/engine/directory.h"
#include "runtime/engine/sequence.h"
#include "tests/testing/recording_sink.h"

namespace ccoe::testing {

inline const absl::Time kTestTime = absl::UnixEpoch() + absl::Hours(1);

// A query whose prompt is 0, 1, 2, ... and which generates up to `max_tokens`.
inline engine::SequenceInit TestInit(uint64_t handle, int64_t prompt_tokens,
                                     AnswerRecorder& recorder, int64_t max_tokens = 10) {
  engine::SequenceInit init;
  init.handle = handle;
  init.query.query_id = "q" + std::to_string(handle);
  for (int64_t i = 0; i < prompt_tokens; ++i) init.query.prompt.push_back(static_cast<int32_t>(i));
  init.sink = recorder.Sink();
  init.max_tokens = max_tokens;
  init.submitted = kTestTime;
  return init;
}

inline std::shared_ptr<engine::Sequence> TestSequence(
    uint64_t handle, int64_t prompt_tokens, AnswerRecorder& recorder,
    std::shared_ptr<const engine::ExpertBinding> binding = nullptr) {
  engine::SequenceInit init = TestInit(handle, prompt_tokens, recorder);
  init.binding = std::move(binding);
  return std::make_shared<engine::Sequence>(std::move(init));
}

inline std::shared_ptr<const engine::ExpertBinding> TestBinding(
    const char* name, model::LayerRange layers, std::shared_ptr<exchange::ActivationLink> link) {
  auto binding = std::make_shared<engine::ExpertBinding>();
  binding->expert = {name, 1};
  binding->layers = layers;
  binding->link = std::move(link);
  binding->worker_id = std::string("worker-of-") + name;
  return binding;
}

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_TEST_SEQUENCE_H_
