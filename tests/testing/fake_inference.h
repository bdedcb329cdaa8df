// SPDX-License-Identifier: Apache-2.0
// A gateway without a model: answers are a function of the prompt, so that the same question always
// gets the same tokens.
#ifndef CCOE_TESTS_TESTING_FAKE_INFERENCE_H_
#define CCOE_TESTS_TESTING_FAKE_INFERENCE_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "runtime/base/check.h"
#include "services/common/server_runner.h"

namespace ccoe::testing {

class FakeInference final : public v1::Inference::Service {
 public:
  static constexpr int32_t kVocabulary = 97;

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    const int number = Enter(*request);
    grpc::Status status = before_answer ? before_answer(number, context) : grpc::Status::OK;
    if (status.ok()) Answer(*request, writer);
    absl::MutexLock lock(&mutex_);
    --running_;
    return status;
  }

  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse*) override {
    for (const int32_t id : request->token_ids().ids()) {
      if (id >= kVocabulary) return {grpc::StatusCode::INVALID_ARGUMENT, "no such id"};
    }
    return grpc::Status::OK;
  }

  grpc::Status ListExperts(grpc::ServerContext*, const v1::ListExpertsRequest*,
                           v1::ListExpertsResponse* response) override {
    for (const char* name : {"code", "math"}) {
      v1::Expert* expert = response->add_experts()->mutable_expert();
      expert->set_name(name);
      expert->set_version(1);
    }
    return grpc::Status::OK;
  }

  std::vector<v1::GenerateRequest> requests() {
    absl::MutexLock lock(&mutex_);
    return requests_;
  }
  int peak() {
    absl::MutexLock lock(&mutex_);
    return peak_;
  }

  // Called with the request's number in order of arrival, from 0; an error is what it gets. Set
  // before the first call.
  std::function<grpc::Status(int number, grpc::ServerContext* context)> before_answer;
  int32_t first_token = 0;  // added to all tokens

 private:
  int Enter(const v1::GenerateRequest& request) {
    absl::MutexLock lock(&mutex_);
    requests_.push_back(request);
    peak_ = std::max(peak_, ++running_);
    return static_cast<int>(requests_.size()) - 1;
  }

  void Answer(const v1::GenerateRequest& request,
              grpc::ServerWriter<v1::GenerateResponse>* writer) const {
    v1::Decision decision;
    if (request.expert() != "base") {
      const std::vector<std::string> parts = absl::StrSplit(request.expert(), '@');
      decision.mutable_expert()->set_name(parts[0].empty() ? "routed" : parts[0]);
      decision.mutable_expert()->set_version(1);
    }
    int32_t sum = first_token + static_cast<int32_t>(request.chat().messages_size());
    for (const int32_t id : request.token_ids().ids()) sum += id;
    v1::GenerateResponse response;
    *response.mutable_started()->mutable_decision() = decision;
    response.mutable_started()->set_prompt_tokens(request.token_ids().ids_size());
    writer->Write(response);
    for (int64_t i = 0; i < request.sampling().max_tokens(); ++i) {
      response.mutable_delta()->clear_tokens();
      response.mutable_delta()->add_tokens()->set_id(sum + static_cast<int32_t>(i));
      writer->Write(response);
    }
    *response.mutable_finished()->mutable_decision() = decision;
    writer->Write(response);
  }

  absl::Mutex mutex_;
  std::vector<v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mutex_);
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  int peak_ ABSL_GUARDED_BY(mutex_) = 0;
};

// `fake` behind a port of its own, which outlives the server.
inline std::unique_ptr<services::ServerRunner> Serve(FakeInference* fake) {
  services::ServerOptions options;
  options.services = {{fake, std::string(v1::Inference::service_full_name())}};
  auto server = services::ServerRunner::Start(std::move(options));
  CCOE_CHECK(server.ok());
  return *std::move(server);
}

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_FAKE_INFERENCE_H_
