// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/decoder.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::tokenizer {
namespace {

constexpr size_t kMaxReplacedBytes = 64 << 20;
constexpr size_t kByteTokenLength = 6;  // <0xNN>
constexpr int kNotAByte = -1;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return kNotAByte;
}

// The byte that <0xNN> stands for, or kNotAByte.
int ByteOf(absl::string_view token) {
  if (token.size() != kByteTokenLength || token.substr(0, 3) != "<0x" || token[5] != '>') {
    return kNotAByte;
  }
  const int high = HexDigit(token[3]);
  const int low = HexDigit(token[4]);
  return high < 0 || low < 0 ? kNotAByte : high * 16 + low;
}

constexpr int kMaxDepth = 16;
constexpr size_t kMaxParts = 256;
constexpr int64_t kMaxStrip = 1 << 20;

// A part without settings.
template <typename Stage>
std::unique_ptr<DecodeStage> PlainPart(DecodeStage* next) {
  return std::make_unique<Stage>(next);
}

}  // namespace

std::string GatherStage::Take() { return std::exchange(text_, std::string()); }

void TokenStage::EndToken() {
  OnToken(token_);
  token_.clear();
}

void TokenStage::EndStream() {
  OnEnd();
  next_->EndStream();
}

void JoinStage::OnToken(absl::string_view token) {
  if (!first_) next_->Text(" ");
  first_ = false;
  Emit(token);
}

void ByteLevelStage::OnToken(absl::string_view token) {
  absl::StrAppend(&pending_, FromByteAlphabet(token));
  std::string text;
  absl::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Sequence sequence = ScanUtf8(rest);
    if (sequence.state == Utf8State::kIncomplete) break;
    const bool valid = sequence.state == Utf8State::kValid;
    absl::StrAppend(&text, valid ? rest.substr(0, sequence.length) : kReplacementCharacter);
    rest.remove_prefix(sequence.length);
  }
  pending_ = std::string(rest);
  next_->Text(text);
}

void ByteLevelStage::OnEnd() {
  if (!pending_.empty()) next_->Text(kReplacementCharacter);
  pending_.clear();
  next_->EndToken();
}

void ReplaceStage::OnToken(absl::string_view token) {
  const absl::StatusOr<std::string> text = pattern_.ReplaceAll(token, content_, kMaxReplacedBytes);
  if (!text.ok()) return Fail(text.status());
  Emit(*text);
}

void ByteFallbackStage::AddByte(char byte) {
  if (broken_) return Emit(kReplacementCharacter);
  run_.push_back(byte);
  const Utf8Sequence last = ScanUtf8(absl::string_view(run_).substr(checked_));
  if (last.state == Utf8State::kValid) checked_ = run_.size();
  if (last.state != Utf8State::kInvalid) return;
  for (size_t i = 0; i < run_.size(); ++i) Emit(kReplacementCharacter);
  run_.clear();
  broken_ = true;
}

void ByteFallbackStage::OnToken(absl::string_view token) {
  const int byte = ByteOf(token);
  if (byte != kNotAByte) return AddByte(static_cast<char>(byte));
  OnEnd();
  Emit(token);
}

void ByteFallbackStage::OnEnd() {
  if (!run_.empty() && checked_ == run_.size()) {
    Emit(run_);
  } else {
    for (size_t i = 0; i < run_.size(); ++i) Emit(kReplacementCharacter);
  }
  run_.clear();
  checked_ = 0;
  broken_ = false;
}

void StripStage::Character(absl::string_view character) {
  if (character == content_) {
    if (to_drop_ > 0) {
      --to_drop_;
      return;
    }
    if (held_ < stop_) {
      ++held_;
      return;
    }
    // One more than may go from the end: the first of them stays.
    next_->Text(content_);
    return;
  }
  to_drop_ = 0;
  for (; held_ > 0; --held_) next_->Text(content_);
  next_->Text(character);
}

void StripStage::Text(absl::string_view fragment) {
  for (size_t at = 0; at < fragment.size();) {
    const size_t length = DecodeUtf8(fragment, at).length;
    Character(fragment.substr(at, length));
    at += length;
  }
}

void StripStage::EndToken() {
  to_drop_ = start_;
  held_ = 0;
  next_->EndToken();
}

void MetaspaceStage::OnToken(absl::string_view token) {
  const bool drop = first_ && options_.prepend != PrependScheme::kNever;
  first_ = false;
  Emit(absl::StrReplaceAll(token, {{options_.replacement, drop ? "" : " "}}));
}

