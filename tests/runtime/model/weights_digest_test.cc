// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/weights_digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "runtime/base/file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::model {
namespace {

namespace fs = std::filesystem;
using kernels::DType;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempFolder;

using Tensors = std::map<std::string, TensorView>;

constexpr float kValues[6] = {1, 2, 3, 4, 5, 6};

const Tensors& SomeTensors() {
  static const auto* const tensors = new Tensors{{"a", {kValues, DType::kF32, {2, 3}, 24}},
                                                 {"b", {kValues + 1, DType::kF32, {4}, 16}},
                                                 {"c", {kValues, DType::kBF16, {6}, 12}},
                                                 {"empty", {nullptr, DType::kF16, {0, 4}, 0}}};
  return *tensors;
}

// Sets the time of change back, so that the file counts as settled.
void Age(const std::string& path, int seconds) {
  struct timespec times[2];
  ASSERT_EQ(::clock_gettime(CLOCK_REALTIME, &times[0]), 0);
  times[0].tv_sec -= seconds;
  times[1] = times[0];
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

class WeightsDigestTest : public ::testing::Test {
 protected:
  // FOLDER/model.safetensors, or a file for each of `shards` with an index.
  void Write(const std::string& folder, const std::vector<Tensors>& shards) {
    fs::create_directories(folder);
    std::string index;
    for (size_t i = 0; i < shards.size(); ++i) {
      const std::string name =
          shards.size() == 1 ? "model.safetensors" : absl::StrCat("part-", i, ".safetensors");
      ASSERT_OK(WriteSafetensors(folder + "/" + name, shards[i]));
      Age(folder + "/" + name, 60);
      for (const auto& [tensor, view] : shards[i]) {
        absl::StrAppend(&index, index.empty() ? "" : ",", "\"", tensor, "\":\"", name, "\"");
      }
    }
    if (shards.size() == 1) return;
    ASSERT_OK(WriteFileAtomically(folder + "/model.safetensors.index.json",
                                  {absl::StrCat("{\"weight_map\":{", index, "}}")}));
  }

  absl::StatusOr<WeightsDigest> Digest(const std::string& folder, bool verify = false) {
    auto weights = Weights::Open(folder);
    if (!weights.ok()) return weights.status();
    DigestOptions options;
    options.cache_folder = cache_;
    options.verify = verify;
    options.threads = 2;
    return DigestWeights(**weights, options);
  }

  std::string DigestOf(const Tensors& tensors) {
    const TempFolder folder;
    Write(folder.path(), {tensors});
    const auto digest = Digest(folder.path());
    EXPECT_OK(digest);
    return digest.ok() ? digest->sha256 : "";
  }

  const TempFolder folder_;
  std::string cache_ = folder_ / "cache/deep";
};

TEST_F(WeightsDigestTest, IsTheSameForOneFileAndForMany) {
  Write(folder_ / "one", {SomeTensors()});
  const Tensors& all = SomeTensors();
  Write(folder_ / "two", {{{"c", all.at("c")}, {"empty", all.at("empty")}},
                          {{"a", all.at("a")}, {"b", all.at("b")}}});
  ASSERT_OK_AND_ASSIGN(const WeightsDigest one, Digest(folder_ / "one"));
  ASSERT_OK_AND_ASSIGN(const WeightsDigest two, Digest(folder_ / "two"));
  EXPECT_EQ(one.sha256.size(), 64u);
  EXPECT_EQ(one.sha256, two.sha256);
  EXPECT_EQ(one.hashed_bytes, 52);
  EXPECT_EQ(two.hashed_bytes, 52);
  // Of the same text as made by another program (Python's hashlib).
  EXPECT_EQ(one.sha256, "a2b4ccee9983a9bba62fe7bccb2f07b324f292e3fe1983ff2a528251a8a02277");
}

TEST_F(WeightsDigestTest, ChangesWithNameTypeShapeAndEachByte) {
  const std::string plain = DigestOf(SomeTensors());
  Tensors renamed = SomeTensors();
  renamed["d"] = renamed.at("c");
  renamed.erase("c");
  EXPECT_NE(DigestOf(renamed), plain);
  Tensors retyped = SomeTensors();
  retyped.at("c").dtype = DType::kF16;
  EXPECT_NE(DigestOf(retyped), plain);
  Tensors reshaped = SomeTensors();
  reshaped.at("a").shape = {3, 2};
  EXPECT_NE(DigestOf(reshaped), plain);
  Tensors other = SomeTensors();
  std::vector<float> values(kValues, kValues + 6);
  reinterpret_cast<char*>(values.data())[23] ^= 1;
  other.at("a").data = values.data();
  EXPECT_NE(DigestOf(other), plain);
  Tensors fewer = SomeTensors();
  fewer.erase("empty");
  EXPECT_NE(DigestOf(fewer), plain);
  EXPECT_EQ(DigestOf(SomeTensors()), plain);
}

TEST_F(WeightsDigestTest, IsRememberedWhileTheFilesAreTheSame) {
  Write(folder_ / "m", {SomeTensors()});
  ASSERT_OK_AND_ASSIGN(const WeightsDigest first, Digest(folder_ / "m"));
  EXPECT_FALSE(first.remembered);
  ASSERT_OK_AND_ASSIGN(const WeightsDigest second, Digest(folder_ / "m"));
  EXPECT_TRUE(second.remembered);
  EXPECT_EQ(second.hashed_bytes, 0);
  EXPECT_EQ(second.sha256, first.sha256);
  fs::create_directory_symlink(folder_ / "m", folder_ / "link");  // another name, the same files
  ASSERT_OK_AND_ASSIGN(const WeightsDigest linked, Digest(folder_ / "link"));
  EXPECT_TRUE(linked.remembered);
  Tensors other = SomeTensors();
  other.at("b").data = kValues;
  Write(folder_ / "m", {other});
  ASSERT_OK_AND_ASSIGN(const WeightsDigest changed, Digest(folder_ / "m"));
  EXPECT_FALSE(changed.remembered);
  EXPECT_NE(changed.sha256, first.sha256);
}

TEST_F(WeightsDigestTest, OneOfManyFilesThatChangedIsEnough) {
  const Tensors& all = SomeTensors();
  const std::vector<Tensors> shards = {{{"a", all.at("a")}}, {{"b", all.at("b")}}};
  Write(folder_ / "m", shards);
  ASSERT_OK(Digest(folder_ / "m"));
  ASSERT_OK_AND_ASSIGN(const WeightsDigest second, Digest(folder_ / "m"));
  EXPECT_TRUE(second.remembered);
  Age(folder_ / "m/part-1.safetensors", 50);
  ASSERT_OK_AND_ASSIGN(const WeightsDigest touched, Digest(folder_ / "m"));
  EXPECT_FALSE(touched.remembered);
  EXPECT_EQ(touched.sha256, second.sha256);
}

TEST_F(WeightsDigestTest, FilesThatChangedJustNowAreNotRemembered) {
  Write(folder_ / "m", {SomeTensors()});
  Age(folder_ / "m/model.safetensors", 0);
  ASSERT_OK(Digest(folder_ / "m"));
  ASSERT_OK_AND_ASSIGN(const WeightsDigest again, Digest(folder_ / "m"));
  EXPECT_FALSE(again.remembered);
}

TEST_F(WeightsDigestTest, VerifyHashesAndFindsWhatTheFilesTimeHides) {
  Write(folder_ / "m", {SomeTensors()});
  const std::string path = folder_ / "m/model.safetensors";
  ASSERT_OK_AND_ASSIGN(const WeightsDigest first, Digest(folder_ / "m"));
  ASSERT_OK_AND_ASSIGN(const WeightsDigest verified, Digest(folder_ / "m", /*verify=*/true));
  EXPECT_FALSE(verified.remembered);
  EXPECT_EQ(verified.hashed_bytes, 52);
  EXPECT_EQ(verified.sha256, first.sha256);
  // A bit of the last tensor, in place, the time of change put back.
  struct stat before;
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x55');
    ASSERT_TRUE(file.flush().good());
  }
  const struct timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  ASSERT_OK_AND_ASSIGN(const WeightsDigest fooled, Digest(folder_ / "m"));
  EXPECT_TRUE(fooled.remembered);
  EXPECT_THAT(Digest(folder_ / "m", /*verify=*/true),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("expected sha256 " + first.sha256), HasSubstr("found"))));
  ASSERT_OK_AND_ASSIGN(const WeightsDigest after, Digest(folder_ / "m"));
  EXPECT_TRUE(after.remembered);
  EXPECT_NE(after.sha256, first.sha256);
}

