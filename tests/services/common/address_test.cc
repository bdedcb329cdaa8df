#include "services/common/address.h"

#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(AddressTest, ReadsHostAndPort) {
  ASSERT_OK_AND_ASSIGN(const HostPort address, ParseHostPort("worker-1.local:8101"));
  EXPECT_EQ(address.host, "worker-1.local");
  EXPECT_EQ(address.port, 8101);
  EXPECT_EQ(address.ToString(), "worker-1.local:8101");
  EXPECT_FALSE(address.IsLoopback());
}

TEST(AddressTest, ReadsAnIpv6HostInBrackets) {
  ASSERT_OK_AND_ASSIGN(const HostPort address, ParseHostPort("[::1]:0"));
  EXPECT_EQ(address.host, "::1");
  EXPECT_EQ(address.port, 0);
  EXPECT_EQ(address.ToString(), "[::1]:0");
  EXPECT_TRUE(address.IsLoopback());
}

TEST(AddressTest, KnowsTheLoopbackHosts) {
  for (const char* text : {"127.0.0.1:1", "127.8.0.1:1", "localhost:1"}) {
    ASSERT_OK_AND_ASSIGN(const HostPort address, ParseHostPort(text));
    EXPECT_TRUE(address.IsLoopback()) << text;
  }
  ASSERT_OK_AND_ASSIGN(const HostPort everywhere, ParseHostPort("0.0.0.0:1"));
  EXPECT_FALSE(everywhere.IsLoopback());
}

TEST(AddressTest, RefusesWhatIsNoAddressAndSaysWhy) {
  EXPECT_THAT(ParseHostPort(""),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no port")));
  for (const char* text :
       {"host", "host:", ":80", "host:-1", "host:+1", "host:65536", "host:99999999999", "host:8o",
        "::1:80", "[::1:80", "a b:80", "a/b:80", "host: 80"}) {
    EXPECT_THAT(ParseHostPort(text), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
  }
}

TEST(AddressTest, TellsServersOfThisProcessApart) {
  EXPECT_TRUE(IsInProcess("inproc:backbone-0"));
  EXPECT_EQ(InProcessName("inproc:backbone-0"), "backbone-0");
  EXPECT_FALSE(IsInProcess("127.0.0.1:80"));
}

}  // namespace
}  // namespace ccoe::services
