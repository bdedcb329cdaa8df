// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/grpc/handshake.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

LinkIdentity Ours() { return {"expert-1", "model", "source", "served", "avx2/1", 8}; }

v1::OpenLink Open(const LinkIdentity& from = Ours()) {
  return MakeOpen(from, kernels::DType::kBF16, nullptr);
}

void ExpectRefused(const v1::OpenLink& open, absl::StatusCode code, const char* message) {
  EXPECT_THAT(CheckOpen(open, Ours()), StatusIs(code, HasSubstr(message)));
}

TEST(HandshakeTest, TwoOfOneModelMeet) {
  EXPECT_OK(CheckOpen(Open(), Ours()));
  LinkIdentity other = Ours();
  other.numerics = "another class";
  other.served_digest = "another form";
  EXPECT_OK(CheckOpen(Open(other), Ours()));
  EXPECT_EQ(Open(other).worker_id(), "expert-1");
  EXPECT_EQ(Open(other).numerics(), "another class");
  EXPECT_EQ(Open(other).served_digest(), "another form");
}

TEST(HandshakeTest, EmptyTextsAreNotCompared) {
  LinkIdentity other;
  other.hidden_size = 8;
  EXPECT_OK(CheckOpen(Open(other), Ours()));
  EXPECT_OK(CheckOpen(Open(), other));
}

TEST(HandshakeTest, RefusesAnotherVersionModelOrWeightsNamingBoth) {
  constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
  v1::OpenLink open = Open();
  open.set_protocol_version(2);
  ExpectRefused(open, kPrecondition, "this worker speaks 3, the peer 2");
  open = Open();
  open.set_hidden_size(16);
  ExpectRefused(open, kPrecondition, "this worker's model has 8, the peer's 16");
  open = Open();
  open.set_model_fingerprint("other");
  ExpectRefused(open, kPrecondition, "model fingerprint: this worker serves model, the peer other");
  open = Open();
  open.set_source_digest("other");
  ExpectRefused(open, kPrecondition,
                "digest of the base's weights: this worker serves source, the peer other");
}

TEST(HandshakeTest, RefusesLongTextsAndUnknownTypes) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  const std::string text(257, 'x');
  v1::OpenLink open = Open();
  open.set_worker_id(text);
  ExpectRefused(open, kInvalid, "worker_id: expected at most 256 bytes, found 257");
  open = Open();
  open.set_source_digest(text);
  ExpectRefused(open, kInvalid, "source_digest");
  open = Open();
  open.set_served_digest(text);
  ExpectRefused(open, kInvalid, "served_digest");
  open = Open();
  open.set_numerics(text);
  ExpectRefused(open, kInvalid, "numerics");
  open = Open();
  open.set_model_fingerprint(text);
  ExpectRefused(open, kInvalid, "model_fingerprint");
  open = Open();
  open.set_wire_dtype(v1::WIRE_DTYPE_UNSPECIFIED);
  ExpectRefused(open, kInvalid, "wire_dtype");
}

TEST(HandshakeTest, WhatIsGrantedArrives) {
  LinkGrant grant;
  grant.credit = {1000, 7};
  grant.limits.max_rows = 55;
  grant.limits.max_sequences = 44;
  v1::LinkReply reply;
  *reply.mutable_accepted() = MakeAccepted(Ours(), 99, grant, {});
  EXPECT_OK(CheckAccepted(reply));
  EXPECT_FALSE(reply.accepted().has_carrier());
  const LinkGrant seen = GrantOf(reply.accepted());
  EXPECT_EQ(seen.credit.bytes, 1000);
  EXPECT_EQ(seen.credit.swaps, 7);
  EXPECT_EQ(seen.limits.max_swaps, 7);
  EXPECT_EQ(seen.limits.max_rows, 55);
  EXPECT_EQ(seen.limits.max_sequences, 44);
  const LinkPeer peer = PeerOf(reply.accepted());
  EXPECT_EQ(peer.epoch, 99);
  EXPECT_EQ(peer.numerics, "avx2/1");
  EXPECT_EQ(peer.served_digest, "served");
}

TEST(HandshakeTest, WordsThatCouldForgeALineOfALogAreRefusedByBothEnds) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  LinkIdentity liar = Ours();
  liar.worker_id = "expert-1\nE0000 all is lost";
  ExpectRefused(Open(liar), kInvalid, "worker_id: expected text without control characters");
  v1::LinkReply reply;
  *reply.mutable_accepted() = MakeAccepted(liar, 1, {}, {});
  EXPECT_THAT(CheckAccepted(reply), StatusIs(kInvalid, HasSubstr("found expert-1 E0000 all")));
  liar = Ours();
  liar.numerics = std::string(257, 'x');
  *reply.mutable_accepted() = MakeAccepted(liar, 1, {}, {});
  EXPECT_THAT(CheckAccepted(reply), StatusIs(kInvalid, HasSubstr("at most 256 bytes, found 257")));
}

TEST(HandshakeTest, RefusesAcceptancesThatMakeNoSense) {
  v1::LinkReply good;
  *good.mutable_accepted() = MakeAccepted(Ours(), 1, {}, {});
  v1::LinkReply reply = good;
  reply.mutable_accepted()->set_protocol_version(9);
  EXPECT_THAT(CheckAccepted(reply), StatusIs(absl::StatusCode::kFailedPrecondition,
                                             HasSubstr("expected 3, the peer speaks 9")));
  const auto absurd = [&](void (*change)(v1::OpenAccepted&)) {
    reply = good;
    change(*reply.mutable_accepted());
    EXPECT_THAT(CheckAccepted(reply), StatusIs(absl::StatusCode::kInternal, HasSubstr("limits")));
  };
  absurd([](v1::OpenAccepted& each) { each.set_max_swaps(0); });
  absurd([](v1::OpenAccepted& each) { each.set_credit_bytes(-5); });
  absurd([](v1::OpenAccepted& each) { each.set_max_rows(0); });
  absurd([](v1::OpenAccepted& each) { each.set_max_sequences(-1); });
  EXPECT_THAT(CheckAccepted(v1::LinkReply()),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not OpenAccepted")));
}

}  // namespace
}  // namespace ccoe::exchange
