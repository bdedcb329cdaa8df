// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <unordered_map>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"

namespace ccoe::emulation {
namespace {

struct Symbol {
  std::string name;
  uintptr_t address;
  size_t bytes;
};

// Functions by their address, and static variables of functions (mangled as _ZZ...).
struct Table {
  std::unordered_map<uintptr_t, std::string> functions;
  std::vector<Symbol> statics;
};

int BaseOfProgram(dl_phdr_info* info, size_t, void* base) {
  *static_cast<uintptr_t*>(base) = info->dlpi_addr;
  return 1;  // the first is the program
}

template <class T>
const T* At(const std::string& file, size_t offset) {
  return reinterpret_cast<const T*>(file.data() + offset);
}

Table ReadTable() {
  Table table;
  std::ifstream in("/proc/self/exe", std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (file.size() < sizeof(ElfW(Ehdr))) return table;
  uintptr_t base = 0;
  dl_iterate_phdr(BaseOfProgram, &base);
  const auto* header = At<ElfW(Ehdr)>(file, 0);
  const auto* sections = At<ElfW(Shdr)>(file, header->e_shoff);
  for (int s = 0; s < header->e_shnum; ++s) {
    if (sections[s].sh_type != SHT_SYMTAB) continue;
    const char* names = At<char>(file, sections[sections[s].sh_link].sh_offset);
    const auto* symbols = At<ElfW(Sym)>(file, sections[s].sh_offset);
    for (size_t i = 0; i < sections[s].sh_size / sizeof(ElfW(Sym)); ++i) {
      const ElfW(Sym)& symbol = symbols[i];
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= header->e_shnum) continue;
      const char* name = names + symbol.st_name;
      const int type = ELF64_ST_TYPE(symbol.st_info);
      if (type == STT_FUNC) table.functions[base + symbol.st_value] = name;
      const bool written = (sections[symbol.st_shndx].sh_flags & SHF_WRITE) != 0;
      if (type == STT_OBJECT && written && std::strncmp(name, "_ZZ", 3) == 0) {
        table.statics.push_back({name, base + symbol.st_value, symbol.st_size});
      }
    }
  }
  return table;
}

const Table& TheTable() {
  static const Table* const table = new Table(ReadTable());
  return *table;
}

// Mangled; empty where it is not known.
std::string SymbolOf(const void* kernel) {
  const auto found = TheTable().functions.find(reinterpret_cast<uintptr_t>(kernel));
  return found == TheTable().functions.end() ? "" : found->second;
}

}  // namespace

std::string KernelName(const void* kernel) {
  const std::string symbol = SymbolOf(kernel);
  if (symbol.empty()) return absl::StrFormat("%p", kernel);
  int status = 0;
  char* plain = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  const std::string name = plain == nullptr ? symbol : plain;
  std::free(plain);
  return name;
}

std::vector<Variable> SharedVariables(const void* kernel) {
  std::vector<Variable> variables;
  const std::string symbol = SymbolOf(kernel);
  if (symbol.size() < 3) return variables;
  // Function _Z<f> has its static variable v as _ZZ<f>E<v>.
  const std::string prefix = "_Z" + symbol.substr(1) + "E";
  for (const Symbol& s : TheTable().statics) {
    if (absl::StartsWith(s.name, prefix)) {
      variables.push_back({reinterpret_cast<char*>(s.address), s.bytes});
    }
  }
  return variables;
}

}  // namespace ccoe::emulation
