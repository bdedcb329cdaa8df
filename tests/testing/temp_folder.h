// SPDX-License-Identifier: Apache-2.0
// An empty folder for one test, removed with all that is in it at the end.
#ifndef CCOE_TESTS_TESTING_TEMP_FOLDER_H_
#define CCOE_TESTS_TESTING_TEMP_FOLDER_H_

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "gtest/gtest.h"
#include "runtime/base/check.h"

namespace ccoe::testing {

class TempFolder {
 public:
  TempFolder() : path_(::testing::TempDir() + "/ccoe_XXXXXX") {
    CCOE_CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_TEMP_FOLDER_H_
