// The "decoder" of tokenizer.json: tokens back to text.
#ifndef CCOE_RUNTIME_TOKENIZER_DECODER_H_
#define CCOE_RUNTIME_TOKENIZER_DECODER_H_

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/decode_stages.h"
#include "runtime/tokenizer/metaspace.h"
#include "runtime/tokenizer/pattern.h"

namespace ccoe::tokenizer {

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
  struct Join {};
  struct ByteLevel {};
  struct ByteFallback {};
  struct Fuse {};
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Strip {
    std::string content;
    int64_t start = 0;
    int64_t stop = 0;
  };
  using Part = std::variant<Join, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace>;
  struct MakeStage;

  Decoder() = default;
  absl::Status Add(const nlohmann::json& json, const std::string& where, int depth);
  absl::Status AddReplace(const nlohmann::json& json, const std::string& where);
  absl::Status AddStrip(const nlohmann::json& json, const std::string& where);

  std::vector<Part> parts_;
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_DECODER_H_
