#include "runtime/tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "runtime/tokenizer/utf8.h"

namespace ccoe::tokenizer {
namespace {

constexpr int kNone = -1;
// 188 bytes are printable Latin-1 characters and stand for themselves; the other 68 follow from
// U+0100.
constexpr char32_t kFirstExtra = 0x100;
constexpr int kCharacters = 0x100 + 68;

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Tables {
  std::array<char32_t, 256> character_of{};
  std::array<int, kCharacters> byte_of{};
};

constexpr Tables MakeTables() {
  Tables tables;
  for (int& byte : tables.byte_of) byte = kNone;
  char32_t extra = kFirstExtra;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t character = StandsForItself(byte) ? static_cast<char32_t>(byte) : extra++;
    tables.character_of[byte] = character;
    tables.byte_of[character] = byte;
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

}  // namespace

std::string ToByteAlphabet(absl::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) AppendUtf8(kTables.character_of[static_cast<uint8_t>(byte)], out);
  return out;
}

std::string FromByteAlphabet(absl::string_view token) {
  std::string out;
  for (size_t at = 0; at < token.size();) {
    const Utf8Character character = DecodeUtf8(token, at);
    at += character.length;
    const int byte =
        character.code_point < kCharacters ? kTables.byte_of[character.code_point] : kNone;
    if (byte == kNone) return std::string(token);
    out.push_back(static_cast<char>(byte));
  }
  return out;
}

}  // namespace ccoe::tokenizer
