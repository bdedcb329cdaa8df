#include "runtime/exchange/grpc/exchange_service.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ccoe::exchange {
namespace {

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace

ExchangeService::ExchangeService(SwapHandler* handler, ExchangeServiceOptions options)
    : handler_(handler), options_(std::move(options)) {}

grpc::Status ExchangeService::Open(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<v1::LinkReply, v1::LinkMessage>* stream) {
  absl::Status status = Admit(context);
  if (!status.ok()) return ToGrpc(status);
  {
    ServerLink link(handler_, options_.link, context, stream);
    status = link.Run();
  }
  Leave(context);
  if (closing()) status = absl::UnavailableError("the worker is stopping");
  return ToGrpc(status);
}

absl::Status ExchangeService::Admit(grpc::ServerContext* context) {
  absl::MutexLock lock(&mutex_);
  if (closing_) return absl::UnavailableError("the worker is stopping");
  if (static_cast<int>(open_.size()) >= options_.max_links) {
    return absl::ResourceExhaustedError(
        absl::StrCat(open_.size(), " links are open, at most ", options_.max_links));
  }
  open_.insert(context);
  return absl::OkStatus();
}

void ExchangeService::Leave(grpc::ServerContext* context) {
  absl::MutexLock lock(&mutex_);
  open_.erase(context);
}

bool ExchangeService::closing() const {
  absl::MutexLock lock(&mutex_);
  return closing_;
}

void ExchangeService::CloseLinks() {
  absl::MutexLock lock(&mutex_);
  closing_ = true;
  for (grpc::ServerContext* context : open_) context->TryCancel();
}

int ExchangeService::links() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(open_.size());
}

}  // namespace ccoe::exchange
