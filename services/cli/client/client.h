// SPDX-License-Identifier: Apache-2.0
// The client side of the native gRPC service, for the commands that talk to a running cluster.
#ifndef CCOE_SERVICES_CLI_CLIENT_CLIENT_H_
#define CCOE_SERVICES_CLI_CLIENT_CLIENT_H_

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "services/cli/command.h"
#include "services/cli/flags.h"
#include "services/cli/requests.h"

namespace ccoe::cli {

struct ClientFlags {
  std::string server = "127.0.0.1:8001";
  double timeout_seconds = 300;
};

// --server and --timeout.
void AddClientFlags(CLI::App* command, ClientFlags& flags);

// Fills `sampling` with what `flags` say.
void ToProto(const SamplingFlags& flags, v1::Sampling* sampling);

// Fills the request's control of gates with what `flags` say. A UsageError names the flag.
absl::Status SetMoe(const MoeFlags& flags, v1::GenerateRequest& request);

// Token ids, or text: with `raw` as it stands, else as a user's message in the model's chat
// template.
void SetPrompt(const Request& prompt, bool raw, v1::GenerateRequest& request);

// "math@1" or "base".
std::string DecisionName(const v1::Decision& decision);

// The error of a call to `server` over `channel`, under the server's address. Where none is reached
// it takes a hint.
absl::Status AtServer(const absl::Status& status, const std::string& server,
                      grpc::Channel& channel);

// One answer, as it was streamed.
struct StreamedAnswer {
  v1::Started started;
  v1::Finished finished;
  std::string text;
  std::vector<int32_t> token_ids;
  absl::Duration time_to_first_token = absl::ZeroDuration();
  absl::Duration total = absl::ZeroDuration();

  // Tokens a second after the first; 0 where there are fewer than two.
  double TokensPerSecond() const;
};

// Thread-safe.
class Client {
 public:
  // Does not wait for the server: a missing one shows at the first call.
  static absl::StatusOr<std::unique_ptr<Client>> Create(const ClientFlags& flags);

  // Errors: what the server said; UNAVAILABLE names the address where nothing answers.
  // `on_delta` (may be empty) gets each piece of text as it comes.
  absl::StatusOr<StreamedAnswer> Generate(
      const v1::GenerateRequest& request,
      const std::function<void(const v1::Started&)>& on_started = nullptr,
      const std::function<void(const std::string&)>& on_text = nullptr) const;
  absl::StatusOr<v1::Decision> Route(const v1::RouteTextRequest& request) const;
  absl::StatusOr<v1::ListExpertsResponse> ListExperts() const;
  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request) const;

  const std::string& server() const { return flags_.server; }

 private:
  Client(const ClientFlags& flags, std::shared_ptr<grpc::Channel> channel)
      : flags_(flags), channel_(channel), stub_(v1::Inference::NewStub(channel)) {}

  absl::Status ToStatus(const grpc::Status& status) const;

  const ClientFlags flags_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Inference::Stub> stub_;
};

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_CLIENT_CLIENT_H_
