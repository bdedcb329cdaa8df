#include "runtime/tokenizer/decoder.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/utf8.h"

namespace ccoe::tokenizer {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxParts = 256;
constexpr int64_t kMaxStrip = 1 << 20;

}  // namespace

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

// Makes the stage of a part, in front of `next`.
struct Decoder::MakeStage {
  DecodeStage* next;

  using Stage = std::unique_ptr<DecodeStage>;
  Stage operator()(const Join&) const { return std::make_unique<JoinStage>(next); }
  Stage operator()(const ByteLevel&) const { return std::make_unique<ByteLevelStage>(next); }
  Stage operator()(const ByteFallback&) const { return std::make_unique<ByteFallbackStage>(next); }
  Stage operator()(const Fuse&) const { return std::make_unique<FuseStage>(next); }
  Stage operator()(const Replace& part) const {
    return std::make_unique<ReplaceStage>(next, part.pattern, part.content);
  }
  Stage operator()(const Strip& part) const {
    return std::make_unique<StripStage>(next, part.content, part.start, part.stop);
  }
  Stage operator()(const Metaspace& part) const {
    return std::make_unique<MetaspaceStage>(next, part);
  }
};

std::unique_ptr<DecodeStream> Decoder::NewStream() const {
  std::unique_ptr<DecodeStream> stream(new DecodeStream());
  for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) {
    stream->stages_.push_back(std::visit(MakeStage{stream->first_}, *part));
    stream->first_ = stream->stages_.back().get();
  }
  return stream;
}

absl::StatusOr<Decoder> Decoder::Create(const Json& json) {
  Decoder decoder;
  if (json.is_null()) {
    decoder.parts_.push_back(Join{});
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
    parts_.push_back(ByteLevel{});
  } else if (type == "ByteFallback") {
    parts_.push_back(ByteFallback{});
  } else if (type == "Fuse") {
    parts_.push_back(Fuse{});
  } else if (type == "Metaspace") {
    CCOE_ASSIGN_OR_RETURN(Metaspace options, ParseMetaspace(json, where));
    parts_.push_back(std::move(options));
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
  parts_.push_back(Replace{std::move(pattern), std::move(content)});
  return absl::OkStatus();
}

absl::Status Decoder::AddStrip(const Json& json, const std::string& where) {
  Strip strip;
  CCOE_ASSIGN_OR_RETURN(strip.content, StringField(json, "content", where));
  if (strip.content.empty() || DecodeUtf8(strip.content, 0).length != strip.content.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ".content: expected one character, found '", strip.content, "'"));
  }
  CCOE_ASSIGN_OR_RETURN(strip.start, IntField(json, "start", kMaxStrip, where));
  CCOE_ASSIGN_OR_RETURN(strip.stop, IntField(json, "stop", kMaxStrip, where));
  parts_.push_back(std::move(strip));
  return absl::OkStatus();
}

}  // namespace ccoe::tokenizer
