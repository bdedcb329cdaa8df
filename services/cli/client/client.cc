// SPDX-License-Identifier: Apache-2.0
#include "services/cli/client/client.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "runtime/base/ids.h"
#include "runtime/base/status_macros.h"
#include "services/backbone/proto_conversions.h"
#include "services/common/channel_factory.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::cli {

void AddClientFlags(CLI::App* command, ClientFlags& flags) {
  AddFlag(command, "--server", flags.server, "Address of the gateway, HOST:PORT.");
  AddFlag(command, "--timeout", flags.timeout_seconds, "Longest wait for an answer, in seconds.")
      .Range(0.001, 86400.0);
}

void ToProto(const SamplingFlags& flags, v1::Sampling* sampling) {
  sampling->set_temperature(flags.temperature);
  sampling->set_top_k(flags.top_k);
  sampling->set_top_p(flags.top_p);
  sampling->set_min_p(flags.min_p);
  sampling->set_repetition_penalty(flags.repetition_penalty);
  sampling->set_presence_penalty(flags.presence_penalty);
  sampling->set_frequency_penalty(flags.frequency_penalty);
  if (flags.seed >= 0) sampling->set_seed(static_cast<uint64_t>(flags.seed));
  sampling->set_min_tokens(flags.min_tokens);
  sampling->set_max_tokens(flags.max_tokens);
  sampling->set_ignore_eos(flags.ignore_eos);
}

absl::Status SetMoe(const MoeFlags& flags, v1::GenerateRequest& request) {
  CCOE_ASSIGN_OR_RETURN(const auto control, ToMoeControl(flags));
  if (control != nullptr) *request.mutable_moe() = services::MoeControlToProto(*control);
  return absl::OkStatus();
}

void SetPrompt(const Request& prompt, bool raw, v1::GenerateRequest& request) {
  if (!prompt.is_text) {
    *request.mutable_token_ids()->mutable_ids() = {prompt.token_ids.begin(),
                                                   prompt.token_ids.end()};
  } else if (raw) {
    request.set_text(prompt.text);
  } else {
    request.clear_input();
    v1::ChatMessage* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(prompt.text);
  }
}

std::string DecisionName(const v1::Decision& decision) {
  if (decision.expert().name().empty()) return "base";
  return ExpertRef{decision.expert().name(), decision.expert().version()}.ToString();
}

absl::Status AtServer(const absl::Status& status, const std::string& server,
                      grpc::Channel& channel) {
  const absl::Status named = Annotate(status, absl::StrCat("server ", server));
  if (!absl::IsUnavailable(status) ||
      channel.GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY) {
    return named;
  }
  return absl::UnavailableError(
      absl::StrCat(named.message(), "; is it running (ccoe up), and is --server right?"));
}

double StreamedAnswer::TokensPerSecond() const {
  const double seconds = absl::ToDoubleSeconds(total - time_to_first_token);
  return token_ids.size() < 2 || seconds <= 0 ? 0.0
                                              : static_cast<double>(token_ids.size() - 1) / seconds;
}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const ClientFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto channel,
                        services::ChannelFactory(nullptr).Connect(flags.server));
  return std::unique_ptr<Client>(new Client(flags, channel));
}

absl::Status Client::ToStatus(const grpc::Status& status) const {
  const absl::Status result = services::FromGrpc(status);
  // What the server says itself is the answer.
  return absl::IsUnavailable(result) ? AtServer(result, flags_.server, *channel_) : result;
}

absl::StatusOr<StreamedAnswer> Client::Generate(
    const v1::GenerateRequest& request, const std::function<void(const v1::Started&)>& on_started,
    const std::function<void(const std::string&)>& on_text) const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(flags_.timeout_seconds)));
  StreamedAnswer answer;
  const absl::Time sent = absl::Now();
  auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (response.has_started()) {
      answer.started = response.started();
      if (on_started) on_started(answer.started);
    } else if (response.has_delta()) {
      if (answer.token_ids.empty() && response.delta().tokens_size() > 0)
        answer.time_to_first_token = absl::Now() - sent;
      for (const v1::Token& token : response.delta().tokens())
        answer.token_ids.push_back(token.id());
      answer.text += response.delta().text();
      if (on_text) on_text(response.delta().text());
    } else if (response.has_finished()) {
      answer.finished = response.finished();
    }
  }
  const absl::Status status = ToStatus(reader->Finish());
  if (!status.ok()) return status;
  answer.total = absl::Now() - sent;
  return answer;
}

absl::StatusOr<v1::Decision> Client::Route(const v1::RouteTextRequest& request) const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(flags_.timeout_seconds)));
  v1::Decision decision;
  const absl::Status status = ToStatus(stub_->Route(&context, request, &decision));
  if (!status.ok()) return status;
  return decision;
}

absl::StatusOr<v1::ListExpertsResponse> Client::ListExperts() const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(flags_.timeout_seconds)));
  v1::ListExpertsResponse response;
  const absl::Status status = ToStatus(stub_->ListExperts(&context, {}, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request) const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(flags_.timeout_seconds)));
  v1::TokenizeResponse response;
  const absl::Status status = ToStatus(stub_->Tokenize(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

}  // namespace ccoe::cli
