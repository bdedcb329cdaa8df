// SPDX-License-Identifier: Apache-2.0
// Mutated headers, configs and manifests: whatever the bytes, an answer and never a crash. The
// mutations are drawn from a fixed seed, so that a failure comes back.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "runtime/base/file.h"
#include "runtime/experts/bundle.h"
#include "runtime/model/decoder.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/safetensors.h"
#include "runtime/model/weights.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe {
namespace {

using testing::GoldenFolder;
using testing::TempFolder;

constexpr int kRounds = 1000;

// Pieces that JSON readers trip over.
const char* const kTokens[] = {"18446744073709551616",
                               "-1",
                               "1e308",
                               "null",
                               "[]",
                               "{}",
                               "\"\"",
                               "\\u0000",
                               "[[[[",
                               "}",
                               "4294967296",
                               "0.5",
                               "true",
                               ",",
                               "\xff",
                               "9223372036854775807"};

// 1 to 4 changes: a bit flipped, a byte replaced, a piece cut out, doubled or put in, the rest cut
// off.
std::string Mutated(std::string text, std::mt19937& random) {
  const auto below = [&](size_t n) { return n == 0 ? 0 : static_cast<size_t>(random()) % n; };
  for (size_t changes = 1 + below(4); changes > 0 && !text.empty(); --changes) {
    const size_t at = below(text.size());
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        text[at] = static_cast<char>(random());
        break;
      case 2:
        text.erase(at, 1 + below(20));
        break;
      case 3:
        text.insert(at, text.substr(below(text.size()), 1 + below(40)));
        break;
      case 4:
        text.replace(at, 1 + below(4), kTokens[below(std::size(kTokens))]);
        break;
      default:
        if (below(10) == 0) text.resize(at);
    }
  }
  return text;
}

// As WriteFileAtomically, without its wait for the disk: some file systems wait when a file is
// overwritten, too.
void Put(const std::string& path, const std::string& content) {
  std::remove(path.c_str());
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  ASSERT_TRUE(file.flush().good()) << path;
}

// Reads every byte that a view promises, so that a sanitizer or the MMU sees a wrong one.
uint64_t Touch(const model::TensorView& view) {
  uint64_t sum = 0;
  const auto* bytes = static_cast<const unsigned char*>(view.data);
  for (size_t i = 0; i < view.size_bytes; ++i) sum += bytes[i];
  return sum;
}

TEST(ModelFilesFuzzTest, MutatedSafetensorsAreReadOrRefused) {
  ASSERT_OK_AND_ASSIGN(const std::string content,
                       ReadFile(GoldenFolder("ccoe/math") + "/model.safetensors", 10'000'000));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, content.data(), sizeof(header_bytes));
  const std::string header = content.substr(8, header_bytes);
  const std::string data(content.size() - 8 - header_bytes, '\1');
  const TempFolder folder;
  std::mt19937 random(1);
  int refused = 0;
  uint64_t sum = 0;
  for (int i = 0; i < kRounds / 3; ++i) {
    const std::string mutated = Mutated(header, random);
    uint64_t length = mutated.size();
    if (i % 7 == 0) length ^= uint64_t{1} << (random() % 64);
    const std::string prefix(reinterpret_cast<const char*>(&length), sizeof(length));
    const size_t data_bytes = i % 5 == 0 ? random() % data.size() : data.size();
    Put(folder / "model.safetensors", prefix + mutated + data.substr(0, data_bytes));
    const auto file = model::SafetensorsFile::Open(folder / "model.safetensors");
    if (!file.ok()) {
      ++refused;
      EXPECT_FALSE(file.status().message().empty());
      continue;
    }
    for (const auto& [name, view] : (*file)->tensors()) sum += Touch(view);
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(sum, 0u);
}

// Writes mutations of SOURCE as FOLDER/name and has each read.
void FuzzFile(const std::string& source, const std::string& name, uint32_t seed,
              const std::function<absl::Status(const std::string& folder)>& read) {
  ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(source, 1'000'000));
  const TempFolder folder;
  std::mt19937 random(seed);
  int refused = 0;
  for (int i = 0; i < kRounds; ++i) {
    Put(folder / name, Mutated(content, random));
    const absl::Status status = read(folder.path());
    if (status.ok()) continue;
    ++refused;
    EXPECT_FALSE(status.message().empty());
  }
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, kRounds);
}

TEST(ModelFilesFuzzTest, MutatedConfigsAreReadOrRefused) {
  for (const char* name : {"llama3-rope-tied", "mistral-swa", "qwen2-tied"}) {
    const std::string source = GoldenFolder(name);
    ASSERT_OK_AND_ASSIGN(const auto weights, model::Weights::Open(source));
    FuzzFile(source + "/config.json", "config.json", 2, [&](const std::string& folder) {
      const auto spec = model::LoadModelSpec(folder);
      if (!spec.ok()) return spec.status();
      EXPECT_OK(Validate(*spec));
      // Whatever sizes came through, the weights must fit them or be refused.
      (void)model::Decoder::Create(*spec, {0, spec->layer_count()}, weights);
      return absl::OkStatus();
    });
  }
}

TEST(ModelFilesFuzzTest, MutatedConfigsWithExpertsAreReadOrRefused) {
  for (const std::string& name : testing::MoeModels()) {
    const std::string source = GoldenFolder(name);
    ASSERT_OK_AND_ASSIGN(const auto weights, model::Weights::Open(source));
    FuzzFile(source + "/config.json", "config.json", 5, [&](const std::string& folder) {
      const auto spec = model::LoadModelSpec(folder);
      if (!spec.ok()) return spec.status();
      EXPECT_OK(Validate(*spec));
      EXPECT_FALSE(model::FingerprintText(*spec).empty());
      EXPECT_OK(model::FfnShard::All(*spec).CheckWithin(*spec));
      (void)model::Decoder::Create(*spec, {0, spec->layer_count()}, weights);
      return absl::OkStatus();
    });
  }
}

TEST(ModelFilesFuzzTest, MutatedManifestsAreReadOrRefused) {
  const TempFolder folder;
  experts::BundleManifest manifest;
  manifest.expert = {"math", 3};
  manifest.layers = {4, 8};
  manifest.base_fingerprint = std::string(64, 'a');
  manifest.weights_sha256 = std::string(64, '0');
  manifest.training = {{"steps", "100"}};
  ASSERT_OK(experts::WriteManifest(folder.path(), manifest));
  FuzzFile(folder / "expert.json", "expert.json", 3,
           [](const std::string& where) { return experts::ReadManifest(where).status(); });
}

TEST(ModelFilesFuzzTest, MutatedShardIndexesAreReadOrRefused) {
  const TempFolder folder;
  const float value = 1.0f;
  ASSERT_OK(model::WriteSafetensors(folder / "1.safetensors",
                                    {{"a", {&value, kernels::DType::kF32, {1}, 4}}}));
  const std::string index =
      R"({"metadata": {"total_size": 4}, "weight_map": {"a": "1.safetensors"}})";
  std::mt19937 random(4);
  int refused = 0;
  for (int i = 0; i < kRounds; ++i) {
    Put(folder / "model.safetensors.index.json", Mutated(index, random));
    const auto weights = model::Weights::Open(folder.path());
    if (weights.ok()) {
      EXPECT_TRUE((*weights)->Has("a"));
      continue;
    }
    ++refused;
    EXPECT_FALSE(weights.status().message().empty());
  }
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, kRounds);
}

}  // namespace
}  // namespace ccoe
