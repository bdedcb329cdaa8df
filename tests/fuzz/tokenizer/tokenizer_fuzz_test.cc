// SPDX-License-Identifier: Apache-2.0
// Deterministic fuzzing: whatever the bytes, loading, encoding and rendering end with a value or a
// Status.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>

#include "runtime/chat_template/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/unicode.h"
#include "tests/runtime/tokenizer/golden_cases.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using Random = std::mt19937;

std::string Slurp(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

std::string RandomBytes(Random& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// Valid UTF-8 with blanks, ASCII and characters from all over.
std::string RandomText(Random& random, size_t characters) {
  std::string text;
  for (size_t i = 0; i < characters; ++i) {
    const uint32_t kind = random() % 4;
    char32_t code_point = kind == 0   ? random() % 128
                          : kind == 1 ? random() % 0x800
                                      : random() % 0x110000;
    if (kind == 3) code_point = U" \n\t\r'12ab<|>"[random() % 13];
    if (code_point >= 0xD800 && code_point < 0xE000) code_point = ' ';
    AppendUtf8(code_point, text);
  }
  return text;
}

// Changes a few places: a byte, a stretch cut out or doubled, or one word of the format for
// another.
std::string Mutate(Random& random, std::string text) {
  static constexpr const char* kWords[] = {"null", "-1",   "\"\"",     "[]",          "{}",
                                           "1e99", "true", "99999999", "\"Sequence\""};
  for (uint32_t edits = 1 + random() % 4; edits > 0 && !text.empty(); --edits) {
    const size_t at = random() % text.size();
    switch (random() % 5) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, 1 + random() % 40);
        break;
      case 2:
        text.insert(at, text.substr(random() % text.size(), random() % 60));
        break;
      case 3:
        text.insert(at, kWords[random() % 9]);
        break;
      default: {
        const size_t colon = text.find(':', at);
        const size_t comma = colon == std::string::npos ? colon : text.find_first_of(",}", colon);
        if (comma != std::string::npos)
          text.replace(colon + 1, comma - colon - 1, kWords[random() % 9]);
      }
    }
  }
  return text;
}

// The front of a tokenizer.json holds its components, which are few bytes among many of vocabulary.
std::string MutateFile(Random& random, const std::string& content) {
  const size_t vocabulary = content.find("\"vocab\"");
  if (random() % 3 == 0) return Mutate(random, content);
  return Mutate(random, content.substr(0, vocabulary)) + content.substr(vocabulary);
}

TEST(TokenizerFuzzTest, LoadsOrRefusesMutatedFiles) {
  const std::string folder = ::testing::TempDir() + "/fuzz";
  std::filesystem::create_directories(folder);
  Random random(11);
  int loaded = 0;
  for (const std::string& style : Styles()) {
    const std::string content = Slurp(GoldenPath(style + "/tokenizer.json"));
    for (int round = 0; round < 120; ++round) {
      std::ofstream(folder + "/tokenizer.json") << MutateFile(random, content);
      const auto tokenizer = Tokenizer::Load(folder);
      if (!tokenizer.ok()) {
        EXPECT_FALSE(tokenizer.status().message().empty());
        continue;
      }
      ++loaded;
      const std::string text = RandomText(random, 60);
      const auto ids = (*tokenizer)->Encode(text, round % 2 == 0);
      if (ids.ok()) (*tokenizer)->Decode(*ids, round % 3 == 0).status().IgnoreError();
    }
  }
  EXPECT_GT(loaded, 10) << "the mutations are too wild to test anything";
}

TEST(TokenizerFuzzTest, EncodesOrRefusesRandomBytes) {
  Random random(12);
  for (const std::string& style : Styles()) {
    const auto tokenizer = LoadGolden(style);
    ASSERT_NE(tokenizer, nullptr);
    for (int round = 0; round < 300; ++round) {
      const std::string bytes = RandomBytes(random, random() % 30);
      const bool valid = ValidUtf8Prefix(bytes) == bytes.size();
      EXPECT_EQ(tokenizer->Encode(bytes, true).ok(), valid);
    }
  }
}

// Styles that give back every byte they took; qwen2 composes characters first.
const char* const kByteLevel[] = {"gpt2", "llama3", "seqsplit"};

TEST(TokenizerFuzzTest, ByteLevelDecodesWhatItEncoded) {
  Random random(13);
  for (const std::string style : kByteLevel) {
    const auto tokenizer = LoadGolden(style);
    ASSERT_NE(tokenizer, nullptr);
    for (int round = 0; round < 300; ++round) {
      const std::string text = RandomText(random, random() % 80);
      ASSERT_OK_AND_ASSIGN(const Ids ids, tokenizer->Encode(text, false));
      ASSERT_OK_AND_ASSIGN(const std::string decoded, tokenizer->Decode(ids, false));
      EXPECT_EQ(decoded, text);
    }
  }
}

TEST(TokenizerFuzzTest, LongUniformTextsTakeNoQuadraticTime) {
  for (const std::string& style : Styles()) {
    const auto tokenizer = LoadGolden(style);
    ASSERT_NE(tokenizer, nullptr);
    for (const char* unit : {" ", "a", "\n", "1", ".", "e\u0301", "<|"}) {
      std::string text;
      while (text.size() < 100'000) text += unit;
      // In quadratic time one of these takes longer than the whole test may.
      ASSERT_OK_AND_ASSIGN(const Ids ids, tokenizer->Encode(text, false));
      EXPECT_GT(ids.size(), 0u) << style << " '" << unit << "'";
      EXPECT_LE(ids.size(), text.size() + 3) << style << " '" << unit << "'";
      if (std::count(std::begin(kByteLevel), std::end(kByteLevel), style) == 0) continue;
      ASSERT_OK_AND_ASSIGN(const std::string decoded, tokenizer->Decode(ids, false));
      EXPECT_TRUE(decoded == text) << style << " '" << unit << "'";
    }
  }
}

TEST(TokenizerFuzzTest, RendersOrRefusesMutatedTemplates) {
  Random random(14);
  const nlohmann::json cases = GoldenJson("chat/templates.json");
  chat_template::Chat chat;
  chat.messages = {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello"}, {"user", "ü"}};
  chat_template::JinjaLimits limits;
  limits.max_steps = 100'000;
  int rendered = 0, refused = 0, failed = 0;
  for (const auto& entry : cases) {
    for (int round = 0; round < 20; ++round) {
      const auto chat_template =
          chat_template::ChatTemplate::Create(Mutate(random, entry["template"]), limits);
      if (!chat_template.ok()) {
        EXPECT_FALSE(chat_template.status().message().empty());
        ++refused;
        continue;
      }
      const auto text = (*chat_template)->Render(chat);
      EXPECT_TRUE(text.ok() || !text.status().message().empty());
      ++(text.ok() ? rendered : failed);
    }
  }
  EXPECT_GT(rendered, 10) << "the mutations are too wild to test anything";
  EXPECT_GT(refused, 10);
  EXPECT_GT(failed, 0);
}

}  // namespace
}  // namespace ccoe::tokenizer
