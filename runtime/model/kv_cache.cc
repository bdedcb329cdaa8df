// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/kv_cache.h"

#include <cstddef>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

constexpr int64_t kMaxPages = int64_t{1} << 31;  // block tables hold int32
constexpr int64_t kMaxPageTokens = int64_t{1} << 20;
constexpr size_t kAlignment = 64;

// Of K, or of V.
size_t TokenBytes(const AttentionSpec& attention, kernels::DType dtype) {
  return static_cast<size_t>(attention.kv_heads * attention.head_dim) * kernels::DTypeBytes(dtype);
}

// K and V; with latent attention one copy is both.
size_t CopiesOf(const AttentionSpec& attention) { return attention.is_latent() ? 1 : 2; }

absl::Status CheckOptions(const ModelSpec& spec, const KvStorageOptions& options) {
  const LayerRange whole{0, spec.layer_count()};
  if (options.layers.empty() || !whole.Contains(options.layers)) {
    return absl::InvalidArgumentError(absl::StrCat("KV cache: layers: expected a range within [0, ",
                                                   whole.last, "), found [", options.layers.first,
                                                   ", ", options.layers.last, ")"));
  }
  if (options.pages < 1 || options.pages >= kMaxPages) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV cache: pages: expected 1 to ", kMaxPages - 1, ", found ", options.pages));
  }
  if (options.page_tokens < 1 || options.page_tokens > kMaxPageTokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "KV cache: page_tokens: expected 1 to ", kMaxPageTokens, ", found ", options.page_tokens));
  }
  if (!kernels::IsFloat(options.dtype)) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV cache: dtype: expected f32, f16 or bf16, "
                     "found ",
                     kernels::DTypeName(options.dtype)));
  }
  return absl::OkStatus();
}

// Bytes of K (or V) of one layer, rounded up so that the next part is aligned. False where it does
// not fit into size_t.
bool PartBytes(const AttentionSpec& attention, const KvStorageOptions& options, size_t& bytes) {
  const auto tokens = static_cast<size_t>(options.pages * options.page_tokens);
  if (__builtin_mul_overflow(TokenBytes(attention, options.dtype), tokens, &bytes)) return false;
  if (__builtin_add_overflow(bytes, kAlignment - 1, &bytes)) return false;
  bytes &= ~(kAlignment - 1);
  return true;
}

}  // namespace

KvPages::KvPages(int64_t pages, int64_t page_tokens) : page_tokens_(page_tokens) {
  CCOE_CHECK(pages >= 0 && pages <= std::numeric_limits<int32_t>::max());
  CCOE_CHECK(page_tokens >= 1);
  in_use_.resize(pages, false);
  free_.reserve(pages);
  for (int64_t page = pages - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
}

absl::Status KvPages::Grow(int64_t tokens, BlockTable& table) {
  const int64_t held = static_cast<int64_t>(table.size());
  const int64_t missing = PagesFor(tokens) - held;
  if (missing <= 0) return absl::OkStatus();
  if (missing > free_pages()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("out of KV pages: ", tokens, " tokens need ", missing, " more pages of ",
                     page_tokens_, " tokens, ", free_pages(), " of ", pages(), " are free"));
  }
  table.reserve(table.size() + missing);
  for (int64_t i = 0; i < missing; ++i) {
    const int32_t page = free_.back();
    free_.pop_back();
    in_use_[page] = true;
    table.push_back(page);
  }
  return absl::OkStatus();
}

void KvPages::Shrink(int64_t tokens, BlockTable& table) {
  const size_t keep = static_cast<size_t>(PagesFor(tokens));
  while (table.size() > keep) {
    const int32_t page = table.back();
    table.pop_back();
    CCOE_CHECK(page >= 0 && page < pages() && in_use_[page]);
    in_use_[page] = false;
    free_.push_back(page);
  }
}

absl::StatusOr<std::unique_ptr<KvStorage>> KvStorage::Create(kernels::Device* device,
                                                             const ModelSpec& spec,
                                                             const KvStorageOptions& options) {
  CCOE_RETURN_IF_ERROR(CheckOptions(spec, options));
  const std::string sum =
      absl::StrCat("KV cache: ", options.pages, " pages of ", options.page_tokens, " tokens in ",
                   options.layers.size(), " layers, ",
                   BytesPerToken(spec, options.layers, options.dtype), " bytes a token");
  std::vector<size_t> part_bytes;
  size_t total = 0;
  for (int32_t layer = options.layers.first; layer < options.layers.last; ++layer) {
    const AttentionSpec& attention = spec.layers[static_cast<size_t>(layer)].attention;
    size_t part = 0, both = 0;
    if (!PartBytes(attention, options, part) ||
        __builtin_mul_overflow(part, CopiesOf(attention), &both) ||
        __builtin_add_overflow(total, both, &total)) {
      return absl::ResourceExhaustedError(absl::StrCat(sum, ": more than an address can name"));
    }
    part_bytes.push_back(part);
  }
  auto buffer = device->Allocate(total);
  if (!buffer.ok()) return Annotate(buffer.status(), sum);

  std::vector<kernels::KvLayer> layers;
  char* next = static_cast<char*>(buffer->data());
  for (size_t i = 0; i < part_bytes.size(); ++i) {
    const AttentionSpec& attention =
        spec.layers[static_cast<size_t>(options.layers.first) + i].attention;
    char* v = attention.is_latent() ? next : next + part_bytes[i];
    layers.push_back({next, v, options.dtype, options.pages, options.page_tokens,
                      attention.kv_heads, attention.head_dim});
    next = v + part_bytes[i];
  }
  return std::unique_ptr<KvStorage>(new KvStorage(options, std::move(layers), *std::move(buffer)));
}

KvStorage::KvStorage(KvStorageOptions options, std::vector<kernels::KvLayer> layers,
                     kernels::Buffer buffer)
    : options_(options), layers_(std::move(layers)), buffer_(std::move(buffer)) {}

kernels::KvLayer KvStorage::Layer(int32_t layer) const {
  CCOE_CHECK(layer >= options_.layers.first && layer < options_.layers.last);
  return layers_[static_cast<size_t>(layer - options_.layers.first)];
}

int64_t KvStorage::BytesPerToken(const ModelSpec& spec, LayerRange layers, kernels::DType dtype) {
  int64_t bytes = 0;
  for (int32_t layer = layers.first; layer < layers.last; ++layer) {
    const AttentionSpec& attention = spec.layers[static_cast<size_t>(layer)].attention;
    bytes += static_cast<int64_t>(CopiesOf(attention) * TokenBytes(attention, dtype));
  }
  return bytes;
}

}  // namespace ccoe::model
