#include "services/gateway/query_metrics.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

using ::testing::ElementsAre;

TEST(QueryMetricsTest, CountsQueriesAndTellsTheirOutcome) {
  telemetry::Metrics metrics;
  std::vector<std::string> outcomes;
  QueryMetrics observer(&metrics.gateway(), [&](const std::string& expert, const absl::Status& s) {
    outcomes.push_back(absl::StrCat(expert, " ", absl::StatusCodeToString(s.code())));
  });
  observer.OnRefused(absl::ResourceExhaustedError("full"));
  observer.OnBegin();
  EXPECT_EQ(metrics.gateway().running_requests.Value(), 1);
  observer.OnFirstToken(absl::Milliseconds(2));
  observer.OnNextToken(absl::Milliseconds(1));
  QueryObserver::End end;
  end.routed = true;
  end.decision.mutable_expert()->set_name("math");
  end.decision.mutable_expert()->set_version(2);
  end.usage.set_prompt_tokens(5);
  end.usage.set_generated_tokens(7);
  observer.OnEnd(end);
  observer.OnBegin();
  end = {};
  end.status = absl::InvalidArgumentError("bad");
  observer.OnEnd(end);  // not routed: no outcome of an expert's
  observer.OnBegin();
  end.routed = true;
  observer.OnEnd(end);
  EXPECT_EQ(metrics.gateway().running_requests.Value(), 0);
  EXPECT_EQ(metrics.gateway().prompt_tokens.Value(), 5);
  EXPECT_EQ(metrics.gateway().generated_tokens.Value(), 7);
  EXPECT_THAT(outcomes, ElementsAre("math@2 OK", "base INVALID_ARGUMENT"));
  EXPECT_NE(metrics.Text().find("\"resource_exhausted\""), std::string::npos);
}

}  // namespace
}  // namespace ccoe::services
