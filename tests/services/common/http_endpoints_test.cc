// SPDX-License-Identifier: Apache-2.0
#include "services/common/http_endpoints.h"

#include <httplib.h>
#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

std::shared_ptr<prometheus::Registry> ACounter() {
  auto registry = std::make_shared<prometheus::Registry>();
  prometheus::BuildCounter()
      .Name("ccoe_test_things_total")
      .Register(*registry)
      .Add({})
      .Increment(3);
  return registry;
}

HttpOptions AnyPort() {
  HttpOptions options;
  options.listen = "127.0.0.1:0";
  options.metrics = ACounter();
  return options;
}

TEST(HttpEndpointsTest, ServesMetricsAsPrometheusText) {
  ASSERT_OK_AND_ASSIGN(const auto http, HttpEndpoints::Start(AnyPort()));
  const auto answer = httplib::Client("http://" + http->address()).Get("/metrics");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_THAT(answer->body, HasSubstr("ccoe_test_things_total 3"));
  EXPECT_THAT(answer->get_header_value("Content-Type"), HasSubstr("version=0.0.4"));
}

TEST(HttpEndpointsTest, SaysHealthyOrWhyNot) {
  absl::Status health;
  HttpOptions options = AnyPort();
  options.health = [&health] { return health; };
  ASSERT_OK_AND_ASSIGN(const auto http, HttpEndpoints::Start(std::move(options)));
  const auto well = httplib::Client("http://" + http->address()).Get("/healthz");
  ASSERT_TRUE(well);
  EXPECT_EQ(well->status, 200);
  health = absl::UnavailableError("no live backbone worker");
  const auto ill = httplib::Client("http://" + http->address()).Get("/healthz");
  ASSERT_TRUE(ill);
  EXPECT_EQ(ill->status, 503);
  EXPECT_THAT(ill->body, HasSubstr("no live backbone worker"));
}

TEST(HttpEndpointsTest, AnswersOtherPathsWithNotFound) {
  ASSERT_OK_AND_ASSIGN(const auto http, HttpEndpoints::Start(AnyPort()));
  const auto answer = httplib::Client("http://" + http->address()).Get("/etc/passwd");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 404);
}

TEST(HttpEndpointsTest, NamesThePortThatIsInUse) {
  ASSERT_OK_AND_ASSIGN(const auto first, HttpEndpoints::Start(AnyPort()));
  HttpOptions options = AnyPort();
  options.listen = first->address();
  EXPECT_THAT(HttpEndpoints::Start(std::move(options)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(first->address())));
}

TEST(HttpEndpointsTest, RefusesAMalformedAddress) {
  HttpOptions options = AnyPort();
  options.listen = "8002";
  EXPECT_THAT(HttpEndpoints::Start(std::move(options)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("8002")));
}

TEST(HttpEndpointsTest, StopsAtOnceAndFreesThePort) {
  ASSERT_OK_AND_ASSIGN(auto first, HttpEndpoints::Start(AnyPort()));
  HttpOptions options = AnyPort();
  options.listen = first->address();
  first.reset();
  EXPECT_OK(HttpEndpoints::Start(std::move(options)));
}

}  // namespace
}  // namespace ccoe::services
