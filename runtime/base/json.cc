// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/json.h"

#include <exception>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"

namespace ccoe {
namespace {

constexpr size_t kMaxDepth = 64;

// Looks over the text before a tree is built from it; false from any event stops the parser.
class Inspector final : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open(); }
  bool end_array() override { return Close(); }
  bool key(string_t& key) override {
    if (keys_.back().insert(key).second) return true;
    problem_ = absl::StrCat("key \"", key.substr(0, 200), "\" stands twice in one object");
    return false;
  }
  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::json::exception& error) override {
    problem_ = absl::StrCat("no valid JSON at byte ", position, ": ", error.what());
    return false;
  }

  const std::string& problem() const { return problem_; }

 private:
  bool Open() {
    keys_.emplace_back();
    if (keys_.size() <= kMaxDepth) return true;
    problem_ = absl::StrCat("expected at most ", kMaxDepth, " levels of nesting");
    return false;
  }
  bool Close() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;
  std::string problem_;
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view where) {
  try {
    Inspector inspector;
    if (!nlohmann::json::sax_parse(text.begin(), text.end(), &inspector)) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": ", inspector.problem()));
    }
    return nlohmann::json::parse(text.begin(), text.end());
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": no valid JSON: ", error.what()));
  }
}

absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path, int64_t max_bytes) {
  CCOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, max_bytes));
  return ParseJson(text, path);
}

}  // namespace ccoe
