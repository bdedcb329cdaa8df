// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/normalizer.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/pattern.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::tokenizer {

class Normalizer::Step {
 public:
  virtual ~Step() = default;
  virtual absl::StatusOr<std::string> Apply(std::string text) const = 0;
};

namespace {

constexpr size_t kMaxBytes = 64 << 20;
constexpr int kMaxDepth = 16;

class FormStep final : public Normalizer::Step {
 public:
  explicit FormStep(UnicodeForm form) : form_(form) {}
  absl::StatusOr<std::string> Apply(std::string text) const override {
    return Normalize(text, form_, kMaxBytes / 4);
  }

 private:
  UnicodeForm form_;
};

class LowercaseStep final : public Normalizer::Step {
 public:
  absl::StatusOr<std::string> Apply(std::string text) const override { return Lowercase(text); }
};

class PrependStep final : public Normalizer::Step {
 public:
  explicit PrependStep(std::string prefix) : prefix_(std::move(prefix)) {}
  absl::StatusOr<std::string> Apply(std::string text) const override {
    return text.empty() ? text : prefix_ + text;
  }

 private:
  std::string prefix_;
};

class ReplaceStep final : public Normalizer::Step {
 public:
  ReplaceStep(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  absl::StatusOr<std::string> Apply(std::string text) const override {
    return pattern_.ReplaceAll(text, content_, kMaxBytes);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class StripStep final : public Normalizer::Step {
 public:
  StripStep(bool left, bool right) : left_(left), right_(right) {}
  absl::StatusOr<std::string> Apply(std::string text) const override {
    absl::string_view rest = text;
    if (left_) rest = StripLeft(rest, IsWhitespace);
    if (right_) rest = StripRight(rest, IsWhitespace);
    return std::string(rest);
  }

 private:
  bool left_;
  bool right_;
};

std::optional<UnicodeForm> FormOf(const std::string& type) {
  if (type == "NFC") return UnicodeForm::kNfc;
  if (type == "NFD") return UnicodeForm::kNfd;
  if (type == "NFKC") return UnicodeForm::kNfkc;
  if (type == "NFKD") return UnicodeForm::kNfkd;
  return std::nullopt;
}

using Steps = std::vector<std::unique_ptr<Normalizer::Step>>;

absl::Status AddReplace(const Json& json, const std::string& where, Steps& steps) {
  const Json* pattern_json = FindField(json, "pattern");
  if (pattern_json == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(where, ".pattern: expected one, found nothing"));
  }
  CCOE_ASSIGN_OR_RETURN(Pattern pattern,
                        Pattern::FromJson(*pattern_json, absl::StrCat(where, ".pattern")));
  CCOE_ASSIGN_OR_RETURN(std::string content, StringField(json, "content", where));
  steps.push_back(std::make_unique<ReplaceStep>(std::move(pattern), std::move(content)));
  return absl::OkStatus();
}

absl::Status AddSteps(const Json& json, const std::string& where, int depth, Steps& steps) {
  if (depth > kMaxDepth) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": nested deeper than ", kMaxDepth));
  }
  CCOE_RETURN_IF_ERROR(ExpectObject(json, where));
  CCOE_ASSIGN_OR_RETURN(const std::string type, StringField(json, "type", where));
  if (type == "Sequence") {
    CCOE_ASSIGN_OR_RETURN(const Json* parts, ArrayField(json, "normalizers", where));
    for (size_t i = 0; i < parts->size(); ++i) {
      CCOE_RETURN_IF_ERROR(
          AddSteps((*parts)[i], absl::StrCat(where, ".normalizers[", i, "]"), depth + 1, steps));
    }
  } else if (const auto form = FormOf(type); form.has_value()) {
    steps.push_back(std::make_unique<FormStep>(*form));
  } else if (type == "Lowercase") {
    steps.push_back(std::make_unique<LowercaseStep>());
  } else if (type == "Prepend") {
    CCOE_ASSIGN_OR_RETURN(std::string prefix, StringField(json, "prepend", where));
    steps.push_back(std::make_unique<PrependStep>(std::move(prefix)));
  } else if (type == "Replace") {
    CCOE_RETURN_IF_ERROR(AddReplace(json, where, steps));
  } else if (type == "Strip") {
    CCOE_ASSIGN_OR_RETURN(const bool left, BoolField(json, "strip_left", true, where));
    CCOE_ASSIGN_OR_RETURN(const bool right, BoolField(json, "strip_right", true, where));
    steps.push_back(std::make_unique<StripStep>(left, right));
  } else {
    return absl::UnimplementedError(absl::StrCat(where, ": normalizer type '", type, "'"));
  }
  return absl::OkStatus();
}

}  // namespace

Normalizer::Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;
Normalizer::~Normalizer() = default;

absl::StatusOr<Normalizer> Normalizer::Create(const Json& json) {
  Normalizer normalizer;
  if (!json.is_null()) CCOE_RETURN_IF_ERROR(AddSteps(json, "normalizer", 0, normalizer.steps_));
  return normalizer;
}

absl::StatusOr<std::string> Normalizer::Apply(std::string text) const {
  for (const auto& step : steps_) {
    CCOE_ASSIGN_OR_RETURN(text, step->Apply(std::move(text)));
    if (text.size() > kMaxBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("the normalised text is longer than ", kMaxBytes, " bytes"));
    }
  }
  return text;
}

}  // namespace ccoe::tokenizer
