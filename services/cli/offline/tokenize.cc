// SPDX-License-Identifier: Apache-2.0
// `ccoe tokenize`: text to token ids and back, one JSON value a line.
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/tokenizer.h"
#include "services/cli/commands.h"
#include "services/cli/output.h"

namespace ccoe::cli {
namespace {

struct TokenizeFlags {
  std::string model;
  bool no_special = false;
  bool decode = false;
  bool skip_special = false;
  bool json = false;
};

absl::StatusOr<std::string> EncodeLine(const tokenizer::Tokenizer& tokenizer,
                                       const TokenizeFlags& flags, const std::string& line,
                                       absl::string_view where) {
  std::string text = line;
  if (flags.json) {
    CCOE_ASSIGN_OR_RETURN(const nlohmann::json value, ParseJson(line, where));
    if (!value.is_string())
      return absl::InvalidArgumentError(absl::StrCat(where, ": expected a JSON string"));
    text = value.get<std::string>();
  }
  CCOE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer.Encode(text, !flags.no_special));
  return flags.json ? nlohmann::json(ids).dump() : absl::StrJoin(ids, " ");
}

absl::StatusOr<std::string> DecodeLine(const tokenizer::Tokenizer& tokenizer,
                                       const TokenizeFlags& flags, const std::string& line,
                                       absl::string_view where) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json value, ParseJson(line, where));
  std::vector<int32_t> ids;
  if (!value.is_array())
    return absl::InvalidArgumentError(absl::StrCat(where, ": expected a JSON list of token ids"));
  for (const nlohmann::json& id : value) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": expected a token id, found ", id.dump()));
    }
    ids.push_back(id.get<int32_t>());
  }
  CCOE_ASSIGN_OR_RETURN(const std::string text, tokenizer.Decode(ids, flags.skip_special));
  return flags.json ? nlohmann::json(text).dump() : text;
}

absl::Status Tokenize(const TokenizeFlags& flags) {
  if (flags.skip_special && !flags.decode) return UsageError("--skip-special goes with --decode");
  if (flags.no_special && flags.decode) return UsageError("--no-special goes without --decode");
  CCOE_ASSIGN_OR_RETURN(const auto tokenizer, tokenizer::Tokenizer::Load(flags.model));
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    const std::string where = absl::StrCat("standard input, line ", number);
    const auto result = flags.decode ? DecodeLine(*tokenizer, flags, line, where)
                                     : EncodeLine(*tokenizer, flags, line, where);
    if (!result.ok()) return result.status();
    std::cout << *result << "\n";
    CCOE_RETURN_IF_ERROR(FlushStandardOutput());  // input may have no end
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterTokenize(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* command = AddCommand(app, context, "tokenize",
                                 "Turns the lines of standard input into token ids, or back.",
                                 [flags] { return Tokenize(*flags); });
  AddFlag(command, "--model", flags->model, "Folder with tokenizer.json; needs no weights.")
      .Required();
  AddSwitch(command, "--no-special", flags->no_special,
            "Leave out the special tokens the tokenizer adds by default.");
  AddSwitch(command, "--decode", flags->decode, "From lists of token ids to text.");
  AddSwitch(command, "--skip-special", flags->skip_special,
            "With --decode: leave out special tokens.");
  AddSwitch(command, "--json", flags->json,
            "Lines are JSON: a string in and a list out; with --decode the other way.");
}

}  // namespace ccoe::cli
