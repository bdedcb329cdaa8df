// SPDX-License-Identifier: Apache-2.0
// The "decoder" of tokenizer.json: tokens back to text. Its steps are stages of a pipeline: each
// takes tokens, in one or more fragments, and hands on what can no longer change. Decoding a whole
// list and streaming it are the same code.
#ifndef CCOE_RUNTIME_TOKENIZER_DECODER_H_
#define CCOE_RUNTIME_TOKENIZER_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/pattern.h"
#include "runtime/tokenizer/pre_tokenizer.h"

namespace ccoe::tokenizer {

// One stage while it runs. Used by one thread at a time.
class DecodeStage {
 public:
  // `next` must outlive this stage; nullptr for the last.
  explicit DecodeStage(DecodeStage* next) : next_(next) {}
  virtual ~DecodeStage() = default;

  virtual void Text(absl::string_view fragment) = 0;  // more of the present token
  virtual void EndToken() = 0;
  virtual void EndStream() = 0;  // no token follows
  // An error goes to the end of the pipeline, which keeps the first.
  virtual void Fail(const absl::Status& status) { next_->Fail(status); }

 protected:
  void Emit(absl::string_view token) {
    next_->Text(token);
    next_->EndToken();
  }

  DecodeStage* next_;
};

// The end of a pipeline: gathers the text.
class GatherStage final : public DecodeStage {
 public:
  GatherStage() : DecodeStage(nullptr) {}
  void Text(absl::string_view fragment) override { text_.append(fragment.data(), fragment.size()); }
  void EndToken() override {}
  void EndStream() override {}
  void Fail(const absl::Status& status) override { status_.Update(status); }

  const absl::Status& status() const { return status_; }
  // The text since the last call.
  std::string Take();

 private:
  std::string text_;
  absl::Status status_;
};

// A stage that needs each token whole.
class TokenStage : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;
  void Text(absl::string_view fragment) override {
    token_.append(fragment.data(), fragment.size());
  }
  void EndToken() override;
  void EndStream() override;

 protected:
  virtual void OnToken(absl::string_view token) = 0;
  virtual void OnEnd() {}

 private:
  std::string token_;
};

// No decoder at all: tokens with a blank between them.
class JoinStage final : public TokenStage {
 public:
  using TokenStage::TokenStage;

 protected:
  void OnToken(absl::string_view token) override;

 private:
  bool first_ = true;
};

// Byte-level tokens to one text. Bytes that end inside a character wait for the next token.
class ByteLevelStage final : public TokenStage {
 public:
  using TokenStage::TokenStage;

 protected:
  void OnToken(absl::string_view token) override;
  void OnEnd() override;

 private:
  std::string pending_;  // at most 3 bytes
};

class ReplaceStage final : public TokenStage {
 public:
  // `pattern` and `content` must outlive the stage.
  ReplaceStage(DecodeStage* next, const Pattern& pattern, const std::string& content)
      : TokenStage(next), pattern_(pattern), content_(content) {}

 protected:
  void OnToken(absl::string_view token) override;

 private:
  const Pattern& pattern_;
  const std::string& content_;
};

// Runs of <0xNN> tokens to the text their bytes spell. One byte out of place makes each byte of its
// run a U+FFFD, so a run that is valid so far waits for its end.
class ByteFallbackStage final : public TokenStage {
 public:
  using TokenStage::TokenStage;

 protected:
  void OnToken(absl::string_view token) override;
  void OnEnd() override;

 private:
  void AddByte(char byte);

  std::string run_;      // valid up to checked_, and perhaps beyond
  size_t checked_ = 0;   // bytes of run_ that are whole characters
  bool broken_ = false;  // the present run is not valid: its bytes have been written as U+FFFD
};

// All tokens to one.
class FuseStage final : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;
  void Text(absl::string_view fragment) override { next_->Text(fragment); }
  void EndToken() override {}
  void EndStream() override {
    next_->EndToken();
    next_->EndStream();
  }
};

// Takes up to `start` characters equal to `content` from the front of each token, and up to `stop`
// from its end.
class StripStage final : public DecodeStage {
 public:
  // `content` (one character) must outlive the stage.
  StripStage(DecodeStage* next, const std::string& content, int64_t start, int64_t stop)
      : DecodeStage(next), content_(content), start_(start), stop_(stop), to_drop_(start) {}
  void Text(absl::string_view fragment) override;
  void EndToken() override;
  void EndStream() override { next_->EndStream(); }

 private:
  void Character(absl::string_view character);

  const std::string& content_;
  int64_t start_;
  int64_t stop_;
  int64_t to_drop_;   // characters that may still go from the front
  int64_t held_ = 0;  // characters equal to content_ that may prove to be the end
};

// Metaspace's visible blanks to blanks; those of the first token go, unless no blank was put there.
class MetaspaceStage final : public TokenStage {
 public:
  MetaspaceStage(DecodeStage* next, const Metaspace& options)
      : TokenStage(next), options_(options) {}

 protected:
  void OnToken(absl::string_view token) override;

 private:
  const Metaspace& options_;
  bool first_ = true;
};

// One text being decoded. Used by one thread at a time; must not outlive its Decoder.
class DecodeStream {
 public:
  // Takes the next token and returns the text that is final with it: whole characters, perhaps
  // none.
  absl::StatusOr<std::string> Append(absl::string_view token);

  // Returns the rest. No call may follow.
  absl::StatusOr<std::string> Finish();

 private:
  friend class Decoder;
  DecodeStream() = default;

  absl::StatusOr<std::string> Take();

  GatherStage gather_;
  std::vector<std::unique_ptr<DecodeStage>> stages_;  // the last of the pipeline first
  DecodeStage* first_ = &gather_;
};

// Immutable and thread-safe after creation.
class Decoder {
 public:
  // ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, and Sequence of these; null joins
  // tokens with blanks. UNIMPLEMENTED names any other type.
  static absl::StatusOr<Decoder> Create(const nlohmann::json& json);

  std::unique_ptr<DecodeStream> NewStream() const;

 private:
  // Makes a part's stage, in front of `next`; it owns what the stage refers to.
  using Part = std::function<std::unique_ptr<DecodeStage>(DecodeStage* next)>;

  Decoder() = default;
  absl::Status Add(const nlohmann::json& json, const std::string& where, int depth);
  absl::Status AddReplace(const nlohmann::json& json, const std::string& where);
  absl::Status AddStrip(const nlohmann::json& json, const std::string& where);

  std::vector<Part> parts_;
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_DECODER_H_