TEST_F(WeightsDigestTest, ACacheThatCannotBeUsedCostsTimeOnly) {
  Write(folder_ / "m", {SomeTensors()});
  const std::string expected = DigestOf(SomeTensors());
  ASSERT_OK(WriteFileAtomically(folder_ / "file", {"x"}));
  for (const std::string& cache : {std::string(), folder_ / "file", folder_ / "file/below",
                                   std::string("/proc/none"), std::string("/dev/full")}) {
    cache_ = cache;
    for (int i = 0; i < 2; ++i) {
      ASSERT_OK_AND_ASSIGN(const WeightsDigest digest, Digest(folder_ / "m"));
      EXPECT_FALSE(digest.remembered) << cache;
      EXPECT_EQ(digest.sha256, expected) << cache;
    }
  }
}

TEST_F(WeightsDigestTest, ADamagedCacheIsWrittenAnew) {
  Write(folder_ / "m", {SomeTensors()});
  ASSERT_OK_AND_ASSIGN(const WeightsDigest first, Digest(folder_ / "m"));
  for (const fs::directory_entry& entry : fs::directory_iterator(cache_)) {
    ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(entry.path().string(), 10'000));
    for (const std::string& damaged :
         {std::string(), std::string("junk"), content.substr(0, content.size() - 10),
          content + "more\n", content.substr(0, content.size() - 2) + "?\n"}) {
      ASSERT_OK(WriteFileAtomically(entry.path().string(), {damaged}));
      ASSERT_OK_AND_ASSIGN(const WeightsDigest again, Digest(folder_ / "m"));
      EXPECT_FALSE(again.remembered) << damaged;
      EXPECT_EQ(again.sha256, first.sha256);
      ASSERT_OK_AND_ASSIGN(const WeightsDigest then, Digest(folder_ / "m"));
      EXPECT_TRUE(then.remembered) << damaged;
    }
  }
}

TEST_F(WeightsDigestTest, ManyAtOnceAgree) {
  Write(folder_ / "m", {SomeTensors()});
  std::vector<std::string> found(8);
  std::vector<std::thread> threads;
  for (std::string& digest : found) {
    threads.emplace_back([this, &digest] {
      for (int i = 0; i < 10; ++i) {
        const auto result = Digest(folder_ / "m", /*verify=*/i % 2 == 0);
        EXPECT_OK(result);
        if (result.ok()) digest = result->sha256;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& digest : found) EXPECT_EQ(digest, found[0]);
  ASSERT_OK_AND_ASSIGN(const WeightsDigest last, Digest(folder_ / "m"));
  EXPECT_TRUE(last.remembered);
  EXPECT_EQ(last.sha256, found[0]);
}

TEST(DefaultDigestCacheTest, FollowsTheEnvironment) {
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", "/x", 1), 0);
  ASSERT_EQ(::setenv("HOME", "/h", 1), 0);
  EXPECT_EQ(DefaultDigestCache(), "/x/ccoe");
  ASSERT_EQ(::setenv("XDG_CACHE_HOME", "relative", 1), 0);
  EXPECT_EQ(DefaultDigestCache(), "/h/.cache/ccoe");
  ASSERT_EQ(::unsetenv("XDG_CACHE_HOME"), 0);
  EXPECT_EQ(DefaultDigestCache(), "/h/.cache/ccoe");
  ASSERT_EQ(::unsetenv("HOME"), 0);
  EXPECT_EQ(DefaultDigestCache(), "");
}

}  // namespace
}  // namespace ccoe::model
