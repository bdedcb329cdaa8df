// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/handshake.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/exchange/grpc/wire_messages.h"

namespace ccoe::exchange {
namespace {

constexpr size_t kMaxTextBytes = 256;

absl::Status CheckText(absl::string_view field, const std::string& text) {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": expected at most ", kMaxTextBytes, " bytes, found ", text.size()));
  }
  if (TextOf(text) == text) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected text without control characters, found ", TextOf(text)));
}

absl::Status CheckSame(absl::string_view what, const std::string& ours, const std::string& peers) {
  if (ours.empty() || peers.empty() || ours == peers) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(what, ": this worker serves ", ours, ", the peer ", peers));
}

absl::Status CheckTexts(const v1::OpenLink& open) {
  CCOE_RETURN_IF_ERROR(CheckText("worker_id", open.worker_id()));
  CCOE_RETURN_IF_ERROR(CheckText("model_fingerprint", open.model_fingerprint()));
  CCOE_RETURN_IF_ERROR(CheckText("source_digest", open.source_digest()));
  CCOE_RETURN_IF_ERROR(CheckText("served_digest", open.served_digest()));
  return CheckText("numerics", open.numerics());
}

absl::Status CheckTexts(const v1::OpenAccepted& accepted) {
  CCOE_RETURN_IF_ERROR(CheckText("the peer's worker_id", accepted.worker_id()));
  CCOE_RETURN_IF_ERROR(CheckText("the peer's served_digest", accepted.served_digest()));
  return CheckText("the peer's numerics", accepted.numerics());
}

}  // namespace

v1::OpenLink MakeOpen(const LinkIdentity& ours, kernels::DType dtype, RowCarrierFactory* carriers) {
  v1::OpenLink open;
  open.set_protocol_version(kExchangeProtocolVersion);
  open.set_worker_id(ours.worker_id);
  open.set_model_fingerprint(ours.model_fingerprint);
  open.set_source_digest(ours.source_digest);
  open.set_served_digest(ours.served_digest);
  open.set_numerics(ours.numerics);
  open.set_hidden_size(ours.hidden_size);
  open.set_wire_dtype(ToWire(dtype));
  if (carriers == nullptr) {
    open.mutable_rows_in_messages();
  } else {
    open.mutable_rows_beside_stream()->set_version(carriers->Version());
  }
  return open;
}

absl::Status CheckOpen(const v1::OpenLink& open, const LinkIdentity& ours) {
  if (open.protocol_version() != kExchangeProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("exchange protocol version: this worker speaks ", kExchangeProtocolVersion,
                     ", the peer ", open.protocol_version()));
  }
  CCOE_RETURN_IF_ERROR(CheckTexts(open));
  if (open.hidden_size() != ours.hidden_size) {
    return absl::FailedPreconditionError(absl::StrCat("hidden_size: this worker's model has ",
                                                      ours.hidden_size, ", the peer's ",
                                                      open.hidden_size()));
  }
  CCOE_RETURN_IF_ERROR(
      CheckSame("model fingerprint", ours.model_fingerprint, open.model_fingerprint()));
  CCOE_RETURN_IF_ERROR(
      CheckSame("digest of the base's weights", ours.source_digest, open.source_digest()));
  return FromWire(open.wire_dtype()).status();
}

v1::OpenAccepted MakeAccepted(const LinkIdentity& ours, uint64_t epoch, const LinkGrant& grant,
                              const v1::Carrier& carrier) {
  v1::OpenAccepted accepted;
  accepted.set_protocol_version(kExchangeProtocolVersion);
  accepted.set_worker_id(ours.worker_id);
  accepted.set_epoch(epoch);
  accepted.set_max_swaps(static_cast<int32_t>(grant.credit.swaps));
  accepted.set_credit_bytes(grant.credit.bytes);
  accepted.set_max_rows(grant.limits.max_rows);
  accepted.set_max_sequences(grant.limits.max_sequences);
  accepted.set_numerics(ours.numerics);
  accepted.set_served_digest(ours.served_digest);
  if (!carrier.id().empty() || !carrier.refusal().empty()) *accepted.mutable_carrier() = carrier;
  return accepted;
}

absl::Status CheckAccepted(const v1::LinkReply& reply) {
  const v1::OpenAccepted& accepted = reply.accepted();
  if (!reply.has_accepted()) {
    return absl::InternalError("the peer's first answer is not OpenAccepted");
  }
  if (accepted.protocol_version() != kExchangeProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("protocol version: expected ", kExchangeProtocolVersion, ", the peer speaks ",
                     accepted.protocol_version()));
  }
  if (accepted.max_swaps() < 1 || accepted.credit_bytes() < 1 || accepted.max_rows() < 1 ||
      accepted.max_sequences() < 1) {
    return absl::InternalError(
        absl::StrCat("the peer's limits: expected 1 or more, found ", accepted.max_swaps(),
                     " swaps, ", accepted.credit_bytes(), " bytes, ", accepted.max_rows(),
                     " rows, ", accepted.max_sequences(), " sequences"));
  }
  return CheckTexts(accepted);
}

LinkGrant GrantOf(const v1::OpenAccepted& accepted) {
  LinkGrant grant;
  grant.credit = {accepted.credit_bytes(), accepted.max_swaps()};
  grant.limits.max_swaps = accepted.max_swaps();
  grant.limits.max_rows = accepted.max_rows();
  grant.limits.max_sequences = accepted.max_sequences();
  return grant;
}

LinkPeer PeerOf(const v1::OpenAccepted& accepted) {
  LinkPeer peer;
  peer.worker_id = accepted.worker_id();
  peer.numerics = accepted.numerics();
  peer.served_digest = accepted.served_digest();
  peer.epoch = accepted.epoch();
  return peer;
}

}  // namespace ccoe::exchange
