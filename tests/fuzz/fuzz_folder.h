// SPDX-License-Identifier: Apache-2.0
// A folder in memory for what is read from files; one a process, removed at its end.
#ifndef CCOE_TESTS_FUZZ_FUZZ_FOLDER_H_
#define CCOE_TESTS_FUZZ_FUZZ_FOLDER_H_

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/string_view.h"
#include "runtime/base/check.h"

namespace ccoe {

class FuzzFolder {
 public:
  FuzzFolder() { CCOE_CHECK(::mkdtemp(path_.data()) != nullptr); }
  ~FuzzFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  FuzzFolder(const FuzzFolder&) = delete;
  FuzzFolder& operator=(const FuzzFolder&) = delete;

  const std::string& path() const { return path_; }

  // A new file: one that is mapped still keeps what it holds.
  void Put(const std::string& name, absl::string_view content) const {
    const std::string path = path_ + "/" + name;
    ::unlink(path.c_str());
    const int file = ::open(path.c_str(), O_CREAT | O_WRONLY | O_EXCL, 0600);
    CCOE_CHECK(file >= 0);
    CCOE_CHECK(::write(file, content.data(), content.size()) ==
               static_cast<ssize_t>(content.size()));
    CCOE_CHECK(::close(file) == 0);
  }

 private:
  std::string path_ = "/dev/shm/ccoe_fuzz_XXXXXX";
};

}  // namespace ccoe

#endif  // CCOE_TESTS_FUZZ_FUZZ_FOLDER_H_
