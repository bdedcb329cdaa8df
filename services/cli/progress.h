// A progress bar on stderr for long work. Draws only where stderr is a terminal, so that logs and
// pipes stay clean.
#ifndef CCOE_SERVICES_CLI_PROGRESS_H_
#define CCOE_SERVICES_CLI_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace ccoe::cli {

// Not thread-safe.
class Progress {
 public:
  // `label` in front of the bar, `total` > 0 units of work.
  Progress(std::string label, int64_t total);
  // Clears the line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of total are finished. Redraws at most ten times a second.
  void Update(int64_t done);

 private:
  const std::string label_;
  const int64_t total_;
  const bool draws_;
  absl::Time last_drawn_;
};

// "eval math [=====>    ] 250/500", at most 80 characters.
std::string ProgressLine(const std::string& label, int64_t done, int64_t total);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_PROGRESS_H_
