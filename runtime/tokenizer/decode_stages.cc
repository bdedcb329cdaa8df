#include "runtime/tokenizer/decode_stages.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/utf8.h"

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

}  // namespace ccoe::tokenizer
