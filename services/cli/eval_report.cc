#include "services/cli/eval_report.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"

namespace ccoe::cli {
namespace {

constexpr double kZ = 1.959963984540054;  // 97.5th percentile of the normal distribution
constexpr int64_t kMaxFileBytes = 1 << 20;

std::string Cell(const std::optional<Score>& score) {
  if (!score.has_value() || score->n == 0) return absl::StrFormat("%19s", "-");
  const Interval interval = WilsonInterval(*score);
  return absl::StrFormat("%5.1f [%5.1f, %5.1f]", score->Percent(), interval.low, interval.high);
}

nlohmann::json CellJson(const std::optional<Score>& score) {
  if (!score.has_value() || score->n == 0) return nullptr;
  const Interval interval = WilsonInterval(*score);
  return {{"right", score->right},
          {"n", score->n},
          {"percent", score->Percent()},
          {"low", interval.low},
          {"high", interval.high}};
}

}  // namespace

Interval WilsonInterval(const Score& score) {
  if (score.n == 0) return {0.0, 100.0};
  const double n = static_cast<double>(score.n);
  const double p = static_cast<double>(score.right) / n;
  const double scale = 1.0 + kZ * kZ / n;
  const double centre = (p + kZ * kZ / (2 * n)) / scale;
  const double half = kZ * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n)) / scale;
  return {100.0 * std::fmax(0.0, centre - half), 100.0 * std::fmin(1.0, centre + half)};
}

absl::StatusOr<std::map<std::string, Score>> ReadFullScores(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json json, ReadJsonFile(path, kMaxFileBytes));
  if (!json.is_object() || !json.contains("full") || !json["full"].is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected {\"full\": {DOMAIN: {DOMAIN: ...}}}"));
  }
  std::map<std::string, Score> scores;
  for (const auto& [domain, tuned] : json["full"].items()) {
    if (!tuned.is_object() || !tuned.contains(domain)) continue;
    const nlohmann::json& own = tuned[domain];
    if (!own.is_object() || !own.contains("right") || !own.contains("n") ||
        !own["right"].is_number_integer() || !own["n"].is_number_integer()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": full.", domain, ".", domain,
                                                     ": expected {\"right\": N, \"n\": N}"));
    }
    scores[domain] = {own["right"].get<int64_t>(), own["n"].get<int64_t>()};
  }
  return scores;
}

std::string EvalTable(const EvalScores& scores) {
  std::string table =
      "domain     questions                base              expert      full fine-tune  routed\n";
  for (const auto& [domain, row] : scores) {
    absl::StrAppendFormat(&table, "%-10s %9d %s %s %s %6.1f%%\n", domain, row.base.n,
                          Cell(row.base), Cell(row.expert), Cell(row.full), row.routed.Percent());
  }
  table +=
      "Percent of questions answered rightly [95 % interval]; routed: percent that the router "
      "sends to the right place.\n";
  return table;
}

nlohmann::json EvalJson(const EvalScores& scores) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [domain, row] : scores) {
    json[domain] = {{"base", CellJson(row.base)},
                    {"expert", CellJson(row.expert)},
                    {"full", CellJson(row.full)},
                    {"routed", CellJson(row.routed)}};
  }
  return json;
}

}  // namespace ccoe::cli
