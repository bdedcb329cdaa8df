// SPDX-License-Identifier: Apache-2.0
// `ccoe eval`: asks the running cluster test questions whose answers are known. Here is its table.
#ifndef CCOE_SERVICES_CLI_CLIENT_EVAL_H_
#define CCOE_SERVICES_CLI_CLIENT_EVAL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace ccoe::cli {

// Right answers out of n questions.
struct Score {
  int64_t right = 0;
  int64_t n = 0;

  double Percent() const {
    return n == 0 ? 0.0 : 100.0 * static_cast<double>(right) / static_cast<double>(n);
  }
};

struct Interval {
  double low = 0.0;   // percent
  double high = 0.0;  // percent
};

// The 95 % score interval of a proportion (Wilson 1927): centre (p + z^2/2n) / (1 + z^2/n),
// half-width z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n), z = 1.96.
Interval WilsonInterval(const Score& score);

struct DomainScores {
  Score base;  // the base model alone
  std::optional<Score>
      expert;  // the domain's expert, asked for by name; none for domains without one
  std::optional<Score> full;  // a full fine-tune, as the training recipe measured it
  Score routed;  // questions that the router sends to the domain's expert (or to the base, without
                 // one)
};

// By domain.
using EvalScores = std::map<std::string, DomainScores>;

// The full fine-tunes' scores in their own domains, from the training recipe's scores.json:
// {"full": {NAME: {NAME: {"right": 1, "n": 2, ...}, ...}}}.
absl::StatusOr<std::map<std::string, Score>> ReadFullScores(const std::string& path);

std::string EvalTable(const EvalScores& scores);
nlohmann::json EvalJson(const EvalScores& scores);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_CLIENT_EVAL_H_
