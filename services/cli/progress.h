// How far long work has come, on stderr: a bar where that is a terminal, elsewhere (a log, a pipe)
// a plain line now and then, so that work of minutes is not silent.
#ifndef CCOE_SERVICES_CLI_PROGRESS_H_
#define CCOE_SERVICES_CLI_PROGRESS_H_

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/time/time.h"
#include "runtime/base/clock.h"

namespace ccoe::cli {

// Where progress goes. The defaults are what commands use.
struct ProgressOutput {
  std::FILE* file = stderr;
  bool terminal = false;
  const Clock* clock = nullptr;  // outlives the progress

  static ProgressOutput Stderr();
};

// Not thread-safe.
class Progress {
 public:
  // `label` in front of the bar, `total` > 0 units of work.
  Progress(std::string label, int64_t total, ProgressOutput output = ProgressOutput::Stderr());
  // Clears the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of total are finished; `detail` says more. Redraws at most ten times a second; off a
  // terminal writes at most a line in ten seconds, and none before the first ten are over.
  void Update(int64_t done, const std::string& detail = "");

 private:
  const std::string label_;
  const int64_t total_;
  const ProgressOutput output_;
  absl::Time last_drawn_;
};

// "eval math [=====>    ] 250/500", at most 80 characters.
std::string ProgressLine(const std::string& label, int64_t done, int64_t total,
                         const std::string& detail = "");

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_PROGRESS_H_
