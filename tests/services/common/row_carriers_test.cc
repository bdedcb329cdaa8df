// SPDX-License-Identifier: Apache-2.0
#include "services/common/row_carriers.h"

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

TEST(RowCarriersTest, NamesAreReadAsTheyAreWritten) {
  for (const RowTransport transport :
       {RowTransport::kAuto, RowTransport::kGrpc, RowTransport::kNccl}) {
    ASSERT_OK_AND_ASSIGN(const RowTransport read, ParseRowTransport(RowTransportName(transport)));
    EXPECT_EQ(read, transport);
  }
  EXPECT_THAT(ParseRowTransport("rdma"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rdma")));
}

TEST(RowCarriersTest, WithoutAGpuRowsTravelInMessages) {
  ThreadTeam team(1);
  const Compute compute(&team);
  for (const RowTransport transport : {RowTransport::kAuto, RowTransport::kGrpc}) {
    ASSERT_OK_AND_ASSIGN(const auto carriers, MakeRowCarriers(transport, compute));
    EXPECT_EQ(carriers, nullptr);
  }
  EXPECT_THAT(MakeRowCarriers(RowTransport::kNccl, compute).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("--device cuda")));
}

TEST(RowCarriersTest, TheCpusRowsTakeNoMemoryOfADevice) {
  ThreadTeam team(1);
  const Compute compute(&team);
  EXPECT_EQ(RowMemoryBytes(RowTransport::kAuto, /*local=*/true, compute), 0);
  ASSERT_OK_AND_ASSIGN(const auto memory, MakeLocalRowMemory(nullptr, compute));
  EXPECT_EQ(memory, nullptr);
}

}  // namespace
}  // namespace ccoe::services
