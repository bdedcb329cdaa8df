// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/query.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "glog/logging.h"
#include "runtime/base/status_macros.h"
#include "services/backbone/proto_conversions.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {

absl::Status Query::Run(const v1::GenerateRequest& request) {
  parts_.observer->OnBegin();
  const absl::Status status = Answer(request);
  parts_.observer->OnEnd(
      {status, routed_, route_.decision(), Usage(), parts_.clock->Now() - began_});
  return status;
}

absl::Status Query::Answer(const v1::GenerateRequest& request) {
  CCOE_ASSIGN_OR_RETURN(query_, PrepareQuery(request, *parts_.model));
  CCOE_ASSIGN_OR_RETURN(route_, parts_.routing->Route(query_.route));
  routed_ = true;
  if (route_.decision().has_expert()) {
    *query_.backbone.mutable_expert() = route_.decision().expert();
  }
  text_ = std::make_unique<TextStream>(parts_.model->tokenizer(), query_.stops);
  CCOE_RETURN_IF_ERROR(SendStarted());
  CCOE_RETURN_IF_ERROR(Generate());
  return SendFinished();
}

absl::Status Query::SendStarted() {
  v1::GenerateResponse response;
  v1::Started* started = response.mutable_started();
  started->set_request_id(query_.route.request_id());
  *started->mutable_decision() = route_.decision();
  started->set_prompt_tokens(query_.route.prompt_tokens());
  if (caller_.send(response)) return absl::OkStatus();
  return absl::CancelledError("the client is gone");
}

absl::Status Query::Generate() {
  std::vector<v1::BackboneWorker> workers = {route_.backbone()};
  workers.insert(workers.end(), route_.alternatives().begin(), route_.alternatives().end());
  absl::Status status;
  int waited = 0;
  for (size_t i = 0; i < workers.size(); ++i) {
    status = GenerateOn(workers[i]);
    if (!absl::IsUnavailable(status) || generated_ > 0) return status;
    // With a hint: the query waited there for expert workers. At one other, whose links may be
    // sound, it may wait too.
    if (RetryAfter(status).has_value() && ++waited == 2) return status;
    parts_.backbones->Forget(workers[i].address());
    LOG(WARNING) << "query " << query_.route.request_id() << ": backbone worker "
                 << workers[i].worker_id() << ": " << status.message();
  }
  return status;
}

absl::Status Query::GenerateOn(const v1::BackboneWorker& worker) {
  CCOE_ASSIGN_OR_RETURN(auto stub, parts_.backbones->Get(worker.address()));
  std::unique_ptr<grpc::ClientContext> context = caller_.new_context();
  std::unique_ptr<Reader> reader = stub->Generate(context.get(), query_.backbone);
  if (!ReadAnswer(*reader)) {
    // A call must be read to its end before Finish.
    context->TryCancel();
    v1::BackboneGenerateResponse rest;
    while (reader->Read(&rest)) {
    }
  }
  const absl::Status status = FromGrpc(reader->Finish(), *context);
  if (caller_gone_) return absl::CancelledError("the client is gone");
  if (done_) return absl::OkStatus();
  if (!status.ok()) return status;
  return absl::InternalError(absl::StrCat("backbone worker ", worker.worker_id(),
                                          " ended its answer without a last message"));
}

bool Query::ReadAnswer(Reader& reader) {
  v1::BackboneGenerateResponse response;
  while (reader.Read(&response)) {
    if (response.has_tokens() && !OnTokens(response.tokens())) return false;
    if (!response.has_done()) continue;
    finish_reason_ = response.done().reason();
    worker_usage_ = response.done().usage();
    if (response.done().has_moe()) applied_moe_ = response.done().moe();
    done_ = true;
  }
  return true;
}

bool Query::OnTokens(const v1::Tokens& tokens) {
  v1::Delta delta;
  for (const v1::Token& token : tokens.tokens()) {
    const absl::Time now = parts_.clock->Now();
    if (generated_ == 0) {
      first_token_ = now;
      parts_.observer->OnFirstToken(now - began_);
    } else {
      parts_.observer->OnNextToken(now - last_token_);
    }
    last_token_ = now;
    ++generated_;
    delta.mutable_text()->append(text_->Append(token.id()));
    *delta.add_tokens() = token;
    if (text_->stop().has_value()) break;
  }
  if (!SendDelta(std::move(delta))) return false;
  if (!text_->stop().has_value()) return true;
  done_ = true;
  return false;
}

bool Query::SendDelta(v1::Delta delta) {
  v1::GenerateResponse response;
  *response.mutable_delta() = std::move(delta);
  caller_gone_ = !caller_.send(response);
  return !caller_gone_;
}

absl::Status Query::SendFinished() {
  v1::Delta rest;
  rest.set_text(text_->Finish());
  if (!rest.text().empty()) SendDelta(std::move(rest));
  v1::GenerateResponse response;
  v1::Finished* finished = response.mutable_finished();
  finished->set_reason(finish_reason_);
  if (text_->stop().has_value()) {
    finished->set_reason(v1::FINISH_REASON_STOP);
    finished->set_stop(*text_->stop());
  }
  // A worker whose answer was ended early has accepted the control, or there would be no token.
  if (!worker_usage_.has_value() && query_.backbone.has_moe()) applied_moe_ = query_.backbone.moe();
  if (applied_moe_.has_value()) *finished->mutable_moe() = *applied_moe_;
  *finished->mutable_usage() = Usage();
  *finished->mutable_decision() = route_.decision();
  finished->set_request_id(query_.route.request_id());
  if (!caller_gone_ && caller_.send(response)) return absl::OkStatus();
  return absl::CancelledError("the client is gone");
}

v1::Usage Query::Usage() const {
  if (worker_usage_.has_value()) return *worker_usage_;
  v1::Usage usage;
  if (generated_ == 0) return usage;
  usage.set_prompt_tokens(query_.route.prompt_tokens());
  usage.set_generated_tokens(generated_);
  usage.set_prefill_seconds(absl::ToDoubleSeconds(first_token_ - began_));
  usage.set_decode_seconds(absl::ToDoubleSeconds(last_token_ - first_token_));
  return usage;
}

void QueryMetrics::OnRefused(const absl::Status& status) {
  metrics_.requests.Increment(status.code());
}

void QueryMetrics::OnBegin() { metrics_.running_requests.Increment(); }

void QueryMetrics::OnFirstToken(absl::Duration since_began) {
  metrics_.first_token_seconds.Observe(absl::ToDoubleSeconds(since_began));
}

void QueryMetrics::OnNextToken(absl::Duration since_previous) {
  metrics_.inter_token_seconds.Observe(absl::ToDoubleSeconds(since_previous));
}

void QueryMetrics::OnEnd(const End& end) {
  metrics_.running_requests.Decrement();
  metrics_.requests.Increment(end.status.code());
  metrics_.request_seconds.Observe(absl::ToDoubleSeconds(end.took));
  metrics_.queue_seconds.Observe(end.usage.queue_seconds());
  metrics_.prompt_tokens.Increment(static_cast<double>(end.usage.prompt_tokens()));
  metrics_.generated_tokens.Increment(static_cast<double>(end.usage.generated_tokens()));
  if (end.routed) on_outcome_(ExpertName(end.decision), end.status);
}

std::string ExpertName(const v1::Decision& decision) {
  const ExpertRef expert = ExpertFromProto(decision.expert());
  return expert.empty() ? "base" : expert.ToString();
}

}  // namespace ccoe::services