absl::StatusOr<std::string> DecodeStream::Take() {
  if (!gather_.status().ok()) return gather_.status();
  return gather_.Take();
}

absl::StatusOr<std::string> DecodeStream::Append(absl::string_view token) {
  first_->Text(token);
  first_->EndToken();
  return Take();
}

absl::StatusOr<std::string> DecodeStream::Finish() {
  first_->EndStream();
  return Take();
}

std::unique_ptr<DecodeStream> Decoder::NewStream() const {
  std::unique_ptr<DecodeStream> stream(new DecodeStream());
  for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) {
    stream->stages_.push_back((*part)(stream->first_));
    stream->first_ = stream->stages_.back().get();
  }
  return stream;
}

absl::StatusOr<Decoder> Decoder::Create(const Json& json) {
  Decoder decoder;
  if (json.is_null()) {
    decoder.parts_.push_back(PlainPart<JoinStage>);
    return decoder;
  }
  CCOE_RETURN_IF_ERROR(decoder.Add(json, "decoder", 0));
  return decoder;
}

absl::Status Decoder::Add(const Json& json, const std::string& where, int depth) {
  if (depth > kMaxDepth || parts_.size() > kMaxParts) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected at most ", kMaxDepth, " levels and ", kMaxParts, " parts"));
  }
  CCOE_RETURN_IF_ERROR(ExpectObject(json, where));
  CCOE_ASSIGN_OR_RETURN(const std::string type, StringField(json, "type", where));
  if (type == "Replace") return AddReplace(json, where);
  if (type == "Strip") return AddStrip(json, where);
  if (type == "ByteLevel") {
    parts_.push_back(PlainPart<ByteLevelStage>);
  } else if (type == "ByteFallback") {
    parts_.push_back(PlainPart<ByteFallbackStage>);
  } else if (type == "Fuse") {
    parts_.push_back(PlainPart<FuseStage>);
  } else if (type == "Metaspace") {
    CCOE_ASSIGN_OR_RETURN(Metaspace options, ParseMetaspace(json, where));
    parts_.push_back([options = std::move(options)](DecodeStage* next) {
      return std::make_unique<MetaspaceStage>(next, options);
    });
  } else if (type == "Sequence") {
    CCOE_ASSIGN_OR_RETURN(const Json* parts, ArrayField(json, "decoders", where));
    for (size_t i = 0; i < parts->size(); ++i) {
      CCOE_RETURN_IF_ERROR(Add((*parts)[i], absl::StrCat(where, ".decoders[", i, "]"), depth + 1));
    }
  } else {
    return absl::UnimplementedError(absl::StrCat(where, ": decoder type '", type, "'"));
  }
  return absl::OkStatus();
}

absl::Status Decoder::AddReplace(const Json& json, const std::string& where) {
  const Json* pattern_json = FindField(json, "pattern");
  if (pattern_json == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(where, ".pattern: expected one, found nothing"));
  }
  CCOE_ASSIGN_OR_RETURN(Pattern pattern,
                        Pattern::FromJson(*pattern_json, absl::StrCat(where, ".pattern")));
  CCOE_ASSIGN_OR_RETURN(std::string content, StringField(json, "content", where));
  // Shared, as a function that can be copied holds no Pattern itself.
  parts_.push_back([pattern = std::make_shared<const Pattern>(std::move(pattern)),
                    content = std::move(content)](DecodeStage* next) {
    return std::make_unique<ReplaceStage>(next, *pattern, content);
  });
  return absl::OkStatus();
}

absl::Status Decoder::AddStrip(const Json& json, const std::string& where) {
  CCOE_ASSIGN_OR_RETURN(std::string content, StringField(json, "content", where));
  if (content.empty() || DecodeUtf8(content, 0).length != content.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ".content: expected one character, found '", content, "'"));
  }
  CCOE_ASSIGN_OR_RETURN(const int64_t start, IntField(json, "start", kMaxStrip, where));
  CCOE_ASSIGN_OR_RETURN(const int64_t stop, IntField(json, "stop", kMaxStrip, where));
  parts_.push_back([content = std::move(content), start, stop](DecodeStage* next) {
    return std::make_unique<StripStage>(next, content, start, stop);
  });
  return absl::OkStatus();
}

}  // namespace ccoe::tokenizer
